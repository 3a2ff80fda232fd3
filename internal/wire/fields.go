package wire

import (
	"slices"

	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/words"
)

// Fields are those of a document's html, head and body that a caller reads; nil
// is all three, and no other names count. Html is the whole page; head and body
// together are nearly as much again.
type Fields []string

// What Fields may name.
const (
	FieldHTML = "html"
	FieldHead = "head"
	FieldBody = "body"
)

// Check refuses a list that names nothing: whoever misspells a name would take
// the page for an empty one.
func (f Fields) Check() error {
	if len(f) > 0 && !slices.ContainsFunc(f, func(name string) bool { return name == FieldHTML || name == FieldHead || name == FieldBody }) {
		return fault.New(fault.Invalid, "fields names none of html, head and body")
	}
	return nil
}

// Trim empties what is not read.
func (f Fields) Trim(c *words.Capture) {
	if f == nil {
		return
	}
	for _, field := range []struct {
		name string
		text *string
	}{{FieldHTML, &c.HTML}, {FieldHead, &c.Head}, {FieldBody, &c.Body}} {
		if !slices.Contains(f, field.name) {
			*field.text = ""
		}
	}
}
