// Package settle decides when a page is settled: when what it shows is what a
// visitor would see once nothing more happens by itself.
//
// It is a pure state machine. The page's events go in with the time at which
// they were seen; out comes by what the page settled, or what to do next. The
// first that speaks wins: the prerenderReady signal, the data-prerender-status
// attribute, the selector that the caller waits for, and, when the page says
// nothing, quiet: loaded, nothing in flight that counts, and the page's own
// proof that no script has anything left to do.
//
// There is no window of silence that every render would have to wait out. The
// network's part is decided here; the scripts' part is proved in the page, which
// knows its timers, frames and changes (package page, inject/quiet.js).
package settle

import (
	"time"

	"github.com/rewarm/rewarm/internal/words"
)

// What is waited for before a proof counts: an answer has to get from the
// network to the script that waits for it, which the page cannot see. Longer
// costs every render that fetches; shorter captures a page between an answer
// and what it shows. A busy machine is the proof's business: it takes longer
// where turns of the page's thread do.
const (
	CalmAfterLoad   = 20 * time.Millisecond // for what starts on the load event by other means than timers
	CalmAfterAnswer = 20 * time.Millisecond
	// CalmAfterCode is longer: a script is compiled on another thread first.
	CalmAfterCode = 40 * time.Millisecond
)

// How long what may never end keeps a page from being quiet. A budget that ends
// before is a partial render.
const (
	// RequestPatience is for data and code. A slow API is waited for; what takes
	// longer is a long poll, or as good as one.
	RequestPatience = 10 * time.Second
	// DecorPatience is for what changes no text: pictures, films, fonts, frames.
	DecorPatience = 2 * time.Second
	// StreamPatience is for an answer that has begun and does not end.
	StreamPatience = 4 * time.Second
	// RestlessPatience is for a page that says again and again that it moves, with
	// nothing in flight: a ticker, an animation. What is still being built by then has
	// been building for a hundred times what a page takes.
	RestlessPatience = 2 * time.Second
)

// The windows that a proof keeps, in the page, for work whose end it cannot see
// (a worker, a database): so long after it nothing may have changed.
const (
	ProofAfterLoad       = 100 * time.Millisecond
	ProofAfterTransition = 50 * time.Millisecond
)

// polls is how often one thing may be asked for, each time after the answer:
// a page that asks on is polling. No chain of requests that a page needs goes
// through the same URL so often.
const polls = 8

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
	// Prove asks for a proof of quiet that keeps the window: ask the page, then
	// call Proved or Unproved.
	Prove time.Duration
	// Next is when to look again; zero when only an event can change anything.
	Next time.Time
}

// Phases are how long each part of a settling took, in order. They add up to
// the time from its beginning to the last thing that was waited for.
type Phases struct {
	Arrive  time.Duration // the document loaded, or the transition's promise resolved
	Network time.Duration // then: until the last answer that was waited for
	Quiet   time.Duration // then: until the page had proved that it is quiet
}

// Machine is one settling. It is not for concurrent use.
type Machine struct {
	options  Options
	began    time.Time
	parsed   bool // the document is, so only its decoration may be missing
	arrived  bool // loaded, or the transition's promise resolved
	said     Said
	requests map[string]request
	asked    map[string]int // how often data was asked for, by URL
	calm     time.Time      // no proof before counts
	event    time.Time      // the last of the network, or the arrival
	arrival  time.Time
	proved   time.Time
	proving  bool      // the page is about to prove its quiet, unasked
	restless time.Time // since then each proof has failed; zero: none has
	retry    time.Time // no proof is asked for before
	unproved int       // in a row
}

// request is one that is under way.
type request struct {
	kind   string
	url    string
	giveUp time.Time // it does not count from then on
}

// New returns the machine of a settling that begins now.
func New(o Options, now time.Time) *Machine {
	m := &Machine{options: o, began: now}
	m.restart(now)
	return m
}

func (m *Machine) restart(now time.Time) {
	m.parsed, m.arrived, m.proving, m.said = false, false, false, Said{}
	m.requests, m.asked = map[string]request{}, map[string]int{}
	m.calm, m.event, m.arrival = now, now, now
	m.proved = time.Time{}
	m.noProof()
}

// NewDocument says that a document has replaced the one before: what that one
// said and asked for is void. A transition whose application loaded a document
// instead is a load from here on.
func (m *Machine) NewDocument(now time.Time) {
	m.options.Kind = Load
	m.restart(now)
}

// Parsed says that the document has been read to its end.
func (m *Machine) Parsed() { m.parsed = true }

// Loaded says that the document's load event has fired.
func (m *Machine) Loaded(now time.Time) {
	if m.options.Kind == Load {
		m.arrive(now, CalmAfterLoad)
	}
}

// TransitionDone says that the transition's promise has resolved. Only from
// here on is anything believed that the page says: before, it may be about the
// route that is being left. What the application fetched for the route it has
// had by then.
func (m *Machine) TransitionDone(now time.Time) {
	if m.options.Kind == Transition {
		m.arrive(now, 0)
	}
}

func (m *Machine) arrive(now time.Time, calm time.Duration) {
	if m.arrived {
		return
	}
	m.arrived, m.arrival = true, now
	if m.options.Kind == Transition {
		m.calm = now
	}
	m.disturb(now, calm)
}

