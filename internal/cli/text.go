package cli

import (
	"iter"
	"slices"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// textOf is what a reader of the body would read: a line for each block, inline
// text joined, and nothing of what is hidden.
func textOf(body string) string {
	context := &html.Node{Type: html.ElementNode, Data: "body", DataAtom: atom.Body}
	nodes, err := html.ParseFragment(strings.NewReader(body), context)
	if err != nil {
		return "" // a string cannot fail to be read
	}
	var r reader
	for _, n := range nodes {
		r.read(n)
	}
	r.brk()
	return r.out.String()
}

// reader writes lines; whether a space stands before a word is known when it
// comes.
type reader struct {
	out, line strings.Builder
	gap       bool         // white space was read since the last word
	hosts     []*html.Node // whose shadow roots are being read, the innermost last
}

func (r *reader) read(n *html.Node) {
	switch {
	case n.Type == html.TextNode:
		r.text(n.Data)
		return
	case n.Type != html.ElementNode || isHidden(n):
		return
	}
	switch n.Data {
	case "br":
		r.brk()
	case "pre", "textarea":
		r.brk()
		r.line.WriteString(strings.TrimRight(textIn(n), "\n"))
		r.brk()
	case "td", "th":
		r.gap = true
		r.readIn(n)
		r.gap = true
	case "slot":
		r.readSlot(n)
	default:
		if blocks[n.Data] {
			r.brk()
			defer r.brk()
		}
		r.readIn(n)
	}
}

// readIn reads what is inside an element: its shadow root if it has one, and
// its own children where that has slots for them.
func (r *reader) readIn(n *html.Node) {
	for c := range n.ChildNodes() {
		if c.Data == "template" && attr(c, "shadowrootmode") != "" {
			r.hosts = append(r.hosts, n)
			r.readAll(c.ChildNodes())
			r.hosts = r.hosts[:len(r.hosts)-1]
			return
		}
	}
	r.readAll(n.ChildNodes())
}

func (r *reader) readAll(nodes iter.Seq[*html.Node]) {
	for n := range nodes {
		r.read(n)
	}
}

func (r *reader) readSlot(slot *html.Node) {
	if len(r.hosts) == 0 {
		r.readAll(slot.ChildNodes())
		return
	}
	inside := r.hosts
	host := inside[len(inside)-1]
	r.hosts = inside[:len(inside)-1] // what is slotted is of the tree outside
	empty := true
	for n := range host.ChildNodes() {
		if n.Type != html.CommentNode && attr(n, "slot") == attr(slot, "name") {
			empty = false
			r.read(n)
		}
	}
	r.hosts = inside
	if empty {
		r.readAll(slot.ChildNodes())
	}
}

func (r *reader) text(s string) {
	for i, word := range strings.FieldsFunc(s, isSpace) {
		if r.line.Len() > 0 && (r.gap || i > 0 || isSpace(rune(s[0]))) {
			r.line.WriteByte(' ')
		}
		r.line.WriteString(word)
		r.gap = false
	}
	r.gap = r.gap || s != "" && isSpace(rune(s[len(s)-1]))
}

// brk ends a line, if there is one.
func (r *reader) brk() {
	if r.line.Len() > 0 {
		r.out.WriteString(r.line.String() + "\n")
		r.line.Reset()
	}
	r.gap = false
}

// isSpace is what HTML collapses; a no-break space is none.
func isSpace(r rune) bool { return strings.ContainsRune(" \t\n\r\f", r) }

// blocks are the elements that stand on lines of their own unless a style says
// otherwise.
var blocks = setOf("address article aside blockquote caption center dd details dialog div dl dt fieldset figcaption figure footer form " +
	"h1 h2 h3 h4 h5 h6 header hgroup hr legend li main menu nav ol optgroup option p search section summary table tbody tfoot thead tr ul")

// unseen are the elements whose content is not shown, or only where they
// themselves cannot be.
var unseen = setOf("audio canvas datalist head iframe noembed noframes noscript object script style template title video")

func setOf(names string) map[string]bool {
	set := map[string]bool{}
	for name := range strings.FieldsSeq(names) {
		set[name] = true
	}
	return set
}

func isHidden(n *html.Node) bool {
	style := strings.ToLower(strings.Join(strings.Fields(attr(n, "style")), ""))
	return unseen[n.Data] || has(n, "hidden") || strings.EqualFold(attr(n, "aria-hidden"), "true") || n.Data == "dialog" && !has(n, "open") ||
		strings.Contains(style, "display:none") || strings.Contains(style, "visibility:hidden")
}

func has(n *html.Node, name string) bool {
	return slices.ContainsFunc(n.Attr, func(a html.Attribute) bool { return a.Key == name })
}

func attr(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func textIn(n *html.Node) string {
	var out strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			out.WriteString(d.Data)
		}
	}
	return out.String()
}
