package pool_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rewarm/rewarm/internal/pool"
	"github.com/rewarm/rewarm/internal/words"
)

// Whatever wears pages out, and however busy they are, each is replaced, its
// replacement is warm first, and the pool has its size again.
func TestModelWornPagesAreReplaced(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		w.do(w.pool.Learn(w.now, 1, "r1"))
		w.do(w.pool.Permit(w.now, "r1"))
		for len(w.open) < w.options.Min {
			w.finishAll()
			w.pass(time.Second)
		}
		worn := slices.Sorted(maps.Keys(w.open))
		worn = worn[:rapid.IntRange(1, len(worn)).Draw(t, "worn")]
		for _, id := range worn {
			w.do(w.pool.Weigh(w.now, id, 1<<40))
		}
		for n := 0; slices.ContainsFunc(worn, func(id pool.PageID) bool { return !w.closed[id] }); n++ {
			if n > 100 {
				t.Fatalf("worn pages are still there: %v of %v", w.closed, worn)
			}
			if len(w.open) < w.options.Min {
				t.Fatalf("only %d of %d pages during the replacement", len(w.open), w.options.Min)
			}
			for range w.options.Size + 1 { // there is always somebody who waits
				w.submit("", pool.Owner{Affinity: words.Affinity{Type: words.AffinityRealm, Value: "a"}}, false, 0)
			}
			w.finishAll()
			w.pass(100 * time.Millisecond)
		}
		w.settle()
		if s := w.pool.Status(); s.Capacity != w.options.Min || s.Phase != words.PhaseFresh {
			t.Fatalf("status in the end: %+v", s)
		}
		if w.closes[pool.Grown] < len(worn) {
			t.Fatalf("%d pages were worn, closed for %v", len(worn), w.closes)
		}
	})
}

// A page that is worn out while it renders finishes; the phase stays fresh, so
// that no rollout waits for it.
func TestWornPageFinishesItsRender(t *testing.T) {
	p := warmPool(t, 1)
	old := kinds(submit(p, 1), pool.Grant)[0]
	fresh := kinds(p.Weigh(t0, old, 1<<40), pool.Warm)
	if len(fresh) != 1 {
		t.Fatalf("%d replacements are warmed", len(fresh))
	}
	if closed := kinds(p.Warmed(t0, fresh[0], "r1"), pool.Close); len(closed) != 0 {
		t.Fatalf("closed %v while it renders", closed)
	}
	if s := p.Status(); s.Phase != words.PhaseFresh || s.Capacity != 1 {
		t.Fatalf("status %+v", s)
	}
	actions := p.Done(t0, old, true)
	if len(actions) != 1 || actions[0].Page != old || actions[0].Reason != pool.Grown {
		t.Fatalf("%+v when its render ended", actions)
	}
}

// A page that goes for another reason is of its release all the same: a recycle
// is not done while it renders.
func TestW07_WornPageThatStillRendersIsNotFresh(t *testing.T) {
	p := warmPool(t, 1)
	old := kinds(submit(p, 1), pool.Grant)[0]
	fresh := kinds(p.Weigh(t0, old, 1<<40), pool.Warm)
	p.Warmed(t0, fresh[0], "r1")
	p.Learn(t0, 2, "r2")
	p.Warmed(t0, kinds(p.Permit(t0, "r2"), pool.Warm)[0], "r2")
	if s := p.Status(); s.Phase != words.PhaseRecycling || s.Pages["r1"] != 1 {
		t.Fatalf("status %+v while a page of r1 renders", s)
	}
	p.Done(t0, old, true)
	if s := p.Status(); s.Phase != words.PhaseFresh || s.Pages["r2"] != 1 || len(s.Pages) != 1 {
		t.Fatalf("status %+v in the end", s)
	}
}

// Pages that may not move to the current release are not moved by their age:
// what is warmed now would be of that release.
func TestWornPagesWaitForTheRecycle(t *testing.T) {
	p := warmPool(t, 2)
	p.Learn(t0, 2, "r2")
	old := t0.Add(2 * time.Hour)
	if actions := p.Tick(old); len(kinds(actions, pool.Warm))+len(kinds(actions, pool.Close)) != 0 {
		t.Fatalf("%+v though no page may move", actions)
	}
	warm := kinds(p.Permit(old, "r2"), pool.Warm)
	for n := 0; len(warm) > 0; n++ {
		if n == 2 {
			t.Fatal("worn pages were replaced twice")
		}
		warm = kinds(p.Warmed(old, warm[0], "r2"), pool.Warm)
	}
	if s := p.Status(); s.Phase != words.PhaseFresh || s.Pages["r2"] != 2 {
		t.Fatalf("status %+v", s)
	}
}

// Pages that were warmed together do not go together, none lives longer than it
// may, and the pool asks to be woken when the next is due.
func TestAgesAreSpread(t *testing.T) {
	p := warmPool(t, 8)
	gone := map[time.Time]int{}
	for now, n := t0, 0; n < 8; n++ {
		at, ok := p.NextTick(now)
		actions := p.Tick(at)
		for ok && len(kinds(actions, pool.Freeze)) > 0 {
			at, ok = p.NextTick(at)
			actions = p.Tick(at)
		}
		if !ok || at.Before(t0.Add(45*time.Minute)) || at.After(t0.Add(time.Hour)) {
			t.Fatalf("page %d is due at %v, %v", n, at.Sub(t0), ok)
		}
		now = at
		warm := kinds(actions, pool.Warm)
		if len(warm) != 1 {
			t.Fatalf("%d pages are warmed for one that is old", len(warm))
		}
		if closed := kinds(p.Warmed(now, warm[0], "r1"), pool.Close); len(closed) != 1 {
			t.Fatalf("closed %v", closed)
		}
		gone[now]++
	}
	if len(gone) != 8 {
		t.Fatalf("8 pages went at %d times", len(gone))
	}
}

// When the browser is replaced, every page is, and each replacement is warm first.
func TestModelMovedPagesAreReplaced(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		w.do(w.pool.Learn(w.now, 1, "r1"))
		w.do(w.pool.Permit(w.now, "r1"))
		for range rapid.IntRange(0, 20).Draw(t, "steps") {
			w.finishAll()
			w.pass(time.Second)
		}
		old := slices.Sorted(maps.Keys(w.open))
		w.do(w.pool.Move(w.now))
		for n := 0; slices.ContainsFunc(old, func(id pool.PageID) bool { return !w.closed[id] }); n++ {
			if n > 100 {
				t.Fatalf("moved pages are still there: %v of %v", w.closed, old)
			}
			if len(w.open) < min(w.options.Min, len(old)) {
				t.Fatalf("only %d of %d pages during the move", len(w.open), len(old))
			}
			w.finishAll()
			w.pass(100 * time.Millisecond)
		}
		w.settle()
		if s := w.pool.Status(); s.Capacity != w.options.Min || s.Phase != words.PhaseFresh {
			t.Fatalf("status in the end: %+v", s)
		}
	})
}
