package shell

import (
	"slices"
	"strings"

	"golang.org/x/net/html"
)

// identity is what a head element is about: elements of one identity in the
// capture replace those of the shell. "" for what is never merged.
func identity(n *html.Node) string {
	switch n.Data {
	case "title":
		return "title"
	case "meta":
		if attrOf(n.Attr, "http-equiv") != "" || attrOf(n.Attr, "charset") != "" {
			return "" // policies and encodings belong to the shell's bytes
		}
		name := strings.ToLower(attrOf(n.Attr, "name"))
		if name == "prerender-status-code" || name == "prerender-header" {
			return "" // said to us, and heard
		}
		if name != "" {
			return "meta name " + name
		}
		if property := strings.ToLower(attrOf(n.Attr, "property")); property != "" {
			return "meta property " + property
		}
	case "link":
		if hasRel(n.Attr, "canonical") {
			return "canonical"
		}
		if hasRel(n.Attr, "alternate") && !hasRel(n.Attr, "stylesheet") {
			return "alternate " + strings.ToLower(attrOf(n.Attr, "hreflang")+" "+attrOf(n.Attr, "type")+" "+attrOf(n.Attr, "media"))
		}
	case "script":
		if strings.EqualFold(strings.TrimSpace(attrOf(n.Attr, "type")), "application/ld+json") {
			return "json-ld"
		}
	}
	return ""
}

// sheet is the key of a style sheet; "" for anything else.
func sheet(n *html.Node) string {
	switch {
	case n.Data == "style":
		var text strings.Builder
		for child := range n.ChildNodes() {
			text.WriteString(child.Data)
		}
		return "style " + strings.TrimSpace(text.String())
	case n.Data == "link" && hasRel(n.Attr, "stylesheet"):
		return "link " + attrOf(n.Attr, "href")
	}
	return ""
}

// head merges the captured head into the shell's by identity.
func (c *composition) head(own, captured *html.Node) error {
	if own == nil || captured == nil || captured.FirstChild == nil {
		return nil
	}
	var order []string
	theirs, ours := map[string][]*html.Node{}, map[string][]*html.Node{}
	sheets := map[string]bool{}
	for n := range own.ChildNodes() {
		if id := identity(n); n.Type == html.ElementNode && id != "" && place(n) >= 0 {
			ours[id] = append(ours[id], n)
			order = append(order, id)
		} else if n.Type == html.ElementNode {
			sheets[sheet(n)] = true
		}
	}
	var added []string
	for n := range captured.ChildNodes() {
		if n.Type != html.ElementNode {
			continue
		}
		if id := identity(n); id != "" {
			theirs[id] = append(theirs[id], n)
			order = append(order, id)
		} else if key := sheet(n); key != "" && !sheets[key] {
			text, err := c.markedSheet(n)
			if err != nil {
				return err
			}
			added = append(added, text)
		}
	}
	added = append(added, c.styles...)
	done := map[string]bool{}
	for _, id := range order {
		if done[id] {
			continue
		}
		done[id] = true
		text, err := c.merge(id, ours[id], theirs[id])
		if err != nil {
			return err
		}
		added = append(added, text)
	}
	if text := strings.Join(last(added), ""); text != "" {
		at, ok := c.headEnd(own)
		if ok {
			c.edits = append(c.edits, edit{at, at, text})
		}
	}
	return nil
}

// last keeps of equal texts the last: of style sheets that is the one that
// counts.
func last(texts []string) []string {
	seen := map[string]bool{}
	var kept []string
	for _, text := range slices.Backward(texts) {
		if !seen[text] {
			seen[text] = true
			kept = append(kept, text)
		}
	}
	slices.Reverse(kept)
	return kept
}

// merge puts the captured elements of one identity in the place of the shell's
// and returns what has no place there yet.
func (c *composition) merge(id string, ours, theirs []*html.Node) (rest string, err error) {
	if len(theirs) == 0 && id == "title" {
		return "", nil
	}
	text, err := renderHead(theirs)
	if err != nil {
		return "", err
	}
	if own, err := renderHead(ours); err != nil || own == text {
		return "", err
	}
	for _, n := range ours {
		i := place(n)
		start, end := c.tags[i].start, c.tags[i].end
		if n.Data == "title" || n.Data == "script" {
			j, ok := closing(c.tags, i)
			if !ok {
				return "", ErrNotComposable
			}
			end = c.tags[j].end
		}
		c.edits = append(c.edits, edit{start, end, text})
		text = ""
	}
	return text, nil
}

// renderHead renders elements as they are compared and served.
func renderHead(nodes []*html.Node) (string, error) {
	var out strings.Builder
	for _, n := range nodes {
		kept := make([]html.Attribute, 0, len(n.Attr))
		for _, a := range n.Attr {
			if a.Key != marker && (!runs(a) || n.Data == "meta" && a.Key == "content") {
				kept = append(kept, a)
			}
		}
		copied := &html.Node{Type: n.Type, Data: n.Data, DataAtom: n.DataAtom, Attr: kept}
		for child := range n.ChildNodes() {
			copied.AppendChild(&html.Node{Type: html.TextNode, Data: child.Data})
		}
		if n.Data == "script" {
			cleanData(copied)
		}
		text, err := render(copied)
		if err != nil {
			return "", err
		}
		out.WriteString(text)
	}
	return out.String(), nil
}

// markedSheet renders a run-time style sheet so that takeover can find it.
func (c *composition) markedSheet(n *html.Node) (string, error) {
	if !clean(n) {
		return "", nil
	}
	if n.Data == "style" {
		// By an id or a mark of its library the application would take it for its
		// own, and then lose it at takeover.
		n.Attr = slices.DeleteFunc(n.Attr, func(a html.Attribute) bool { return a.Key != "media" && a.Key != "type" })
	}
	n.Attr = append(n.Attr, html.Attribute{Key: "data-rewarm-prerendered"})
	c.allowStyles(n)
	return render(n)
}

// headEnd is where the shell's head ends.
func (c *composition) headEnd(own *html.Node) (at int, ok bool) {
	for _, t := range c.tags {
		if t.name == "head" && t.close || t.name == "body" && !t.close {
			return t.start, true
		}
	}
	for n := range own.ChildNodes() {
		i := place(n)
		if i < 0 || n.Type != html.ElementNode {
			continue
		}
		at, ok = c.tags[i].end, true
		if j, closed := closing(c.tags, i); closed {
			at = c.tags[j].end
		}
	}
	return at, ok
}
