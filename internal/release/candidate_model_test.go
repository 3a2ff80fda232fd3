package release

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/rewarm/rewarm/internal/words"
)

// gatedServer is a realm server under gated promotion: what it has on disk, and
// what it knows while it runs.
type gatedServer struct {
	name     string
	host     words.Token   // the host directory
	kept     []words.Token // on disk; the first is served
	newest   words.Token   // as read from the host
	sequence uint64        // highest heard
	promoted words.Token
	up       bool
}

func (s *gatedServer) serves() words.Token { return s.kept[0] }

func (s *gatedServer) start() {
	s.up, s.sequence, s.promoted = true, 0, ""
	s.read()
}

func (s *gatedServer) read() {
	s.newest = s.host
	if len(s.kept) == 0 {
		s.kept = []words.Token{s.host}
	}
	s.follow()
}

func (s *gatedServer) follow() {
	if s.promoted != "" && (s.newest == s.promoted || slices.Contains(s.kept, s.promoted)) {
		kept := slices.DeleteFunc(slices.Clone(s.kept), func(t words.Token) bool { return t == s.promoted })
		s.kept = append([]words.Token{s.promoted}, kept[:min(len(kept), 2)]...)
	}
}

// gatedModel is two realm servers and whichever manager is asked.
type gatedModel struct {
	book    *Book
	now     int
	servers []*gatedServer
	was     map[words.Token]bool // current once
	dropped map[words.Token]bool // by an operator, and not ordered back
}

var gatedTokens = []words.Token{"good1", "bad1", "good2", "bad2", "good3"}

func newGatedModel() *gatedModel {
	m := &gatedModel{book: Open(State{}, nil), was: map[words.Token]bool{"good0": true}, dropped: map[words.Token]bool{}}
	for _, name := range []string{"r1", "r2"} {
		s := &gatedServer{name: name, host: "good0"}
		s.start()
		m.servers = append(m.servers, s)
	}
	m.presence(m.servers[0])
	return m
}

func (m *gatedModel) presence(s *gatedServer) {
	if !s.up {
		return
	}
	report := Report{Token: s.serves(), Source: words.SourcePresence, Reporter: s.name, Gated: true}
	if s.newest != s.serves() {
		report.Holds = s.newest
	}
	m.book.Report(at(m.now), report)
	if s.newest != s.serves() {
		report.Token, report.Candidate = s.newest, true
		m.book.Report(at(m.now), report)
	}
	if current, _ := m.book.Current(); current.Sequence >= s.sequence {
		s.sequence, s.promoted = current.Sequence, current.Token
	}
	s.follow()
}

// check is the canary's: a bad release is found out, whatever else.
func (m *gatedModel) check() {
	c, ok := m.book.Candidate(at(m.now))
	if !ok || !c.Ready() {
		return
	}
	if strings.HasPrefix(string(c.Token), "bad") {
		m.book.Refuse(at(m.now), Refusal{Token: c.Token, Detail: "broken"})
	} else {
		m.book.Pass(at(m.now), c.Token)
	}
}

// step does one thing, and judges whether it may have changed what is current.
func (m *gatedModel) step(t *rapid.T, what string, do func(), may func(from, to words.Release) bool) {
	before, _ := m.book.Current()
	do()
	after, _ := m.book.Current()
	if after != before && !may(before, after) {
		t.Fatalf("%s made %+v of %+v", what, after, before)
	}
	if after.Sequence < before.Sequence {
		t.Fatalf("%s lost %+v", what, before)
	}
	m.was[after.Token] = true
	for _, s := range m.servers {
		if s.up && !m.was[s.serves()] {
			t.Fatalf("after %s visitors of %s get %s, which was never promoted", what, s.name, s.serves())
		}
	}
}

func never(words.Release, words.Release) bool { return false }

// passed is a change that a check without a finding may have made.
func (m *gatedModel) passed(_, to words.Release) bool {
	return strings.HasPrefix(string(to.Token), "good") && !m.dropped[to.Token]
}

func (m *gatedModel) restart(t *rapid.T, keepReporters bool) {
	raw, err := json.Marshal(m.book.State())
	var state State
	if err != nil || json.Unmarshal(raw, &state) != nil {
		t.Fatal(err)
	}
	var reporters []Reporter
	if keepReporters {
		reporters = m.book.Reporters(at(m.now))
	}
	m.book = Open(state, reporters)
}

