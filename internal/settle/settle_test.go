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

// after is the time so long after at(ms).
func after(ms int, d time.Duration) time.Time { return at(ms).Add(d) }

func TestDecisions(t *testing.T) {
	ready := func(by words.SettledBy) Decision {
		return Decision{Settled: true, By: by, Status: words.StatusReady}
	}
	prove := Decision{Prove: ProofAfterLoad}
	quiet := ready(words.SettledByQuiet)
	loadedWith := func(kind string) func(*Machine) {
		return func(m *Machine) { m.Loaded(at(10)); m.RequestStarted(Request{ID: "1", Type: kind}, at(20)) }
	}
	for _, c := range []struct {
		name    string
		options Options
		events  func(*Machine)
		now     time.Time
		want    Decision
	}{
		{"nothing yet", Options{}, func(*Machine) {}, at(9999), Decision{}},
		{"loaded is not calm", Options{}, func(m *Machine) { m.Loaded(at(10)) }, at(20), Decision{Next: after(10, CalmAfterLoad)}},
		{"calm is to be proved", Options{}, func(m *Machine) { m.Loaded(at(10)) }, after(10, CalmAfterLoad), prove},
		{"proved", Options{}, func(m *Machine) { m.Loaded(at(10)); m.Proved(at(60)) }, at(60), quiet},
		{"proved before it was calm", Options{}, func(m *Machine) { m.Loaded(at(10)); m.Proved(at(20)) }, at(60), prove},
		{"changed since", Options{}, func(m *Machine) { m.Loaded(at(10)); m.Proved(at(60)); m.Mutated() }, at(60), prove},
		{"asked for something since", Options{}, func(m *Machine) {
			m.Loaded(at(10))
			m.Proved(at(60))
			m.RequestStarted(Request{ID: "1", Type: "Fetch"}, at(61))
			m.RequestEnded("1", at(62))
		}, at(99), prove},
		{"not proved: a pause", Options{}, func(m *Machine) { m.Loaded(at(10)); m.Unproved(at(60)) }, at(61), Decision{Next: after(60, retryMin)}},
		{"not proved: again", Options{}, func(m *Machine) { m.Loaded(at(10)); m.Unproved(at(60)) }, after(60, retryMin), prove},
		{"restless", Options{}, func(m *Machine) { m.Loaded(at(10)); m.Unproved(at(50)); m.Unproved(at(1900)) }, after(50, RestlessPatience), quiet},
		{"slow is not restless", Options{}, func(m *Machine) { m.Loaded(at(10)); m.Unproved(at(9000)) }, after(9000, retryMin), prove},
		{"never asked is not restless", Options{}, func(m *Machine) { m.Loaded(at(10)) }, at(9999), prove},
		{"static", Options{Static: true}, func(m *Machine) { m.Loaded(at(10)) }, at(10), quiet},
		{"static not loaded", Options{Static: true}, func(*Machine) {}, at(10), Decision{}},
		{"data in flight", Options{}, loadedWith("Fetch"), at(9999), Decision{Next: after(20, RequestPatience)}},
		{"a long poll", Options{}, loadedWith("XHR"), after(20, RequestPatience), prove},
		{"a picture in flight", Options{}, loadedWith("Image"), at(100), Decision{Next: after(20, DecorPatience)}},
		{"a picture that never comes", Options{}, func(m *Machine) { m.RequestStarted(Request{ID: "1", Type: "Image"}, at(5)); m.Parsed() }, after(5, DecorPatience), prove},
		{"parsed is not loaded", Options{}, func(m *Machine) { m.RequestStarted(Request{ID: "1", Type: "Script"}, at(5)); m.Parsed() }, after(5, DecorPatience),
			Decision{Next: after(5, RequestPatience)}},
		{"a stream has begun", Options{}, func(m *Machine) { loadedWith("Fetch")(m); m.Answered("1", 200, at(30)) }, at(100), Decision{Next: after(30, StreamPatience)}},
		{"asked again and again", Options{}, func(m *Machine) {
			m.Loaded(at(10))
			for n := range polls + 1 {
				m.RequestStarted(Request{ID: fmt.Sprint(n), Type: "Fetch", URL: "/poll"}, at(20+n))
				if n < polls {
					m.RequestEnded(fmt.Sprint(n), at(20+n))
				}
			}
		}, at(90), prove},
		{"asked for the same, all at once", Options{}, func(m *Machine) {
			m.Loaded(at(10))
			for n := range polls + 1 {
				m.RequestStarted(Request{ID: fmt.Sprint(n), Type: "Fetch", URL: "/graphql"}, at(20))
			}
			for n := range polls {
				m.RequestEnded(fmt.Sprint(n), at(25))
			}
		}, at(90), Decision{Next: after(20, RequestPatience)}},
		{"an error that nobody reads", Options{}, func(m *Machine) { loadedWith("Fetch")(m); m.Answered("1", 404, at(30)) }, at(31), Decision{Next: after(30, CalmAfterAnswer)}},
		{"the answer delays", Options{}, func(m *Machine) {
			m.RequestStarted(Request{ID: "1", Type: "Fetch"}, at(5))
			m.Loaded(at(10))
			m.RequestEnded("1", at(500))
		}, at(510), Decision{Next: after(500, CalmAfterAnswer)}},
		{"code delays longer", Options{}, func(m *Machine) {
			m.RequestStarted(Request{ID: "1", Type: "Script"}, at(5))
			m.Loaded(at(10))
			m.RequestEnded("1", at(500))
		}, at(510), Decision{Next: after(500, CalmAfterCode)}},
		{"an answer nobody waits for", Options{}, func(m *Machine) { m.Loaded(at(10)); m.RequestEnded("9", at(90)) }, at(91), prove},
		{"open connections", Options{}, func(m *Machine) {
			m.Loaded(at(10))
			for i, kind := range []string{"WebSocket", "EventSource", "Ping"} {
				m.RequestStarted(Request{ID: fmt.Sprint(i), Type: kind}, at(90))
			}
		}, at(110), prove},
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
		{"no selector, no quiet", Options{WaitFor: true}, func(m *Machine) { m.Loaded(at(1)); m.Proved(at(90)) }, at(9999), Decision{}},
		{"transition under way", Options{Kind: Transition}, func(m *Machine) {
			m.Says(Said{Signal: Ready, Attribute: "ready", AttributeNew: true, Selector: true})
			m.Loaded(at(5))
			m.Proved(at(6))
		}, at(9999), Decision{}},
		{"transition done, signal", Options{Kind: Transition}, func(m *Machine) {
			m.Says(Said{Signal: Ready})
			m.TransitionDone(at(5))
		}, at(5), ready(words.SettledBySignal)},
		{"a ready left behind", Options{Kind: Transition}, func(m *Machine) {
			m.Says(Said{Attribute: "ready"})
			m.TransitionDone(at(5))
		}, at(5), Decision{Prove: ProofAfterTransition}},
		{"a proof that comes unasked is not asked for", Options{Kind: Transition}, func(m *Machine) {
			m.TransitionDone(at(5))
			m.Proving()
		}, at(9999), Decision{}},
		{"and holds", Options{Kind: Transition}, func(m *Machine) {
			m.TransitionDone(at(5))
			m.Proving()
			m.Proved(at(9))
		}, at(9), quiet},
		{"and one that failed is asked for", Options{Kind: Transition}, func(m *Machine) {
			m.TransitionDone(at(5))
			m.Proving()
			m.Unproved(at(9))
		}, after(9, retryMin), Decision{Prove: ProofAfterTransition}},
		{"no proof comes of a document that is gone", Options{Kind: Transition}, func(m *Machine) {
			m.TransitionDone(at(5))
			m.Proving()
			m.NewDocument(at(6))
			m.Loaded(at(10))
		}, at(110), prove},
		{"what was fetched for the transition has been had", Options{Kind: Transition}, func(m *Machine) {
			m.RequestStarted(Request{ID: "1", Type: "Fetch"}, at(1))
			m.RequestEnded("1", at(4))
			m.TransitionDone(at(5))
			m.Proved(at(5))
		}, at(5), quiet},
		{"transition that loads", Options{Kind: Transition}, func(m *Machine) {
			m.RequestStarted(Request{ID: "1", Type: "Fetch"}, at(1))
			m.NewDocument(at(5))
			m.TransitionDone(at(6))
		}, at(9999), Decision{}},
		{"transition that has loaded", Options{Kind: Transition}, func(m *Machine) {
			m.RequestStarted(Request{ID: "1", Type: "Fetch"}, at(1))
			m.NewDocument(at(5))
			m.Loaded(at(10))
		}, at(110), prove},
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

func TestPhases(t *testing.T) {
	m := New(Options{}, at(0))
	if got := m.Phases(at(7)); got != (Phases{Arrive: 7 * time.Millisecond}) {
		t.Errorf("under way: %+v", got)
	}
	m.Loaded(at(40))
	m.RequestStarted(Request{ID: "1", Type: "Fetch"}, at(50))
	m.RequestEnded("1", at(140))
	if got, want := m.Phases(at(170)), (Phases{40 * time.Millisecond, 100 * time.Millisecond, 30 * time.Millisecond}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// Under any events: quiet is never declared with data in flight that is young,
// nor without a proof that is later than the last disturbance, unless the page
// is restless; nothing of the page is believed before it has arrived; and once
// events stop, a page that says nothing settles by what the machine asks for:
// at times that Next names, and by proofs.
func TestPropertyNeverEarlyAlwaysSettles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := Options{Kind: Kind(rapid.IntRange(0, 1).Draw(t, "kind"))}
		now := start
		m := New(o, now)
		open := map[string]time.Time{}
		transition, arrived, event, proved, unproved := o.Kind == Transition, false, now, time.Time{}, time.Time{}
		proving := false
		for step := range rapid.IntRange(0, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 150).Draw(t, "ms")) * time.Millisecond)
			id := fmt.Sprint(rapid.IntRange(0, 4).Draw(t, "id"))
			switch rapid.IntRange(0, 8).Draw(t, "event") {
			case 0:
				m.RequestStarted(Request{ID: id, Type: "Fetch", URL: fmt.Sprint(step)}, now) // no poll
				open[id], event = now, now
			case 1:
				m.RequestEnded(id, now)
				if _, ok := open[id]; ok {
					delete(open, id)
					event = now
				}
			case 2:
				m.Mutated()
				proved = time.Time{}
			case 3:
				m.Loaded(now)
				if !transition && !arrived {
					arrived, event = true, now
				}
			case 4:
				m.TransitionDone(now)
				if transition && !arrived {
					arrived, event = true, now
					if proving = rapid.Bool().Draw(t, "proves"); proving {
						m.Proving()
					}
				}
			case 5:
				m.RequestStarted(Request{ID: "socket", Type: "WebSocket"}, now)
			case 6:
				m.NewDocument(now)
				clear(open)
				transition, arrived, event, proved, proving = false, false, now, time.Time{}, false
			case 7:
				m.Proved(now)
				proved, proving = now, false
			case 8:
				m.Unproved(now)
				proving = false
				if unproved.IsZero() {
					unproved = now
				}
			}
			if !event.Before(unproved) {
				unproved = time.Time{}
			}
			d := m.Look(now)
			young := false
			for _, began := range open {
				young = young || now.Before(began.Add(RequestPatience))
			}
			restless := !unproved.IsZero() && !now.Before(unproved.Add(RestlessPatience))
			if d.Settled && (!arrived || young || proved.Before(event) && !restless) {
				t.Fatalf("settled early: %+v, arrived %t, open %v, proved %s, last event %s, now %s", d, arrived, open, proved, event, now)
			}
			if d.Settled && !d.Next.IsZero() || d.Prove > 0 && (d.Settled || young || !arrived || proving) {
				t.Fatalf("%+v with %v open", d, open)
			}
		}
		m.Loaded(now)
		m.TransitionDone(now)
		for range 12 { // five requests that are given up at the most
			d := m.Look(now)
			switch {
			case d.Settled:
				return
			case d.Prove > 0 || proving && d.Next.IsZero():
				m.Proved(now)
				proving = false
			case !d.Next.After(now):
				t.Fatalf("neither settled, nor a proof, nor a time to look again: %+v", d)
			default:
				now = d.Next
			}
		}
		t.Fatalf("not settled: %+v", m.Look(now))
	})
}
