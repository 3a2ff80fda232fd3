// Package takeover judges what happens to a prerendered page when the
// application takes it over in a visitor's browser. It is pure: what was seen
// goes in as [Evidence], and out comes a verdict whose findings have stable
// names. Seeing is package page's.
package takeover

import (
	"time"

	"github.com/rewarm/rewarm/internal/words"
)

// Evidence is what was seen of one page. All durations are since the visitor
// asked for it; zero means never.
type Evidence struct {
	URL, FinalURL string
	HTTPStatus    int
	Token         words.Token
	Snapshot      string // as the realm server says: hit, miss, stale, bypass; "" for none
	// Failed is why there is no document to judge; then nothing else counts.
	Failed    string
	Documents int  // how many the page loaded, one after the other
	Crashed   bool // the page's process ended
	Wedged    bool // the page's thread did not answer when all was over
	Unread    bool // the document's bytes could not be had

	Said     []Said
	Failures []Request // got no answer, or one that is no use
	Pending  []Request // had no answer when it was over

	Before, After Content
	Takeover      Takeover
	Samples       []Sample
	Shifts        []Shift
	// Busy is in how many frames of the last two seconds the document changed.
	Busy int

	Response, Load, Settled time.Duration
}

// Said is an uncaught exception, or an error or a warning in the console.
type Said struct {
	Exception bool
	Warning   bool   // some frameworks only warn of what breaks; other warnings are nobody's business
	Text      string // its first line
	Stack     string
	Stranger  bool // it comes of other origins' scripts alone
}

// Request is one that the page made.
type Request struct {
	URL      string
	Type     string // as DevTools names it: Script, Stylesheet, Fetch
	Status   int    // 0: no answer
	MIME     string // without parameters
	Error    string // the network's reason
	Stranger bool   // of an origin that the document's scripts and styles do not come from
}

// Content is what a visitor can read and follow.
type Content struct {
	Lines []string // of text, in order
	Links []string // absolute
}

// size is how much text there is, in UTF-16 units as the page counts it.
func (c Content) size() int {
	n := 0
	for _, line := range c.Lines {
		for _, r := range line {
			n++
			if r > 0xffff {
				n++
			}
		}
	}
	return n
}

// Takeover is how the application took over.
type Takeover struct {
	Seen bool
	At   time.Duration // 0 where only the outcome showed it
	// Left is whether what was prerendered is still in its own element beside
	// what the application shows.
	Left bool
}

// Sample is how much text the page showed in one frame.
type Sample struct {
	At   time.Duration
	Size int
}

// Shift is one layout shift.
type Shift struct {
	At    time.Duration
	Value float64
	Nodes []string // what moved, as selectors
}
