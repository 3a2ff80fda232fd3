package pool_test

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rewarm/rewarm/internal/pool"
	"github.com/rewarm/rewarm/internal/words"
)

func ownedBy(name string) pool.Owner {
	return pool.Owner{Affinity: words.Affinity{Type: words.AffinityRealm, Value: name}}
}

// elastic is a pool of one page that may have four.
func elastic(t *testing.T, change func(*pool.Options)) *pool.Pool {
	t.Helper()
	o := pool.Options{Size: 4, Min: 1}
	if change != nil {
		change(&o)
	}
	p := pool.New(o)
	actions := slices.Concat(p.Learn(t0, 1, "r1"), p.Permit(t0, "r1"))
	if len(kinds(actions, pool.Warm)) != 1 {
		t.Fatalf("%+v at the start", actions)
	}
	p.Warmed(t0, 1, "r1")
	return p
}

// hold has the owner ask for n pages that are rendered on for long.
func hold(p *pool.Pool, now time.Time, o pool.Owner, first pool.RequestID, n int) {
	for i := range n {
		p.Submit(now, pool.Request{ID: first + pool.RequestID(i), Owner: o, Deadline: now.Add(time.Hour)})
	}
}

// warmAll warms what the pool wants warmed until it wants no more.
func warmAll(p *pool.Pool, now time.Time, first ...pool.Action) int {
	warmed := 0
	for warm := kinds(append(first, p.Tick(now)...), pool.Warm); len(warm) > 0; warmed++ {
		warm = kinds(p.Warmed(now, warm[0], "r1"), pool.Warm)
	}
	return warmed
}

func TestPoolGrowsWhenRequestsWait(t *testing.T) {
	p := elastic(t, nil)
	hold(p, t0, owner, 1, 6)
	if n := warmAll(p, t0); n != 0 {
		t.Fatalf("%d pages were warmed for a burst", n)
	}
	at, _ := p.NextTick(t0)
	if n := warmAll(p, at); n != 3 {
		t.Fatalf("%d pages were warmed for requests that waited %v, want 3", n, at.Sub(t0))
	}
	if s := p.Status(); s.Size != 4 || s.Capacity != 4 || s.Queued != 2 {
		t.Fatalf("status %+v", s)
	}
}

// More pages on processors that have nothing to spare make all of them slower.
func TestPoolDoesNotGrowOnABusyMachine(t *testing.T) {
	p := elastic(t, nil)
	p.Loaded(t0, pool.Load{Pressed: true})
	hold(p, t0, owner, 1, 6)
	if n := warmAll(p, t0.Add(time.Minute)); n != 0 {
		t.Fatalf("%d pages were warmed", n)
	}
	if warm := kinds(p.Loaded(t0.Add(time.Minute), pool.Load{}), pool.Warm); len(warm) != 1 {
		t.Fatalf("%d pages were warmed when the machine had time again", len(warm))
	}
}

// An owner without a page gets one beside the others while there is room.
func TestPoolGrowsRatherThanEvicts(t *testing.T) {
	p := elastic(t, nil)
	for n, name := range []string{"a", "b", "c", "d"} {
		warmAll(p, t0, p.Submit(t0, pool.Request{ID: pool.RequestID(n + 1), Owner: ownedBy(name), Deadline: t0.Add(time.Hour)})...)
		if s := p.Status(); s.Size != n+1 || s.Queued != 0 || len(s.Owners) != n+1 {
			t.Fatalf("status %+v with %d owners", s, n+1)
		}
	}
}

func TestPoolShrinksWhenItIsQuiet(t *testing.T) {
	p := elastic(t, nil)
	hold(p, t0, owner, 1, 4)
	now := t0.Add(time.Second)
	warmAll(p, now)
	for id := range 4 {
		p.Done(now, pool.PageID(id+1), true)
	}
	for n := 0; p.Status().Size > 1; n++ {
		at, ok := p.NextTick(now)
		if !ok || n > 10 {
			t.Fatalf("the pool does not shrink: %+v", p.Status())
		}
		now = at
		p.Tick(now)
	}
	if s := p.Status(); s.Capacity != 1 || now.Sub(t0) > 10*time.Minute {
		t.Fatalf("after %v: %+v", now.Sub(t0), s)
	}
}

// The pool has its size again after recycles, whatever size that is.
func TestW16_ElasticPoolReturnsToItsSize(t *testing.T) {
	p := elastic(t, nil)
	hold(p, t0, owner, 1, 4)
	now := t0.Add(time.Second)
	warmAll(p, now)
	for id := range 4 {
		p.Done(now, pool.PageID(id+1), true)
	}
	for n := uint64(2); n < 8; n++ { // a deploy a minute
		now = now.Add(time.Minute)
		token := words.Token(rune('a' + n))
		p.Learn(now, n, token)
		warm := kinds(p.Permit(now, token), pool.Warm)
		for len(warm) > 0 {
			warm = kinds(p.Warmed(now, warm[0], token), pool.Warm)
		}
		want := 4
		if now.Sub(t0) > 5*time.Minute {
			want = 1 // a recycle is no use of a page
		}
		if s := p.Status(); s.Phase != words.PhaseFresh || s.Capacity != want {
			t.Fatalf("after %v: %+v, want %d pages", now.Sub(t0), s, want)
		}
	}
}

// Memory bounds the growth, a page more for a recycle included, and takes pages
// back; the minimum and its recycle it does not bound.
func TestPoolKeepsItsBudget(t *testing.T) {
	p := elastic(t, func(o *pool.Options) { o.Memory = 600 << 20 })
	hold(p, t0, owner, 1, 10)
	now := t0.Add(time.Second)
	warmAll(p, now)
	if s := p.Status(); s.Size != 3 { // and one for a recycle: four of 128 MB
		t.Fatalf("status %+v", s)
	}
	warmAll(p, now, p.Loaded(now, pool.Load{Memory: 200 << 20})...) // they are smaller than was feared
	if s := p.Status(); s.Size != 4 {
		t.Fatalf("status %+v", s)
	}
	for range 4 {
		p.Loaded(now, pool.Load{Memory: 700 << 20})
	}
	for id := range 4 {
		p.Done(now, pool.PageID(id+1), true)
	}
	if s := p.Status(); s.Size != 1 || s.Capacity > 4 {
		t.Fatalf("status %+v over the budget", s)
	}
	p.Learn(now, 2, "r2")
	if warm := kinds(p.Permit(now, "r2"), pool.Warm); len(warm) != 1 {
		t.Fatalf("%d pages are warmed for a recycle over the budget: %+v", len(warm), p.Status())
	}
}

// An owner whose requests never end does not keep all pages from the others.
func TestModelNobodyStarves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		w.do(w.pool.Learn(w.now, 1, "r1"))
		w.do(w.pool.Permit(w.now, "r1"))
		w.settleFor(10)
		for range 10 {
			w.submit("", ownedBy("a"), false, 0)
		}
		w.submit("bogus", ownedBy("z"), false, rapid.IntRange(0, 2).Draw(t, "priority of what nobody can do"))
		w.submit("", ownedBy("b"), rapid.Bool().Draw(t, "isolated"), 0)
		waiting := w.next
		for n := 0; !w.answered[waiting]; n++ {
			if n > 40 {
				t.Fatalf("a request waits for ever: %+v", w.pool.Status())
			}
			w.finishAll()
			for range 3 {
				w.submit("", ownedBy("a"), false, 0)
			}
			w.pass(time.Second)
		}
	})
}
