package pool_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rewarm/rewarm/internal/pool"
	"github.com/rewarm/rewarm/internal/words"
)

// world carries out the pool's actions as a browser and callers would, and
// judges each of them.
type world struct {
	t        *rapid.T
	pool     *pool.Pool
	now      time.Time
	options  pool.Options
	host     words.Token // what /_standby serves
	sequence uint64
	release  words.Token // newest the pool has heard of
	permit   words.Token
	warming  map[pool.PageID]bool
	open     map[pool.PageID]words.Token
	owner    map[pool.PageID]pool.Owner
	busy     map[pool.PageID]pool.RequestID
	alone    map[pool.PageID]bool // used by an isolated render
	closed   map[pool.PageID]bool
	asked    map[pool.RequestID]pool.Request
	answered map[pool.RequestID]bool
	next     pool.RequestID
	closes   map[pool.Reason]int
	frozen   map[pool.PageID]bool
	each     uint64 // what a page takes, in bytes
	depth    int    // of the deepest request so far
}

func newWorld(t *rapid.T) *world {
	size := rapid.IntRange(1, 5).Draw(t, "size")
	options := pool.Options{
		Size: size, Min: rapid.IntRange(1, size).Draw(t, "min"), Surge: rapid.IntRange(1, 2).Draw(t, "surge"),
		Memory:  rapid.SampledFrom([]uint64{0, 500 << 20, 1000 << 20}).Draw(t, "memory"),
		Warming: rapid.IntRange(1, 2).Draw(t, "warming"), Queue: 16,
		PerOwner: rapid.IntRange(0, 2).Draw(t, "per owner"),
		MaxUses:  rapid.SampledFrom([]int{0, 3}).Draw(t, "max uses"),
		MaxAge:   rapid.SampledFrom([]time.Duration{0, 40 * time.Second}).Draw(t, "max age"),
	}
	return &world{
		t: t, pool: pool.New(options), options: options, now: time.Unix(1e9, 0), host: "r1",
		warming: map[pool.PageID]bool{}, open: map[pool.PageID]words.Token{}, owner: map[pool.PageID]pool.Owner{},
		busy: map[pool.PageID]pool.RequestID{}, alone: map[pool.PageID]bool{}, closed: map[pool.PageID]bool{},
		asked: map[pool.RequestID]pool.Request{}, answered: map[pool.RequestID]bool{},
		closes: map[pool.Reason]int{}, frozen: map[pool.PageID]bool{}, each: rapid.SampledFrom([]uint64{30 << 20, 128 << 20}).Draw(t, "page"),
	}
}

func (w *world) do(actions []pool.Action) {
	for _, a := range actions {
		switch a.Kind {
		case pool.Warm:
			w.warming[a.Page] = true
			n := len(w.open) + len(w.warming)
			if limit := w.options.Memory; limit > 0 && w.depth == 0 && n > w.options.Min+2*w.options.Surge && uint64(n)*w.each > limit {
				w.t.Fatalf("%d pages of %d MB with a budget of %d MB", n, w.each>>20, limit>>20)
			}
		case pool.Close:
			if _, rendering := w.busy[a.Page]; rendering {
				w.t.Fatalf("page %d was closed while it renders", a.Page)
			}
			w.closes[a.Reason]++
			w.closed[a.Page] = true
			delete(w.open, a.Page)
			delete(w.warming, a.Page)
		case pool.Grant:
			if a.Frozen != w.frozen[a.Page] {
				w.t.Fatalf("page %d was granted as frozen: %t, and is: %t", a.Page, a.Frozen, w.frozen[a.Page])
			}
			delete(w.frozen, a.Page)
			w.grant(a)
		case pool.Freeze:
			if _, rendering := w.busy[a.Page]; rendering || w.warming[a.Page] || w.closed[a.Page] || w.frozen[a.Page] {
				w.t.Fatalf("page %d was frozen though it is not at rest", a.Page)
			}
			w.frozen[a.Page] = true
		case pool.Refuse:
			w.answer(a.Request)
		}
	}
	if n := len(w.open) + len(w.warming); n > w.options.Size+2*w.options.Surge+2*w.depth {
		w.t.Fatalf("%d pages at once, size %d surge %d", n, w.options.Size, w.options.Surge)
	}
}