// disturb notes an event of the network: proofs count again once it is calm.
func (m *Machine) disturb(now time.Time, calm time.Duration) {
	m.event = now
	if at := now.Add(calm); at.After(m.calm) {
		m.calm = at
	}
	m.noProof()
}

// noProof says that no proof has failed yet.
func (m *Machine) noProof() { m.restless, m.retry, m.unproved = time.Time{}, time.Time{}, 0 }

// Request is one that a page makes.
type Request struct {
	ID   string
	Type string // as DevTools names it
	URL  string // without its query
}

// RequestStarted says that the page asked for something. Connections that are
// meant to stay open, reports that nobody waits for, and polls do not count.
func (m *Machine) RequestStarted(r Request, now time.Time) {
	patience := RequestPatience
	switch r.Type {
	case "WebSocket", "DirectSocket", "EventSource", "Ping", "CSPViolationReport", "Preflight", "Prefetch", "Manifest", "SignedExchange", "FedCM":
		return
	case "Image", "Media", "Font", "TextTrack", "Document":
		patience = DecorPatience
	case "Fetch", "XHR":
		if m.asked[r.URL]++; m.asked[r.URL] > polls && !m.isAsked(r.URL) {
			return
		}
	}
	if len(m.requests) < maxInFlight {
		m.requests[r.ID] = request{kind: r.Type, url: r.URL, giveUp: now.Add(patience)}
	}
	m.disturb(now, 0)
}

// isAsked is whether a request for the URL is under way.
func (m *Machine) isAsked(url string) bool {
	for _, r := range m.requests {
		if r.url == url {
			return true
		}
	}
	return false
}

// Answered says that a request's answer has begun, and with which status. That
// of an error is all that scripts mostly read of it, and an answer that is not
// read to its end is never heard to end.
func (m *Machine) Answered(id string, status int, now time.Time) {
	r, ok := m.requests[id]
	if status >= 400 {
		m.RequestEnded(id, now)
		return
	}
	if at := now.Add(StreamPatience); ok && (r.kind == "Fetch" || r.kind == "XHR") && at.Before(r.giveUp) {
		r.giveUp = at
		m.requests[id] = r
	}
}

// RequestEnded says that a request has its answer, or that none will come.
func (m *Machine) RequestEnded(id string, now time.Time) {
	r, ok := m.requests[id]
	if !ok {
		return
	}
	delete(m.requests, id)
	if r.kind == "Script" || r.kind == "Stylesheet" {
		m.disturb(now, CalmAfterCode)
	} else {
		m.disturb(now, CalmAfterAnswer)
	}
}

// Mutated says that something may have changed: a proof from before is void.
func (m *Machine) Mutated() { m.proved = time.Time{} }

// Proving says that the page is about to prove its quiet, unasked: it will say
// what came of it.
func (m *Machine) Proving() { m.proving = true }

// Proved says that the page has proved its quiet, as of now.
func (m *Machine) Proved(now time.Time) { m.proved, m.proving = now, false }

// The pause between a proof that failed and the next: a page that is busy is
// not to be kept busy by us.
const (
	retryMin = 10 * time.Millisecond
	retryMax = 200 * time.Millisecond
)

// Unproved says that the page could not prove its quiet, for it moves. A page
// that only takes long to answer is not heard of meanwhile.
func (m *Machine) Unproved(now time.Time) {
	if m.unproved == 0 {
		m.restless = now
	}
	m.retry = now.Add(min(retryMax, retryMin<<min(m.unproved, 8)))
	m.unproved++
	m.proving = false
}

// Says replaces what the page says of itself.
func (m *Machine) Says(s Said) { m.said = s }

// Phases are those of a settling that is over now.
func (m *Machine) Phases(now time.Time) Phases {
	network := m.event
	if network.Before(m.arrival) {
		network = m.arrival
	}
	if !m.arrived {
		return Phases{Arrive: now.Sub(m.began)}
	}
	return Phases{Arrive: m.arrival.Sub(m.began), Network: network.Sub(m.arrival), Quiet: now.Sub(network)}
}

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
	quiet := Decision{Settled: true, By: words.SettledByQuiet, Status: words.StatusReady}
	if m.arrived && m.options.Static {
		return quiet
	}
	waiting, until := m.waiting(now)
	if !m.arrived && (!m.parsed || len(m.requests) == 0) {
		return Decision{} // the load event is to come
	}
	if waiting {
		return Decision{Next: until}
	}
	if now.Before(m.calm) {
		return Decision{Next: m.calm}
	}
	if !m.proved.IsZero() && !m.proved.Before(m.calm) && !m.proved.Before(m.event) {
		return quiet
	}
	if m.unproved > 0 && !now.Before(m.restless.Add(RestlessPatience)) {
		return quiet
	}
	if m.proving {
		return Decision{}
	}
	if now.Before(m.retry) {
		return Decision{Next: m.retry}
	}
	window := ProofAfterLoad
	if m.options.Kind == Transition {
		window = ProofAfterTransition
	}
	return Decision{Prove: window}
}

// waiting is whether any request counts, and until when at least.
func (m *Machine) waiting(now time.Time) (counts bool, until time.Time) {
	for _, r := range m.requests {
		if now.Before(r.giveUp) && (!counts || r.giveUp.Before(until)) {
			counts, until = true, r.giveUp
		}
	}
	return counts, until
}
