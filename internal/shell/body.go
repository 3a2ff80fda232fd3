package shell

import (
	"fmt"
	"html"
	"slices"
	"strconv"
	"strings"

	xhtml "golang.org/x/net/html"
)

// site is an element of the shell into which the application put something.
type site struct {
	own       *xhtml.Node
	captured  *xhtml.Node
	additions []*xhtml.Node
	sheets    []*xhtml.Node // style sheets beside the additions
	before    int           // tag before which the additions stood, -1: the element's end
	kept      bool          // the application left something of the shell's in it
	count     int           // how many visible children the shell's element has
}

// body finds what the application added and puts it back.
func (c *composition) body(own, captured *xhtml.Node) error {
	if own == nil || captured == nil {
		return fmt.Errorf("%w: no body", ErrNotComposable)
	}
	sites, err := c.compare(own, captured, 0)
	if err != nil {
		return err
	}
	var inner []int
	for i, s := range sites {
		if s.own != own {
			inner = append(inner, i)
		}
	}
	for i, s := range sites {
		// Nested sites of a replaced element cannot occur: a mount is one in
		// which nothing of the shell's was found again.
		if len(inner) == 1 && inner[0] == i && !s.kept {
			if done, err := c.mount(s); done || err != nil {
				if err != nil {
					return err
				}
				continue
			}
		}
		if err := c.wrap(s, s.own == own); err != nil {
			return err
		}
		if err := c.looseSheets(s.sheets); err != nil {
			return err
		}
	}
	// Without additions in the body nothing says when styles may go; they stay.
	return nil
}

// opaque elements are compared as a whole, never looked into.
func opaque(n *xhtml.Node) bool {
	if invisible(n) || n.Namespace != "" {
		return true
	}
	switch n.Data {
	case "svg", "math", "iframe", "textarea", "select", "object", "video", "audio", "canvas":
		return true
	}
	return false
}

// maxDepth bounds the comparison; shells are a few levels deep.
const maxDepth = 64

func (c *composition) compare(own, captured *xhtml.Node, depth int) ([]site, error) {
	if depth > maxDepth {
		return nil, nil
	}
	a, b := significant(own), significant(captured)
	pairs := align(a, b)
	here := site{own: own, captured: captured, before: -1}
	for _, n := range a {
		if n.Type == xhtml.TextNode || !invisible(n) {
			here.count++
		}
	}
	matched := map[*xhtml.Node]*xhtml.Node{}
	for _, p := range pairs {
		matched[p[1]] = p[0]
		here.kept = here.kept || p[0].Type == xhtml.TextNode || !invisible(p[0])
	}
	var space []*xhtml.Node // text between additions that shows nothing
	visible := false
	for _, n := range children(captured) {
		if o := matched[n]; o != nil {
			if visible && here.before < 0 && o.Type == xhtml.ElementNode {
				here.before = place(o)
			}
			space = nil
			continue
		}
		switch {
		case isShadow(n): // of an element of the shell: see content
		case n.Type == xhtml.ElementNode && sheet(n) != "":
			here.sheets = append(here.sheets, n)
		case shows(n):
			here.additions = append(append(here.additions, space...), n)
			visible, space = true, nil
		case visible && n.Type == xhtml.TextNode:
			space = append(space, n)
		}
	}
	var sites []site
	if visible {
		sites = append(sites, here)
	} else if err := c.looseSheets(here.sheets); err != nil {
		return nil, err
	}
	for _, p := range pairs {
		if p[0].Type != xhtml.ElementNode || opaque(p[0]) {
			continue
		}
		below, err := c.compare(p[0], p[1], depth+1)
		if err != nil {
			return nil, err
		}
		sites = append(sites, below...)
	}
	return sites, nil
}

func (c *composition) looseSheets(sheets []*xhtml.Node) error {
	for _, n := range sheets {
		text, err := c.markedSheet(n)
		if err != nil {
			return err
		}
		c.styles = append(c.styles, text)
	}
	return nil
}

func children(n *xhtml.Node) []*xhtml.Node { return slices.Collect(n.ChildNodes()) }

// significant are the children that are compared: elements and text that is seen.
func significant(n *xhtml.Node) []*xhtml.Node {
	return slices.DeleteFunc(children(n), func(n *xhtml.Node) bool {
		return n.Type != xhtml.ElementNode && (n.Type != xhtml.TextNode || strings.TrimSpace(n.Data) == "")
	})
}

// key tells whether two children are the same one. Attributes that applications
// change as they run (all but id, and the first class where there is no id) say
// nothing.
func key(n *xhtml.Node) string {
	if n.Type == xhtml.TextNode {
		return "#" + strings.TrimSpace(n.Data)
	}
	switch n.Data {
	case "script":
		text := ""
		if n.FirstChild != nil {
			text = n.FirstChild.Data
		}
		return "script " + attrOf(n.Attr, "src") + " " + attrOf(n.Attr, "type") + " " + text
	case "style", "link":
		return sheet(n) + " " + attrOf(n.Attr, "href")
	}
	if id := attrOf(n.Attr, "id"); id != "" {
		return n.Data + "#" + id
	}
	class, _, _ := strings.Cut(strings.TrimSpace(attrOf(n.Attr, "class")), " ")
	return n.Data + "." + class
}

// maxAlign bounds the exact alignment's table; beyond it the first fit is taken.
const maxAlign = 1 << 20

