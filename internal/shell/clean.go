package shell

import (
	"strings"
	"unicode"

	"golang.org/x/net/html"
)

// clean takes everything out of a captured node that would run, or that steers
// the document instead of being content. It reports whether the node itself
// may stay. Comments go too: frameworks' markers are of no use to a page that
// will be replaced, and odd comments are what parsers disagree about.
func clean(n *html.Node) bool {
	switch n.Type {
	case html.TextNode:
		return true
	case html.ElementNode:
	default:
		return false
	}
	switch strings.ToLower(n.Data) {
	case "script":
		if executable(n.Attr) || n.Namespace != "" {
			return false
		}
		cleanData(n)
		return true
	case "noscript", "base", "plaintext", "noembed", "noframes", "xmp", "meta":
		return false
	}
	kept := n.Attr[:0]
	for _, a := range n.Attr {
		if !runs(a) {
			kept = append(kept, a)
		}
	}
	n.Attr = kept
	for child := n.FirstChild; child != nil; {
		next := child.NextSibling
		if !clean(child) {
			n.RemoveChild(child)
		}
		child = next
	}
	return true
}

// cleanData makes a JSON data block safe wherever it is put: "<" in JSON occurs
// in strings only, where the escape means the same.
func cleanData(n *html.Node) {
	for child := range n.ChildNodes() {
		child.Data = strings.ReplaceAll(child.Data, "<", `\u003c`)
	}
}

// runs reports whether an attribute holds script, or is a policy of the
// captured document that means nothing in another.
func runs(a html.Attribute) bool {
	key := strings.ToLower(a.Key)
	switch {
	case strings.HasPrefix(key, "on"), key == "srcdoc", key == "nonce", key == "autofocus":
		return true
	case key == "alt", key == "title", key == "value", key == "placeholder", key == "label", key == "class",
		strings.HasPrefix(key, "aria-"), strings.HasPrefix(key, "data-"):
		return false
	}
	value := strings.Map(func(r rune) rune {
		if r <= ' ' || unicode.IsControl(r) {
			return -1
		}
		return unicode.ToLower(r)
	}, a.Val)
	return strings.Contains(value, "javascript:") || strings.HasPrefix(value, "vbscript:")
}

// shows reports whether a node would be seen: text, or an element that shows
// something by itself. Empty containers (portals, announcers) do not count.
func shows(n *html.Node) bool {
	if n.Type == html.TextNode {
		return strings.TrimSpace(n.Data) != ""
	}
	if n.Type != html.ElementNode || invisible(n) && !isShadow(n) || hidden(n) {
		return false
	}
	switch n.Data {
	case "img", "svg", "video", "audio", "canvas", "iframe", "input", "button", "select", "textarea", "picture", "hr", "object", "embed", "meter", "progress":
		return true
	}
	for child := range n.ChildNodes() {
		if shows(child) {
			return true
		}
	}
	return false
}

// hidden reports whether an element says that it is not to be seen: analytics
// and log-ins put such frames into the body, which are no reason to wait for
// the application to put something beside them.
func hidden(n *html.Node) bool {
	for _, a := range n.Attr {
		switch a.Key {
		case "hidden":
			return true
		case "style":
			style := strings.ToLower(strings.Join(strings.Fields(a.Val), ""))
			if strings.Contains(style, "display:none") {
				return true
			}
		case "type":
			if n.Data == "input" && strings.EqualFold(a.Val, "hidden") {
				return true
			}
		}
	}
	return false
}

// isShadow reports whether a node is what its parent shows in place of its
// children: a declarative shadow root.
func isShadow(n *html.Node) bool {
	return n.Type == html.ElementNode && n.Data == "template" && attrOf(n.Attr, "shadowrootmode") != ""
}

// invisible elements never count as content, here and in the removing script.
func invisible(n *html.Node) bool {
	switch n.Data {
	case "script", "style", "link", "template", "noscript", "meta", "base", "title":
		return true
	}
	return false
}