func (w *world) grant(a pool.Action) {
	r := w.asked[a.Request]
	token, isOpen := w.open[a.Page]
	if !isOpen || w.closed[a.Page] {
		w.t.Fatalf("request %d was granted page %d, which is not open", a.Request, a.Page)
	}
	if other, rendering := w.busy[a.Page]; rendering {
		w.t.Fatalf("page %d was granted to %d while it renders %d", a.Page, a.Request, other)
	}
	if r.Pin != "" && token != r.Pin {
		w.t.Fatalf("request pinned to %s got a page of %s", r.Pin, token)
	}
	if owner, owned := w.owner[a.Page]; owned && owner != r.Owner {
		w.t.Fatalf("a page of %v was given to %v", owner, r.Owner)
	}
	w.owner[a.Page], w.busy[a.Page], w.alone[a.Page] = r.Owner, a.Request, r.Isolated
	have := 0
	for id := range w.open {
		if owner, owned := w.owner[id]; owned && owner == r.Owner && w.open[id] == token && !w.alone[id] {
			have++
		}
	}
	if limit := w.options.PerOwner; limit > 0 && have > limit && !r.Isolated && w.depth == 0 { // a nested request may leave its owner one more
		w.t.Fatalf("%v has %d pages, more than %d", r.Owner, have, limit)
	}
	w.answer(a.Request)
}

func (w *world) answer(id pool.RequestID) {
	if w.answered[id] {
		w.t.Fatalf("request %d was answered twice", id)
	}
	w.answered[id] = true
}

func (w *world) finishWarmUp(id pool.PageID) {
	delete(w.warming, id)
	if !w.pool.Accepts(id, w.host) {
		w.do(w.pool.WarmFailed(w.now, id, "old shell", true))
		return
	}
	w.open[id] = w.host
	w.do(w.pool.Warmed(w.now, id, w.host))
}

func (w *world) finishRender(id pool.PageID, reusable bool) {
	delete(w.busy, id)
	w.do(w.pool.Done(w.now, id, reusable))
}

func (w *world) submit(pin words.Token, owner pool.Owner, isolated bool, priority int) {
	w.ask(pool.Request{Owner: owner, Pin: pin, Isolated: isolated, Priority: priority, Deadline: w.now.Add(time.Minute)})
}

func (w *world) ask(r pool.Request) pool.RequestID {
	w.next++
	r.ID = w.next
	w.asked[r.ID] = r
	w.depth = max(w.depth, r.Depth)
	w.do(w.pool.Submit(w.now, r))
	return r.ID
}

func (w *world) pass(d time.Duration) {
	w.now = w.now.Add(d)
	w.do(w.pool.Tick(w.now))
}

// load measures what there is.
func (w *world) load(pressed bool) {
	w.do(w.pool.Loaded(w.now, pool.Load{Memory: uint64(len(w.open)+len(w.warming)) * w.each, Pressed: pressed}))
}

// settle lets everything that is under way finish until nothing happens, for
// as long as it takes until a page that is not needed is no more.
func (w *world) settle() { w.settleFor(400) }

func (w *world) settleFor(seconds int) {
	for n := range seconds {
		w.finishAll()
		w.pass(time.Second)
		if n%5 == 0 {
			w.load(false)
		}
	}
	for range 10 { // what the last second began
		w.finishAll()
	}
}

func (w *world) finishAll() {
	for _, id := range slices.Sorted(maps.Keys(w.warming)) {
		w.finishWarmUp(id)
	}
	for _, id := range slices.Sorted(maps.Keys(w.busy)) {
		w.finishRender(id, true)
	}
}

func owners(t *rapid.T) pool.Owner {
	return pool.Owner{
		Affinity: words.Affinity{Type: words.AffinityRealm, Value: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "realm")},
		AuthHash: rapid.SampledFrom([]string{"", "", "x"}).Draw(t, "auth"),
	}
}

