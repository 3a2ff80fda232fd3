package page

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/rewarm/rewarm/internal/settle"
	"github.com/rewarm/rewarm/internal/words"
)

// The bounds of what one render remembers.
const (
	maxLines    = 100     // console lines, and failed requests
	maxText     = 1 << 10 // bytes of each
	maxRequests = 4096    // requests whose URL is remembered until they end
)

// state is what the page's events say. The pump writes it, a render reads it.
type state struct {
	mu      sync.Mutex
	changed chan struct{} // has an element when something may have changed

	machine *settle.Machine
	// begun is whether what is heard is about the current render: its document
	// has been committed, or its transition has started.
	begun   bool
	epoch   int
	spoiled bool

	fulfilled map[string]bool // loaders that were given our bytes and are not committed
	attested  bool            // the document in the main frame is made of our bytes
	blank     bool            // no document has been committed yet
	documents int             // committed so far
	blocks    blocked         // what the caller of the current render does not want
	standby   bool            // warming: #standby-ready settles

	requests  map[string]asked
	frames    map[string]string // the request of each frame's document
	early     map[string]int    // statuses of errors that came before their request
	rejected  string            // why the transition's promise was rejected
	refused   string            // why the main document could not be loaded
	docFailed string            // the network's reason for the last document that failed
	skew      string
	troubled  bool             // a script or style failed otherwise: its server is in trouble
	doomed    bool             // the page loaded itself again after a skew: the same bytes, the same end
	missing   string           // what the shell names and did not load
	thrown    *words.PageError // the first of those in throws
	throws    []thrown
	console   []words.ConsoleLine
	logged    bool // the browser holds lines of the console
	failed    []words.FailedRequest
	told      int64     // how much the document has said, as far as it was heard
	shot      *captured // what came with a ready or a proof; void once anything changes
	isReady   bool      // #standby-ready is there
	isFailing bool      // the transition was rejected

	sign       *sign  // that is waited for
	turnedAway string // the loader of a document that the proxy answered itself
}

type asked struct {
	url, kind string
	worker    bool   // the script of a worker, whose end nobody hears
	frame     string // that asked, or is to hold the document
}

// outcome is why a settling is over.
type outcome struct {
	decision   settle.Decision
	timedOut   bool
	rejected   bool   // the transition was; navigate instead
	navigation string // the main document could not be loaded
}

func (s *state) init() {
	s.changed = make(chan struct{}, 1)
	s.fulfilled = map[string]bool{}
	s.requests, s.frames, s.early = map[string]asked{}, map[string]string{}, map[string]int{}
	s.blank = true
}

// begin expects a document (epoch 0) or the start of a transition.
func (s *state) begin(m *settle.Machine, epoch int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.machine, s.epoch, s.begun = m, epoch, false
	s.clear()
}

// clear forgets what earlier routes left; s.mu is held.
func (s *state) clear() {
	s.requests, s.frames, s.early = map[string]asked{}, map[string]string{}, map[string]int{}
	s.rejected, s.refused, s.docFailed, s.skew, s.missing = "", "", "", "", ""
	s.troubled, s.doomed = false, false
	s.thrown, s.throws, s.console, s.failed = nil, nil, nil, nil
	s.isReady, s.isFailing, s.shot = false, false, nil
}

func (s *state) warming(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.standby = on
}

func (s *state) warmth() (missing string, attested bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.missing, s.attested
}

func (s *state) setSign(g *sign) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sign = g
}

// wasLogged is whether anything was written to the console since it was asked.
func (s *state) wasLogged() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.logged
	s.logged = false
	return was
}

func (s *state) isBlank() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.blank
}

func (s *state) wake() { signal(s.changed) }

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // already signalled
	}
}

// look is what can be decided now; over is whether that ends the settling.
func (s *state) look(now time.Time) (out outcome, over bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refused != "" {
		return outcome{navigation: s.refused}, true
	}
	if !s.begun {
		return out, false
	}
	if s.isFailing {
		return outcome{rejected: true}, true
	}
	if s.doomed && !s.standby {
		return out, true
	}
	if s.standby && s.missing != "" {
		return out, true
	}
	if s.standby && s.isReady {
		out.decision = settle.Decision{Settled: true, By: words.SettledBySelector, Status: words.StatusReady}
		return out, true
	}
	out.decision = s.machine.Look(now)
	return out, out.decision.Settled
}