// align pairs the shell's children with the capture's, in order, as many as
// can be (a longest common subsequence over keys).
func align(a, b []*xhtml.Node) [][2]*xhtml.Node {
	ka, kb := keys(a), keys(b)
	var pairs [][2]*xhtml.Node
	if len(a)*len(b) > maxAlign {
		j := 0
		for i := range a {
			if at := slices.Index(kb[j:], ka[i]); at >= 0 {
				pairs = append(pairs, [2]*xhtml.Node{a[i], b[j+at]})
				j += at + 1
			}
		}
		return pairs
	}
	width := len(b) + 1
	length := make([]int32, (len(a)+1)*width)
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if ka[i] == kb[j] {
				length[i*width+j] = length[(i+1)*width+j+1] + 1
			} else {
				length[i*width+j] = max(length[(i+1)*width+j], length[i*width+j+1])
			}
		}
	}
	for i, j := 0, 0; i < len(a) && j < len(b); {
		switch {
		case ka[i] == kb[j]:
			pairs = append(pairs, [2]*xhtml.Node{a[i], b[j]})
			i, j = i+1, j+1
		case length[(i+1)*width+j] >= length[i*width+j+1]:
			i++
		default:
			j++
		}
	}
	return pairs
}

func keys(nodes []*xhtml.Node) []string {
	all := make([]string, len(nodes))
	for i, n := range nodes {
		all[i] = key(n)
	}
	return all
}

// mount replaces the inside of a mount element. done is false when the shell
// has something there that must not go: scripts, style sheets.
func (c *composition) mount(s site) (done bool, err error) {
	i := place(s.own)
	if i < 0 {
		return false, nil
	}
	j, ok := closing(c.tags, i)
	if !ok {
		return false, nil
	}
	for _, t := range c.tags[i+1 : j] {
		switch t.name {
		case "script", "style", "link", "meta", "base", "template":
			return false, nil
		}
	}
	text, err := c.cleaned(content(s.captured))
	if err != nil {
		return false, err
	}
	c.edits = append(c.edits, edit{c.tags[i].end, c.tags[j].start, text + c.ending(-1, text)})
	return true, nil
}

// content is what a mount element holds. Its own shadow root is left out: the
// element stays when the application starts, and nothing says whether its class
// would replace that root or write beside what is in it.
func content(mount *xhtml.Node) []*xhtml.Node { return slices.DeleteFunc(children(mount), isShadow) }

// wrap puts additions into an element of ours where they stood.
func (c *composition) wrap(s site, isBody bool) error {
	at, ok := 0, false
	switch i := place(s.own); {
	case s.before >= 0:
		at, ok = c.tags[s.before].start, true
	case isBody:
		at, ok = c.bodyEnd(), true
	case i >= 0:
		var j int
		if j, ok = closing(c.tags, i); ok {
			at = c.tags[j].start
		}
	}
	if !ok || !flow(s.own) {
		return fmt.Errorf("%w: no place in <%s>", ErrNotComposable, s.own.Data)
	}
	text, err := c.cleaned(s.additions)
	if err != nil {
		return err
	}
	c.edits = append(c.edits, edit{at, at, "<div data-rewarm-prerendered>" + text + "</div>" + c.ending(s.count, text)})
	return nil
}

// flow reports whether a div may stand in the element without the parser
// moving it elsewhere.
func flow(n *xhtml.Node) bool {
	switch n.Data {
	case "body", "div", "main", "section", "article", "aside", "header", "footer", "nav", "form", "li", "td", "th", "dd", "figure", "blockquote", "span", "a", "center", "h1", "h2", "h3", "h4", "h5", "h6":
		return true
	}
	return strings.Contains(n.Data, "-")
}

func (c *composition) bodyEnd() int {
	for _, name := range []string{"body", "html"} {
		for _, t := range slices.Backward(c.tags) {
			if t.name == name && t.close {
				return t.start
			}
		}
	}
	return len(c.src)
}

func (c *composition) cleaned(nodes []*xhtml.Node) (string, error) {
	var kept []*xhtml.Node
	for _, n := range nodes {
		if clean(n) {
			c.allowStyles(n)
			kept = append(kept, n)
		}
	}
	return render(kept...)
}

// allowStyles lets the style elements in and below a node apply under the
// shell's policies. Style attributes are left to them: what lets one apply lets
// all apply.
func (c *composition) allowStyles(n *xhtml.Node) {
	if n.Type == xhtml.ElementNode && n.Data == "style" && n.Namespace == "" {
		var text strings.Builder
		for child := range n.ChildNodes() {
			text.WriteString(child.Data)
		}
		c.style.add(text.String())
		if c.style.nonce != "" {
			n.Attr = append(n.Attr, xhtml.Attribute{Key: "nonce", Val: c.style.nonce})
		}
	}
	for child := range n.ChildNodes() {
		c.allowStyles(child)
	}
}

// ending is the script element that ends a site's life at takeover. own is how
// many visible children the shell's element has by itself; -1 in a mount
// element, all of whose children are ours. text is what was prerendered there.
func (c *composition) ending(own int, text string) string {
	deep := ""
	if strings.Contains(text, "shadowrootmode") {
		deep = ",1"
	}
	text = takeover + "(" + strconv.Itoa(own) + deep + ")"
	c.scripts = append(c.scripts, text)
	c.script.add(text)
	nonce := ""
	if c.script.nonce != "" {
		nonce = ` nonce="` + html.EscapeString(c.script.nonce) + `"`
	}
	return "<script" + nonce + ">" + text + "</script>"
}
