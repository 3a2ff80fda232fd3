package shell

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/net/html"
)

// ErrNotComposable means that the capture cannot be put into this shell without
// risking what the shell does by itself; the bare shell is then the right answer.
var ErrNotComposable = errors.New("capture cannot be put into the shell")

// Options refine a composition.
type Options struct {
	// Nonce is put on our scripts and the styles that are carried. Without it a
	// nonce that the shell's own meta policy names is used, else hashes.
	Nonce string
}

// Composed is a page as visitors get it.
type Composed struct {
	HTML []byte
	// ScriptHashes are the CSP sources ('sha256-...') of our inline scripts, for
	// a policy that travels in a header; empty when a nonce covers them. A
	// policy in the shell's own meta element is extended in HTML already.
	ScriptHashes []string

	edits []edit // what made HTML of the shell, in order
}

// edit replaces src[start:end] by text.
type edit struct {
	start, end int
	text       string
}

// composition is one call of Compose.
type composition struct {
	src     []byte
	tags    []tag
	edits   []edit
	script  inline   // our scripts
	style   inline   // the carried style sheets
	scripts []string // texts of our scripts, in order
	styles  []string // run-time style sheets found in the body, marked and rendered
}

// Compose puts what an application added to its shell, as the capture of the
// settled document shows it, back into the shell (protocol, "Composition").
// No script of the capture survives, and the shell's own boot exactly once.
func Compose(src []byte, capture string, o Options) (Composed, error) {
	c := &composition{src: src, tags: scan(src), script: inline{rules: scriptRules[:]}, style: inline{rules: styleRules[:]}}
	c.script.nonce = cmp.Or(o.Nonce, c.script.nonceIn(c.tags))
	c.style.nonce = cmp.Or(o.Nonce, c.style.nonceIn(c.tags))
	own, err := parse(src, c.tags)
	if err != nil {
		return Composed{}, fmt.Errorf("parse the shell: %w", err)
	}
	captured, err := html.Parse(strings.NewReader(capture))
	if err != nil {
		return Composed{}, fmt.Errorf("parse the capture: %w", err)
	}
	if err := c.body(find(own, "body"), find(captured, "body")); err != nil {
		return Composed{}, err
	}
	if err := c.head(find(own, "head"), find(captured, "head")); err != nil {
		return Composed{}, err
	}
	c.allowInMeta()
	result := Composed{}
	if c.script.nonce == "" {
		result.ScriptHashes = slices.Sorted(slices.Values(c.script.hashes))
	}
	if result.HTML, err = c.apply(); err != nil {
		return Composed{}, err
	}
	result.edits = c.edits
	return result, c.verify(result.HTML)
}

func (c *composition) apply() ([]byte, error) {
	slices.SortStableFunc(c.edits, func(a, b edit) int { return cmp.Compare(a.start, b.start) })
	var out bytes.Buffer
	last := 0
	for _, e := range c.edits {
		if e.start < last {
			return nil, fmt.Errorf("%w: two changes meet at byte %d", ErrNotComposable, e.start)
		}
		out.Write(c.src[last:e.start])
		out.WriteString(e.text)
		last = e.end
	}
	out.Write(c.src[last:])
	return out.Bytes(), nil
}

// verify holds the promise that matters most over whatever the parser made of
// hostile or broken input: what runs in the page is what runs in the shell, in
// its order, and our own scripts. It is asked of the tags and of the tree that
// they make: there is markup that closes what it stands in.
func (c *composition) verify(out []byte) error {
	was, err := html.Parse(bytes.NewReader(c.src))
	if err != nil {
		return fmt.Errorf("parse the shell: %w", err)
	}
	is, err := html.Parse(bytes.NewReader(out))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotComposable, err)
	}
	for _, scripts := range [][2][]string{{scriptTags(c.tags), scriptTags(scan(out))}, {scriptsIn(was), scriptsIn(is)}} {
		if !c.onlyOursAdded(scripts[0], scripts[1]) {
			return fmt.Errorf("%w: it would change which scripts run", ErrNotComposable)
		}
	}
	return nil
}

// onlyOursAdded reports whether after is before with each of our scripts once.
func (c *composition) onlyOursAdded(before, after []string) bool {
	ours := map[string]int{}
	for _, script := range c.scripts {
		ours[script]++
	}
	rest := slices.DeleteFunc(after, func(script string) bool {
		_, text, _ := strings.Cut(script, ">")
		ours[text]--
		return ours[text] >= 0
	})
	for _, missing := range ours {
		if missing > 0 {
			return false
		}
	}
	return slices.Equal(rest, before)
}

// scriptTags are the start tags of the scripts that would run, with their text.
func scriptTags(tags []tag) (scripts []string) {
	for _, t := range tags {
		if t.name == "script" && !t.close && executable(t.token.Attr) {
			scripts = append(scripts, t.token.String()+t.content)
		}
	}
	return scripts
}

// scriptsIn are those of a document, in the same form.
func scriptsIn(document *html.Node) (scripts []string) {
	for n := range document.Descendants() {
		if n.Type != html.ElementNode || n.Data != "script" || !executable(n.Attr) {
			continue
		}
		start := html.Token{Type: html.StartTagToken, Data: n.Namespace + n.Data, Attr: n.Attr}
		var text strings.Builder
		text.WriteString(start.String())
		for child := range n.ChildNodes() {
			text.WriteString(child.Data)
		}
		scripts = append(scripts, text.String())
	}
	return scripts
}

// render serialises cleaned nodes.
func render(nodes ...*html.Node) (string, error) {
	var out strings.Builder
	for _, n := range nodes {
		if err := html.Render(&out, n); err != nil {
			return "", fmt.Errorf("%w: %w", ErrNotComposable, err)
		}
	}
	return out.String(), nil
}
