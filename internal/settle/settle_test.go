package settle

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rewarm/rewarm/internal/words"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func at(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }

func TestDecisions(t *testing.T) {
	ready := func(by words.SettledBy) Decision {
		return Decision{Settled: true, By: by, Status: words.StatusReady}
	}
	quiet := func(w time.Duration) Decision {
		return Decision{Settled: true, By: words.SettledByQuiet, Status: words.StatusReady, Quiet: w}
	}
	for _, c := range []struct {
		name    string
		options Options
		events  func(*Machine)
		now     time.Time
		want    Decision
	}{
		{"nothing yet", Options{}, func(*Machine) {}, at(9999), Decision{}},
		{"loaded is not quiet", Options{}, func(m *Machine) { m.Loaded(at(10)) }, at(20), Decision{Next: at(110)}},
		{"loaded and quiet", Options{}, func(m *Machine) { m.Loaded(at(10)) }, at(110), quiet(QuietAfterLoad)},
		{"static", Options{Static: true}, func(m *Machine) { m.Loaded(at(10)) }, at(10), ready(words.SettledByQuiet)},
		{"static not loaded", Options{Static: true}, func(*Machine) {}, at(10), Decision{}},
		{"a mutation delays", Options{}, func(m *Machine) { m.Loaded(at(10)); m.Mutated(at(60)) }, at(110), Decision{Next: at(160)}},
		{"in flight", Options{}, func(m *Machine) { m.Loaded(at(10)); m.RequestStarted("1", "Fetch", at(20)) }, at(9999), Decision{}},
		{"the answer delays", Options{}, func(m *Machine) {
			m.RequestStarted("1", "Fetch", at(5))
			m.Loaded(at(10))
			m.RequestEnded("1", at(500))
		}, at(510), Decision{Next: at(600)}},
		{"an answer nobody waits for", Options{}, func(m *Machine) { m.Loaded(at(10)); m.RequestEnded("9", at(90)) }, at(110), quiet(QuietAfterLoad)},
		{"open connections", Options{}, func(m *Machine) {
			m.Loaded(at(10))
			for i, kind := range []string{"WebSocket", "EventSource", "Ping"} {
				m.RequestStarted(fmt.Sprint(i), kind, at(90))
			}
		}, at(110), quiet(QuietAfterLoad)},
		{"signal false holds", Options{}, func(m *Machine) { m.Loaded(at(10)); m.Says(Said{Signal: NotReady}) }, at(9999), Decision{}},
		{"signal true needs no load", Options{}, func(m *Machine) { m.Says(Said{Signal: Ready}) }, at(1), ready(words.SettledBySignal)},
		{"signal before attribute", Options{}, func(m *Machine) {
			m.Says(Said{Signal: Ready, Attribute: "loading", AttributeNew: true})
		}, at(1), ready(words.SettledBySignal)},
		{"signal false before attribute", Options{}, func(m *Machine) {
			m.Says(Said{Signal: NotReady, Attribute: "ready", AttributeNew: true})
		}, at(9999), Decision{}},
		{"attribute ready", Options{WaitFor: true}, func(m *Machine) { m.Says(Said{Attribute: "ready", AttributeNew: true}) }, at(1), ready(words.SettledByAttribute)},
		{"attribute loading holds", Options{}, func(m *Machine) { m.Loaded(at(1)); m.Says(Said{Attribute: "loading"}) }, at(9999), Decision{}},
		{"attribute error", Options{}, func(m *Machine) { m.Says(Said{Attribute: "error"}) }, at(1),
			Decision{Settled: true, By: words.SettledByAttribute, Status: words.StatusError}},
		{"attribute unusable", Options{}, func(m *Machine) { m.Says(Said{Attribute: "unusable"}) }, at(1),
			Decision{Settled: true, By: words.SettledByAttribute, Status: words.StatusUnusable}},
		{"selector", Options{WaitFor: true}, func(m *Machine) { m.Says(Said{Selector: true}) }, at(1), ready(words.SettledBySelector)},
		{"no selector, no quiet", Options{WaitFor: true}, func(m *Machine) { m.Loaded(at(1)) }, at(9999), Decision{}},
		{"transition under way", Options{Kind: Transition}, func(m *Machine) {
			m.Says(Said{Signal: Ready, Attribute: "ready", AttributeNew: true, Selector: true})
			m.Loaded(at(5))
		}, at(9999), Decision{}},
		{"transition done, signal", Options{Kind: Transition}, func(m *Machine) {
			m.Says(Said{Signal: Ready})
			m.TransitionDone(at(5))
		}, at(5), ready(words.SettledBySignal)},
		{"a ready left behind", Options{Kind: Transition}, func(m *Machine) {
			m.Says(Said{Attribute: "ready"})
			m.TransitionDone(at(5))
		}, at(5), Decision{Next: at(35)}},
		{"transition quiet", Options{Kind: Transition}, func(m *Machine) { m.TransitionDone(at(5)) }, at(35), quiet(QuietAfterTransition)},
		{"transition that loads", Options{Kind: Transition}, func(m *Machine) {
			m.RequestStarted("1", "Fetch", at(1))
			m.NewDocument(at(5))
			m.TransitionDone(at(6))
		}, at(9999), Decision{}},
		{"transition that has loaded", Options{Kind: Transition}, func(m *Machine) {
			m.RequestStarted("1", "Fetch", at(1))
			m.NewDocument(at(5))
			m.Loaded(at(10))
		}, at(110), quiet(QuietAfterLoad)},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := New(c.options, at(0))
			c.events(m)
			if got := m.Look(c.now); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

// Under any events: quiet is never declared with a request in flight or within
// the window of the last disturbance, nothing of the page is believed before a
// transition has arrived, and once events stop and requests have ended a page
// that says nothing settles at the very time that Next named.
func TestPropertyNeverEarlyAlwaysSettles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := Options{Kind: Kind(rapid.IntRange(0, 1).Draw(t, "kind"))}
		now := start
		m := New(o, now)
		open := map[string]bool{}
		transition, arrived, disturbed := o.Kind == Transition, false, now
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 150).Draw(t, "ms")) * time.Millisecond)
			id := fmt.Sprint(rapid.IntRange(0, 4).Draw(t, "id"))
			switch rapid.IntRange(0, 6).Draw(t, "event") {
			case 0:
				m.RequestStarted(id, "Fetch", now)
				open[id], disturbed = true, now
			case 1:
				m.RequestEnded(id, now)
				if open[id] {
					delete(open, id)
					disturbed = now
				}
			case 2:
				m.Mutated(now)
				disturbed = now
			case 3:
				m.Loaded(now)
				arrived = arrived || !transition
			case 4:
				m.TransitionDone(now)
				arrived = arrived || transition
			case 5:
				m.RequestStarted("socket", "WebSocket", now)
			case 6:
				m.NewDocument(now)
				clear(open)
				transition, arrived, disturbed = false, false, now
			}
			d := m.Look(now)
			window := QuietAfterLoad
			if transition {
				window = QuietAfterTransition
			}
			if d.Settled && (!arrived || len(open) > 0 || now.Sub(disturbed) < window) {
				t.Fatalf("settled early: %+v, arrived %t, open %v, %s after the last disturbance", d, arrived, open, now.Sub(disturbed))
			}
			if d.Settled && !d.Next.IsZero() || m.InFlight() != len(open) {
				t.Fatalf("%+v with %d in flight, want %d", d, m.InFlight(), len(open))
			}
		}
		for id := range open {
			m.RequestEnded(id, now)
		}
		m.Loaded(now)
		m.TransitionDone(now)
		d := m.Look(now)
		if !d.Settled {
			if d.Next.IsZero() || !d.Next.After(now) {
				t.Fatalf("neither settled nor a time to look again: %+v", d)
			}
			if d = m.Look(d.Next); !d.Settled {
				t.Fatalf("not settled at the time it named: %+v", d)
			}
		}
	})
}
