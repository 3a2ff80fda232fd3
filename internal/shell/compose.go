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
// its order, and our own scripts.
func (c *composition) verify(out []byte) error {
	ours := map[string]int{}
	for _, script := range c.scripts {
		ours[script]++
	}
	var got []string
	for _, t := range scan(out) {
		if t.name != "script" || t.close || !executable(t.token.Attr) {
			continue
		}
		if ours[t.content] > 0 && t.attr("src") == "" {
			ours[t.content]--
			continue
		}
		got = append(got, t.token.String()+t.content)
	}
	var want []string
	for _, t := range c.tags {
		if t.name == "script" && !t.close && executable(t.token.Attr) {
			want = append(want, t.token.String()+t.content)
		}
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("%w: it would change which scripts run", ErrNotComposable)
	}
	for _, missing := range ours {
		if missing != 0 {
			return fmt.Errorf("%w: a place in the shell is not markup", ErrNotComposable)
		}
	}
	return nil
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