// Invariants 2, 3 and 4 over random schedules: whatever happens in whatever
// order, no page that renders is closed, no page is shared, no pin is broken,
// and in the end there are exactly as many pages as there should be, all of the
// release that the host serves.
func TestModelConvergesAndLosesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		w.do(w.pool.Tick(w.now))
		t.Repeat(map[string]func(*rapid.T){
			"host switches": func(t *rapid.T) { w.host = words.Token(fmt.Sprintf("r%d", rapid.IntRange(1, 6).Draw(t, "release"))) },
			"release is heard": func(t *rapid.T) {
				w.sequence++
				w.release = words.Token(fmt.Sprintf("r%d", rapid.IntRange(1, 6).Draw(t, "release")))
				w.do(w.pool.Learn(w.now, w.sequence, w.release))
			},
			"late release is ignored": func(*rapid.T) {
				if w.sequence > 1 {
					w.do(w.pool.Learn(w.now, w.sequence-1, "r9"))
				}
			},
			"permitted": func(*rapid.T) { w.permit = w.release; w.do(w.pool.Permit(w.now, w.release)) },
			"submit": func(t *rapid.T) {
				pin := rapid.SampledFrom([]words.Token{"", "", "", w.release, w.host, "bogus"}).Draw(t, "pin")
				w.ask(pool.Request{
					Pin: pin, Owner: owners(t), Isolated: rapid.Bool().Draw(t, "isolated"), Priority: rapid.IntRange(0, 2).Draw(t, "priority"),
					Depth: rapid.SampledFrom([]int{0, 0, 0, 1, 3}).Draw(t, "depth"), Deadline: w.now.Add(time.Minute),
				})
			},
			"cancel": func(t *rapid.T) {
				id := pool.RequestID(rapid.IntRange(1, 1+int(w.next)).Draw(t, "request"))
				if _, asked := w.asked[id]; asked && !w.answered[id] {
					w.answered[id] = true
					w.do(w.pool.Cancel(w.now, id))
				}
			},
			"warm-up ends": func(t *rapid.T) {
				if ids := slices.Sorted(maps.Keys(w.warming)); len(ids) > 0 {
					w.finishWarmUp(rapid.SampledFrom(ids).Draw(t, "page"))
				}
			},
			"warm-up fails": func(t *rapid.T) {
				if ids := slices.Sorted(maps.Keys(w.warming)); len(ids) > 0 {
					id := rapid.SampledFrom(ids).Draw(t, "page")
					delete(w.warming, id)
					w.do(w.pool.WarmFailed(w.now, id, "broken", false))
				}
			},
			"render ends": func(t *rapid.T) {
				if ids := slices.Sorted(maps.Keys(w.busy)); len(ids) > 0 {
					w.finishRender(rapid.SampledFrom(ids).Draw(t, "page"), rapid.Bool().Draw(t, "reusable"))
				}
			},
			"page dies": func(t *rapid.T) {
				if ids := slices.Sorted(maps.Keys(w.open)); len(ids) > 0 {
					id := rapid.SampledFrom(ids).Draw(t, "page")
					delete(w.busy, id)
					w.do(w.pool.Gone(w.now, id))
				}
			},
			"page grows": func(t *rapid.T) {
				if ids := slices.Sorted(maps.Keys(w.open)); len(ids) > 0 {
					w.do(w.pool.Weigh(w.now, rapid.SampledFrom(ids).Draw(t, "page"), 1<<40))
				}
			},
			"measured":    func(t *rapid.T) { w.load(rapid.Bool().Draw(t, "pressed")) },
			"time passes": func(t *rapid.T) { w.pass(time.Duration(rapid.IntRange(1, 20000).Draw(t, "ms")) * time.Millisecond) },
		})

		w.sequence++
		w.release = "final"
		w.host = "final"
		w.do(w.pool.Learn(w.now, w.sequence, "final"))
		w.do(w.pool.Permit(w.now, "final"))
		w.settle()
		if len(w.open) != w.options.Min || len(w.warming) != 0 {
			t.Fatalf("%d open and %d warming pages in the end, want %d and 0: %+v", len(w.open), len(w.warming), w.options.Min, w.pool.Status())
		}
		for id, token := range w.open {
			if token != "final" {
				t.Fatalf("page %d is of %s in the end", id, token)
			}
		}
		for id := range w.asked {
			if !w.answered[id] {
				t.Fatalf("request %d was never answered", id)
			}
		}
		for id := range w.open {
			if !w.frozen[id] && w.options.MaxAge == 0 {
				t.Fatalf("page %d costs something in the end", id)
			}
		}
		if s := w.pool.Status(); s.Phase != words.PhaseFresh || s.Capacity != w.options.Min {
			t.Fatalf("status in the end: %+v", s)
		}

		// Invariant 4: the same token again, as a new release even, replaces no page.
		before := maps.Clone(w.closes)
		w.sequence++
		w.do(w.pool.Learn(w.now, w.sequence, "final"))
		w.do(w.pool.Permit(w.now, "final"))
		w.settle()
		for reason, n := range w.closes {
			if n != before[reason] && reason != pool.Aged {
				t.Fatalf("the same token closed %d pages: %s", n-before[reason], reason)
			}
		}
	})
}

