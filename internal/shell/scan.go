// Package shell reads a host shell as bytes and puts a captured page into it.
//
// The shell's bytes are its identity (their md5 is the token) and its behaviour
// (the scripts boot from exactly these tags), so nothing here re-serialises
// them: additions are spliced in between at the offsets of tags, and everything
// else is byte for byte what the deploy shipped. Everything is pure.
package shell

import (
	"bytes"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/html"
)

// tag is a start or end tag with its place in the source.
type tag struct {
	name       string
	start, end int // byte offsets of the tag itself
	close      bool
	token      html.Token
	// content is the raw text that follows a start tag up to the next tag: the
	// whole text of a script, style or title.
	content string
}

// attr is the value of an attribute, "" when absent.
func (t tag) attr(name string) string { return attrOf(t.token.Attr, name) }

func attrOf(attributes []html.Attribute, name string) string {
	for _, a := range attributes {
		if a.Namespace == "" && a.Key == name {
			return a.Val
		}
	}
	return ""
}

// scan lists the tags of a document in order.
func scan(src []byte) []tag {
	var tags []tag
	z := html.NewTokenizer(bytes.NewReader(src))
	offset := 0
	for {
		kind := z.Next()
		raw := len(z.Raw())
		if kind == html.ErrorToken {
			return tags
		}
		switch kind {
		case html.StartTagToken, html.EndTagToken, html.SelfClosingTagToken:
			token := z.Token()
			tags = append(tags, tag{name: token.Data, start: offset, end: offset + raw, close: kind == html.EndTagToken, token: token})
		case html.TextToken:
			if n := len(tags); n > 0 && !tags[n-1].close && tags[n-1].end == offset {
				tags[n-1].content = string(src[offset : offset+raw])
			}
		}
		offset += raw
	}
}

// closing is the index of the end tag that closes tags[i]; ok is false when
// there is none. It counts tags of the same name only, which is exact for
// everything that must be closed.
func closing(tags []tag, i int) (j int, ok bool) {
	depth := 0
	for j := i; j < len(tags); j++ {
		switch {
		case tags[j].name != tags[i].name:
		case tags[j].close:
			depth--
			if depth == 0 {
				return j, true
			}
		default:
			depth++
		}
	}
	return 0, false
}

// executable reports whether a script with these attributes runs: data blocks,
// JSON-LD among them, never do.
func executable(attributes []html.Attribute) bool {
	kind := strings.ToLower(strings.TrimSpace(attrOf(attributes, "type")))
	kind, _, _ = strings.Cut(kind, ";")
	switch kind {
	case "", "module", "importmap", "speculationrules", "text/babel":
		return true
	}
	return strings.Contains(kind, "javascript") || strings.Contains(kind, "ecmascript") || kind == "text/jscript" || kind == "text/livescript"
}

// Scripts counts the scripts of a shell that would run. A shell without any is
// a static page: nothing ever takes over.
func Scripts(src []byte) int {
	n := 0
	for _, t := range scan(src) {
		if t.name == "script" && !t.close && executable(t.token.Attr) {
			n++
		}
	}
	return n
}

// Assets lists the scripts (module preloads too) and style sheets that a shell
// names on the origin of base, an absolute URL, as slash-separated paths
// without a leading slash, sorted, each once. References to other origins are
// left out: their files are not part of a release.
func Assets(src []byte, base string) []string {
	origin, err := url.Parse(base)
	if err != nil {
		return nil
	}
	root := &url.URL{Scheme: origin.Scheme, Host: origin.Host, Path: "/"}
	against, baseSeen := root, false
	var found []string
	for _, t := range scan(src) {
		if t.close {
			continue
		}
		if href := t.attr("href"); t.name == "base" && href != "" && !baseSeen {
			if u, err := root.Parse(strings.TrimSpace(href)); err == nil {
				against, baseSeen = u, true
			}
		}
		reference := named(t)
		if reference == "" {
			continue
		}
		u, err := against.Parse(strings.TrimSpace(reference))
		if err != nil || u.Scheme != root.Scheme || u.Host != root.Host {
			continue
		}
		if p := strings.TrimPrefix(path.Clean(u.Path), "/"); p != "" && p != "." {
			found = append(found, p)
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

func named(t tag) string {
	switch t.name {
	case "script":
		if executable(t.token.Attr) {
			return t.attr("src")
		}
	case "link":
		if hasRel(t.token.Attr, "stylesheet") && !hasRel(t.token.Attr, "alternate") || hasRel(t.token.Attr, "modulepreload") {
			return t.attr("href")
		}
	}
	return ""
}

func hasRel(attributes []html.Attribute, rel string) bool {
	return slices.Contains(strings.Fields(strings.ToLower(attrOf(attributes, "rel"))), rel)
}

// marker is the attribute by which a parsed node knows its tag. It exists only
// in the copy that is parsed, never in what is served.
const marker = "data-rewarm-at"

// parse builds the tree of a shell whose elements know, through [place], the
// index of their start tag: the parser itself keeps no offsets.
func parse(src []byte, tags []tag) (*html.Node, error) {
	if bytes.Contains(bytes.ToLower(src), []byte(marker)) {
		return nil, fmt.Errorf("%w: it has a %s of its own", ErrNotComposable, marker)
	}
	var marked bytes.Buffer
	last, noscript := 0, 0
	for i, t := range tags {
		if t.name == "noscript" {
			if t.close {
				noscript = max(0, noscript-1)
			} else {
				noscript++
			}
		}
		// The content of noscript is text to a parser with scripting on; marks
		// in it would be text too.
		if t.close || noscript > 0 {
			continue
		}
		// Not len(t.name): a NUL in the name has become three bytes.
		at := t.start + bytes.IndexAny(src[t.start:t.end], " \t\n\r\f/>")
		marked.Write(src[last:at])
		marked.WriteString(" " + marker + "=\"" + strconv.Itoa(i) + "\" ")
		last = at
	}
	marked.Write(src[last:])
	return html.Parse(&marked)
}

// place is the index of a node's start tag, -1 when the parser made it up.
func place(n *html.Node) int {
	i, err := strconv.Atoi(attrOf(n.Attr, marker))
	if err != nil {
		return -1
	}
	return i
}

// find is the first element of the name in document order.
func find(n *html.Node, name string) *html.Node {
	for d := range n.Descendants() {
		if d.Type == html.ElementNode && d.Namespace == "" && d.Data == name {
			return d
		}
	}
	return nil
}