// proved notes a proof of quiet that was asked for in the document of that
// number, and the capture that was made with it; without one the page could not
// prove it. What the page has said since it gave the proof may have been heard
// already: then the proof, and what it shows, is void.
func (s *state) proved(with *captured, document int, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if with == nil || document != s.documents || with.Told < s.told {
		s.machine.Unproved(now)
		return
	}
	s.shot = with
	s.machine.Proved(now)
}

// phases are those of the settling that is over now.
func (s *state) phases(now time.Time) settle.Phases {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.machine.Phases(now)
}

// committed says that the main frame has a new document.
func (s *state) committed(loader, at, unreachable string, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	why, skew := s.docFailed, ""
	if loader != "" && loader == s.turnedAway {
		unreachable = at
	}
	if s.begun {
		skew = s.skew
	}
	s.told = 0
	s.attested = s.fulfilled[loader] && unreachable == ""
	s.fulfilled = map[string]bool{}
	s.begun, s.epoch, s.blank = true, 0, false
	s.documents++
	s.clear()
	if s.attested && skew != "" {
		s.skew, s.doomed = skew, true
	}
	if s.machine != nil {
		s.machine.NewDocument(now)
	}
	if unreachable != "" {
		if why == "" {
			why = "the browser could not load it"
		}
		s.refused = fmt.Sprintf("%s: %s", unreachable, why)
	}
}

// told is a message of the page's instrumentation.
type told struct {
	Kind     string `json:"t"`
	Order    int64  `json:"o"` // the document's first is 1
	Epoch    int    `json:"e"`
	Signal   string `json:"r"`
	Attr     string `json:"a"`
	AttrNew  bool   `json:"n"`
	Selector bool   `json:"s"`
	Standby  bool   `json:"w"`
	Text     string `json:"x"`
	// Proves is that the page goes on to prove that it is quiet.
	Proves bool `json:"p"`
	// Capture comes with the end of a transition when the application says
	// that it is ready.
	Capture *captured `json:"c"`
}

func (p *Page) tell(m told, now time.Time) {
	s := &p.state
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told = m.Order
	if s.machine == nil || m.Epoch != s.epoch {
		return
	}
	if m.Kind == "start" {
		s.sign.give()
		s.begun = true
		s.clear()
	}
	if !s.begun {
		return
	}
	said := settle.Said{Attribute: m.Attr, AttributeNew: m.AttrNew, Selector: m.Selector}
	switch m.Signal {
	case "true":
		said.Signal = settle.Ready
	case "false":
		said.Signal = settle.NotReady
	}
	s.machine.Says(said)
	s.isReady = s.isReady || m.Standby
	s.shot = m.Capture
	if m.Kind == "quiet" {
		s.machine.Proved(now)
	} else {
		s.machine.Mutated()
	}
	switch m.Kind {
	case "parsed":
		s.machine.Parsed()
	case "unquiet":
		s.machine.Unproved(now)
	case "done":
		s.machine.TransitionDone(now)
		if m.Proves {
			s.machine.Proving()
		}
	case "fail":
		s.isFailing, s.rejected = true, m.Text
	case "skew":
		if text := "vite:preloadError " + m.Text; p.saysGone(text) {
			s.sawSkew(text)
		}
	}
}

// takeShot is the capture that came with the page's ready or with its proof of
// quiet, nil for none that still holds.
func (s *state) takeShot() *captured {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shot
}

func (s *state) sawSkew(why string) {
	if s.skew == "" {
		s.skew = cut(why)
	}
}

func (s *state) line(level, text string) {
	s.logged = true
	if len(s.console) < maxLines {
		s.console = append(s.console, words.ConsoleLine{Level: level, Text: text})
	}
}

// cut bounds a text that a page chose.
func cut(text string) string {
	if len(text) > maxText {
		text = text[:maxText]
	}
	return strings.ToValidUTF8(text, "")
}
