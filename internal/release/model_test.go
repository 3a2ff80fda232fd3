package release

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rewarm/rewarm/internal/words"
)

// A model of a fleet's front: what each reporter said and when, kept in full,
// so that the rules can be judged slowly and plainly.
type model struct {
	book     *Book
	now      int // seconds
	heard    map[string][]saying
	sequence uint64
	lost     bool // reporters were lost once: the slow judge knows too much
}

type saying struct {
	at    int
	token words.Token
}

var (
	tokens  = []words.Token{"a", "b", "c", "d"}
	names   = []string{"r1", "r2", "r3"}
	sources = []words.Source{words.SourceBoot, words.SourcePresence, words.SourcePresence, words.SourceDeployment, words.SourceOperator, words.SourceUnsaid}
)

// onlyOne reports whether at every instant of the last two presence intervals
// somebody was live and everybody live was on token.
func (m *model) onlyOne(token words.Token) bool {
	for t := m.now - int(RollbackAfter/time.Second); t <= m.now; t++ {
		live := 0
		for _, said := range m.heard {
			var last *saying
			for i := range said {
				if said[i].at <= t {
					last = &said[i]
				}
			}
			if last == nil || t >= last.at+int(LiveFor/time.Second) {
				continue
			}
			if last.token != token {
				return false
			}
			live++
		}
		if live == 0 {
			return false
		}
	}
	return true
}

// check holds for whatever happened.
func (m *model) check(t *rapid.T, before words.Release, o Outcome) {
	after, _ := m.book.Current()
	if o.New == nil {
		if after != before {
			t.Fatalf("the current release changed from %+v to %+v without saying so", before, after)
		}
		return
	}
	if *o.New != after || after.Sequence != m.sequence+1 {
		t.Fatalf("after release %d: %+v, current %+v", m.sequence, o.New, after)
	}
	if after.Token == before.Token {
		t.Fatalf("the same token made a release: %+v", after)
	}
	m.sequence = after.Sequence
}

func (m *model) report(t *rapid.T, r Report) Outcome {
	before, known := m.book.Current()
	superseded := m.book.Superseded(r.Token)
	if o := m.book.Tick(at(m.now)); o.New != nil { // what time alone decides, first
		m.judgeRollback(t, o)
		m.check(t, before, o)
		before, superseded = *o.New, m.book.Superseded(r.Token)
	}
	m.heard[r.Reporter] = append(m.heard[r.Reporter], saying{m.now, r.Token})
	o := m.book.Report(at(m.now), r)
	m.check(t, before, o)
	told := r.Source == words.SourceDeployment || r.Source == words.SourceOperator || r.Source == words.SourceUnsaid
	switch {
	case known && r.Token == before.Token:
		if o.New != nil || o.Behind {
			t.Fatalf("the current token: %+v", o)
		}
	case told:
		if o.New == nil || o.New.Token != r.Token {
			t.Fatalf("told %+v: %+v", r, o)
		}
	case superseded && o.New != nil:
		m.judgeRollback(t, o)
	case superseded && !o.Behind:
		t.Fatalf("a superseded token that is not behind: %+v", o)
	}
	return o
}

func (m *model) judgeRollback(t *rapid.T, o Outcome) {
	if !o.Rollback {
		t.Fatalf("no rollback: %+v", o)
	}
	if !m.lost && !m.onlyOne(o.New.Token) {
		t.Fatalf("rolled back to %s though others were live: %v at %d", o.New.Token, m.heard, m.now)
	}
}

// restart is another manager, or the same after a restart: it knows what was
// persisted, through JSON, and perhaps the reporters.
func (m *model) restart(t *rapid.T, keepReporters bool) {
	raw, err := json.Marshal(m.book.State())
	if err != nil {
		t.Fatal(err)
	}
	var state State
	if err := json.Unmarshal(raw, &state); err != nil {
		t.Fatal(err)
	}
	var reporters []Reporter
	if keepReporters {
		reporters = m.book.Reporters(at(m.now))
	} else {
		m.lost = true
	}
	before, known := m.book.Current()
	m.book = Open(state, reporters)
	if after, ok := m.book.Current(); ok != known || fmt.Sprint(after) != fmt.Sprint(before) {
		t.Fatalf("a restart lost %+v, has %+v", before, after)
	}
}