// Work goes on all through a recycle: at every moment at least Size pages can
// take work, for the replacement is warm before the old page drains.
func TestModelWarmBeforeDrain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		w.sequence = 1
		w.do(w.pool.Learn(w.now, 1, "r1"))
		w.do(w.pool.Permit(w.now, "r1"))
		w.settle()
		w.host, w.sequence = "r2", 2
		w.do(w.pool.Learn(w.now, 2, "r2"))
		w.do(w.pool.Permit(w.now, "r2"))
		for w.pool.Status().Phase != words.PhaseFresh {
			if n := len(w.open); n < w.options.Min {
				t.Fatalf("only %d of %d pages during the recycle", n, w.options.Min)
			}
			if rapid.Bool().Draw(t, "submit") {
				w.submit("", pool.Owner{Affinity: words.Affinity{Type: words.AffinityRealm, Value: "a"}}, false, 0)
			}
			for _, id := range slices.Sorted(maps.Keys(w.warming)) {
				w.finishWarmUp(id)
			}
			if ids := slices.Sorted(maps.Keys(w.busy)); len(ids) > 0 && rapid.Bool().Draw(t, "finish") {
				w.finishRender(ids[0], true)
			}
			w.pass(100 * time.Millisecond)
		}
	})
}

// A server that may not move its pages yet still makes a page for work that is
// pinned to the new release, and moves no other page for it.
func TestPinnedWorkBeforeThePermission(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		w.do(w.pool.Learn(w.now, 1, "r1"))
		w.do(w.pool.Permit(w.now, "r1"))
		w.settle()
		w.host = "r2"
		w.do(w.pool.Learn(w.now, 2, "r2"))
		w.submit("r2", pool.Owner{Affinity: words.Affinity{Type: words.AffinityRealm, Value: "a"}}, false, 0)
		w.settleFor(200)
		s := w.pool.Status()
		if s.Pages["r1"] != w.options.Min || s.Pages["r2"] != 1 {
			t.Fatalf("pages %v, want %d old ones and one new", s.Pages, w.options.Min)
		}
		if s.Phase != words.PhaseWaiting {
			t.Fatalf("phase %s, want waiting", s.Phase)
		}
	})
}

// A pin that nothing can satisfy costs its caller a refusal and nobody else
// anything.
func TestUnknownPinHarmsNobody(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		w.do(w.pool.Learn(w.now, 1, "r1"))
		w.do(w.pool.Permit(w.now, "r1"))
		w.settle()
		for range 10 {
			w.submit("bogus", owners(t), false, 2)
		}
		w.host = "r2"
		w.do(w.pool.Learn(w.now, 2, "r2"))
		w.do(w.pool.Permit(w.now, "r2"))
		for range 60 {
			for _, id := range slices.Sorted(maps.Keys(w.warming)) {
				w.finishWarmUp(id)
			}
			w.pass(500 * time.Millisecond)
		}
		if s := w.pool.Status(); s.Phase != words.PhaseFresh || s.Pages["r2"] != s.Size || len(s.Pages) != 1 {
			t.Fatalf("the recycle did not finish beside a bogus pin: %+v", s)
		}
		w.settle()
		for id := range w.asked {
			if !w.answered[id] {
				t.Fatalf("request %d was never answered", id)
			}
		}
	})
}
