// Package settle decides when a page is settled: when what it shows is what a
// visitor would see once nothing more happens by itself.
//
// It is a pure state machine. The page's events go in with the time at which
// they were seen; out comes by what the page settled, or the time at which to
// look again if no event comes before. The first that speaks wins: the
// prerenderReady signal, the data-prerender-status attribute, the selector
// that the caller waits for, and, when the page says nothing, quiet: loaded,
// nothing in flight, nothing added to the document for a while.
package settle

import (
	"time"

	"github.com/rewarm/rewarm/internal/words"
)

// The quiet windows. A longer one costs every render of a host that says
// nothing; a shorter one captures a page between an answer and what it shows.
// Both are only asked for after the last request has ended, and the page is
// asked once more, on its own thread, before its quiet is believed: so they
// need not cover a busy machine, only a page's own short timers.
const (
	// QuietAfterLoad covers frameworks that start after the load event.
	QuietAfterLoad = 100 * time.Millisecond
	// QuietAfterTransition is shorter: the application itself said that the
	// route is shown, and what follows is a frame or two of its renderer.
	QuietAfterTransition = 30 * time.Millisecond
)

// maxInFlight bounds the requests that are tracked; a page with more at once
// is not told apart from one with this many.
const maxInFlight = 4096

// Kind is what the page is settling after.
type Kind int

// The kinds.
const (
	Load       Kind = iota // a document is being loaded
	Transition             // the application was asked to go to a route
)

// Options say what to wait for.
type Options struct {
	Kind Kind
	// WaitFor is whether the caller named a selector. Then quiet is not enough.
	WaitFor bool
	// Static is a document without scripts: it is settled when it has loaded.
	Static bool
}

// Signal is what window.prerenderReady was last set to.
type Signal int

// The values of a Signal. Unset means not since this settling began.
const (
	Unset Signal = iota
	NotReady
	Ready
)

// Said is everything that the page says of itself, as of one moment.
type Said struct {
	Signal Signal
	// Attribute is the value of data-prerender-status; "" when there is none.
	Attribute string
	// AttributeNew is whether that value was set since this settling began: a
	// "ready" that the last route left behind says nothing about this one.
	AttributeNew bool
	// Selector is whether the selector that is waited for matches.
	Selector bool
}

// Decision is what the machine makes of what it has seen.
type Decision struct {
	Settled bool
	By      words.SettledBy
	// Status is ready, or the page's own word: error, unusable.
	Status words.Status
	// Quiet is the window that a decision by quiet rests on; 0 otherwise.
	Quiet time.Duration
	// Next is when to look again; zero when only an event can change anything.
	Next time.Time
}

// Machine is one settling. It is not for concurrent use.
type Machine struct {
	options  Options
	arrived  bool // loaded, or the transition's promise resolved
	said     Said
	inFlight map[string]struct{}
	last     time.Time // of anything that is not quiet
}

// New returns the machine of a settling that begins now.
func New(o Options, now time.Time) *Machine {
	return &Machine{options: o, inFlight: map[string]struct{}{}, last: now}
}

// NewDocument says that a document has replaced the one before: what that one
// said and asked for is void. A transition whose application loaded a document
// instead is a load from here on.
func (m *Machine) NewDocument(now time.Time) {
	m.options.Kind = Load
	m.arrived = false
	m.said = Said{}
	m.inFlight = map[string]struct{}{}
	m.last = now
}

// Loaded says that the document's load event has fired.
func (m *Machine) Loaded(now time.Time) {
	if m.options.Kind == Load {
		m.arrive(now)
	}
}

// TransitionDone says that the transition's promise has resolved. Only from
// here on is anything believed that the page says: before, it may be about the
// route that is being left.
func (m *Machine) TransitionDone(now time.Time) {
	if m.options.Kind == Transition {
		m.arrive(now)
	}
}

func (m *Machine) arrive(now time.Time) {
	if !m.arrived {
		m.arrived = true
		m.last = now
	}
}

// RequestStarted says that the page asked for something. Connections that are
// meant to stay open, and reports that nobody waits for, do not count.
func (m *Machine) RequestStarted(id, resourceType string, now time.Time) {
	switch resourceType {
	case "WebSocket", "DirectSocket", "EventSource", "Ping", "CSPViolationReport", "Preflight", "Prefetch", "Manifest", "SignedExchange", "FedCM":
		return
	}
	if len(m.inFlight) < maxInFlight {
		m.inFlight[id] = struct{}{}
	}
	m.last = now
}

// RequestEnded says that a request has its answer, or that none will come.
func (m *Machine) RequestEnded(id string, now time.Time) {
	if _, ok := m.inFlight[id]; ok {
		delete(m.inFlight, id)
		m.last = now
	}
}

// Mutated says that something was added to or taken from the document.
func (m *Machine) Mutated(now time.Time) { m.last = now }

// Says replaces what the page says of itself.
func (m *Machine) Says(s Said) { m.said = s }

// InFlight is the number of requests that are waited for.
func (m *Machine) InFlight() int { return len(m.inFlight) }

// Look decides as of now.
func (m *Machine) Look(now time.Time) Decision {
	if m.options.Kind == Transition && !m.arrived {
		return Decision{}
	}
	if m.said.Signal != Unset {
		if m.said.Signal == Ready {
			return Decision{Settled: true, By: words.SettledBySignal, Status: words.StatusReady}
		}
		return Decision{}
	}
	switch m.said.Attribute {
	case "error", "unusable":
		return Decision{Settled: true, By: words.SettledByAttribute, Status: words.Status(m.said.Attribute)}
	case "loading":
		return Decision{}
	case "ready":
		if m.said.AttributeNew {
			return Decision{Settled: true, By: words.SettledByAttribute, Status: words.StatusReady}
		}
	}
	if m.options.WaitFor {
		if m.said.Selector {
			return Decision{Settled: true, By: words.SettledBySelector, Status: words.StatusReady}
		}
		return Decision{}
	}
	return m.quiet(now)
}

func (m *Machine) quiet(now time.Time) Decision {
	window := QuietAfterLoad
	switch {
	case !m.arrived:
		return Decision{}
	case m.options.Static:
		return Decision{Settled: true, By: words.SettledByQuiet, Status: words.StatusReady}
	case len(m.inFlight) > 0:
		return Decision{}
	case m.options.Kind == Transition:
		window = QuietAfterTransition
	}
	if at := m.last.Add(window); now.Before(at) {
		return Decision{Next: at}
	}
	return Decision{Settled: true, By: words.SettledByQuiet, Status: words.StatusReady, Quiet: window}
}