func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{book: Open(State{}, nil), heard: map[string][]saying{}}
		t.Repeat(map[string]func(*rapid.T){
			"report": func(t *rapid.T) {
				r := say(rapid.SampledFrom(names).Draw(t, "name"), rapid.SampledFrom(tokens).Draw(t, "token"), rapid.SampledFrom(sources).Draw(t, "source"))
				if rapid.Bool().Draw(t, "says since") {
					r.Since = at(m.now - rapid.IntRange(0, 60).Draw(t, "since"))
				}
				m.report(t, r)
			},
			"presence": func(t *rapid.T) { // everybody repeats what they said last
				for _, name := range names {
					if said := m.heard[name]; len(said) > 0 {
						m.report(t, say(name, said[len(said)-1].token, words.SourcePresence))
					}
				}
			},
			"time": func(t *rapid.T) {
				for range rapid.IntRange(1, 20).Draw(t, "seconds") {
					m.now++
					before, _ := m.book.Current()
					o := m.book.Tick(at(m.now))
					m.check(t, before, o)
					if o.New != nil {
						m.judgeRollback(t, o)
					}
				}
			},
			"restart": func(t *rapid.T) { m.restart(t, rapid.Bool().Draw(t, "keep")) },
		})
	})
}

// Whatever went before: once every replica serves T and says so, T is current
// within the time the rules need, and then nothing changes any more.
func TestModelConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{book: Open(State{}, nil), heard: map[string][]saying{}}
		for range rapid.IntRange(0, 30).Draw(t, "steps") {
			m.now += rapid.IntRange(0, 12).Draw(t, "pause")
			r := say(rapid.SampledFrom(names).Draw(t, "name"), rapid.SampledFrom(tokens).Draw(t, "token"), rapid.SampledFrom(sources).Draw(t, "source"))
			r.Since = at(m.now - rapid.IntRange(0, 60).Draw(t, "since"))
			m.report(t, r)
		}
		last := rapid.SampledFrom(tokens).Draw(t, "last")
		serving := names[:rapid.IntRange(1, len(names)).Draw(t, "serving")]
		since := at(m.now)
		deadline := m.now + int((LiveFor+RollbackAfter+PresenceInterval)/time.Second)
		for m.now < deadline+60 {
			for _, name := range serving {
				o := m.report(t, Report{Token: last, Source: words.SourcePresence, Reporter: name, Since: since})
				if m.now > deadline && o.New != nil {
					t.Fatalf("changed after all was settled: %+v", o)
				}
			}
			if rapid.IntRange(0, 9).Draw(t, "restart") == 0 {
				m.restart(t, true)
			}
			m.now += int(PresenceInterval / time.Second)
			if r, _ := m.book.Current(); m.now > deadline && r.Token != last {
				t.Fatalf("current is %+v, everybody serves %s since %v", r, last, since)
			}
		}
	})
}

// Each report is taken in by another manager that has read the store just
// before: the outcome must not depend on who is asked.
func TestModelAnyManagerJudgesAlike(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		one := Open(State{}, nil)
		stored, reporters := State{}, map[string]Reporter{}
		now := 0
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now += rapid.IntRange(0, 8).Draw(t, "pause")
			r := say(rapid.SampledFrom(names).Draw(t, "name"), rapid.SampledFrom(tokens).Draw(t, "token"), rapid.SampledFrom(sources).Draw(t, "source"))
			var known []Reporter
			for _, reporter := range reporters {
				known = append(known, reporter)
			}
			other := Open(stored, known)
			a, b := one.Report(at(now), r), other.Report(at(now), r)
			if fmt.Sprintf("%+v", a.Reporter) != fmt.Sprintf("%+v", b.Reporter) || a.Name() != b.Name() {
				t.Fatalf("one says %+v, another %+v", a, b)
			}
			stored = other.State()
			reporters[b.Reporter.Name] = b.Reporter
		}
	})
}