func (m *gatedModel) actions() map[string]func(*rapid.T) {
	some := func(t *rapid.T) *gatedServer { return rapid.SampledFrom(m.servers).Draw(t, "server") }
	return map[string]func(*rapid.T){
		"deploy": func(t *rapid.T) {
			s, token := some(t), rapid.SampledFrom(gatedTokens).Draw(t, "token")
			m.step(t, "deploy", func() {
				if s.host = token; s.up {
					s.read()
				}
			}, never)
		},
		"presence": func(t *rapid.T) {
			m.step(t, "presence", func() {
				for _, s := range m.servers {
					m.presence(s)
				}
			}, never)
		},
		"one presence": func(t *rapid.T) { m.step(t, "one presence", func() { m.presence(some(t)) }, never) },
		"stop":         func(t *rapid.T) { some(t).up = false },
		"start":        func(t *rapid.T) { s := some(t); m.step(t, "start", s.start, never) },
		"check":        func(t *rapid.T) { m.step(t, "check", m.check, m.passed) },
		"time": func(t *rapid.T) {
			m.now += rapid.IntRange(1, 20).Draw(t, "seconds")
			m.step(t, "time", func() { m.book.Tick(at(m.now)) }, never)
		},
		"manager restarts": func(t *rapid.T) {
			m.step(t, "a restart", func() { m.restart(t, rapid.Bool().Draw(t, "keep")) }, never)
		},
		"resume": func(t *rapid.T) {
			m.step(t, "resume", func() { m.book.Resume(at(m.now), "", rapid.Bool().Draw(t, "paused")) },
				func(_, to words.Release) bool { return !m.dropped[to.Token] })
		},
		"recheck": func(t *rapid.T) { m.step(t, "recheck", func() { m.book.Recheck(at(m.now)) }, never) },
		"undo": func(t *rapid.T) {
			before, _ := m.book.Current()
			m.step(t, "undo", func() {
				o := m.book.Undo(at(m.now), "")
				switch {
				case o.Refused != nil:
					m.dropped[o.Refused.Token] = true
				case o.New != nil:
					m.dropped[before.Token] = true
				}
			}, func(_, to words.Release) bool { return m.was[to.Token] && !m.dropped[to.Token] })
		},
		"an operator's report": func(t *rapid.T) {
			token := rapid.SampledFrom(gatedTokens).Draw(t, "token")
			m.step(t, "a report", func() {
				m.book.Report(at(m.now), Report{Token: token, Source: words.SourceOperator, Reporter: "ops"})
				delete(m.dropped, token)
			}, func(_, to words.Release) bool { return to.Token == token })
		},
	}
}

// Whatever happens in whatever order: no release is current that no check
// passed and no operator ordered, what an operator dropped stays dropped, and
// visitors get nothing else.
func TestModelGated(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { t.Repeat(newGatedModel().actions()) })
}

// Whatever went before: a good release that both servers have arrives, on both,
// and a bad one after it never does.
func TestModelGatedConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newGatedModel()
		actions := m.actions()
		names := []string{}
		for name := range actions {
			names = append(names, name)
		}
		slices.Sort(names)
		for range rapid.IntRange(0, 40).Draw(t, "steps") {
			actions[rapid.SampledFrom(names).Draw(t, "action")](t)
		}
		settle := func(token words.Token) {
			for _, s := range m.servers {
				s.host = token
				s.start()
			}
			for range 8 {
				m.now += int(PresenceInterval.Seconds())
				m.step(t, "presence", func() {
					for _, s := range m.servers {
						m.presence(s)
					}
				}, never)
				m.step(t, "check", m.check, m.passed)
				if rapid.IntRange(0, 7).Draw(t, "restart") == 0 {
					m.restart(t, true)
				}
			}
		}
		settle("good9")
		for _, token := range []words.Token{"bad9", "bad8"} {
			settle(token)
			c, _ := m.book.Candidate(at(m.now))
			if c.Token != token || c.Refusal == nil {
				t.Fatalf("%s is not refused: %+v", token, c)
			}
		}
		current, _ := m.book.Current()
		for _, s := range m.servers {
			if s.serves() != "good9" || current.Token != "good9" {
				t.Fatalf("%s serves %s, current is %+v", s.name, s.serves(), current)
			}
		}
	})
}
