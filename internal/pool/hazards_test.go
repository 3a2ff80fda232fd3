package pool_test

import (
	"slices"
	"testing"
	"time"

	"github.com/rewarm/rewarm/internal/pool"
	"github.com/rewarm/rewarm/internal/words"
)

var (
	t0    = time.Unix(1e9, 0)
	owner = pool.Owner{Affinity: words.Affinity{Type: words.AffinityRealm, Value: "a"}}
)

// kinds are the pages that actions of a kind are about.
func kinds(actions []pool.Action, kind pool.ActionKind) []pool.PageID {
	var pages []pool.PageID
	for _, a := range actions {
		if a.Kind == kind {
			pages = append(pages, a.Page)
		}
	}
	return pages
}

// warmPool is a pool of size pages of r1, which is current and permitted.
func warmPool(t *testing.T, size int) *pool.Pool {
	t.Helper()
	p := pool.New(pool.Options{Size: size})
	actions := slices.Concat(p.Learn(t0, 1, "r1"), p.Permit(t0, "r1"))
	for range size {
		warm := kinds(actions, pool.Warm)
		if len(warm) == 0 {
			break
		}
		actions = p.Warmed(t0, warm[0], "r1")
	}
	if got := p.Status().Capacity; p.Status().Idle != size || got != size {
		t.Fatalf("%d pages are warm, want %d", got, size)
	}
	return p
}

func submit(p *pool.Pool, id pool.RequestID) []pool.Action {
	return p.Submit(t0, pool.Request{ID: id, Owner: owner, Deadline: t0.Add(time.Minute)})
}

// A recycle is done when every page is of the release, not when one round of
// warm-ups has ended.
func TestW07_RecycleIsDoneWhenEveryPageIsOfTheRelease(t *testing.T) {
	p := warmPool(t, 2)
	granted := kinds(submit(p, 1), pool.Grant)[0]
	p.Learn(t0, 2, "r2")
	actions := p.Permit(t0, "r2")
	for range 4 { // everything warms at once, only the busy page stays
		warm := kinds(actions, pool.Warm)
		if len(warm) == 0 {
			break
		}
		actions = p.Warmed(t0, warm[0], "r2")
	}
	if s := p.Status(); s.Phase == words.PhaseFresh || s.Pages["r1"] != 1 {
		t.Fatalf("a page of r1 still renders, and the status is %+v", s)
	}
	if closed := kinds(p.Done(t0, granted, true), pool.Close); !slices.Contains(closed, granted) {
		t.Fatalf("the old page was not closed when its render ended: %v", closed)
	}
	if s := p.Status(); s.Phase != words.PhaseFresh || s.Pages["r2"] != 2 {
		t.Fatalf("status %+v after the last page of r1 has gone", s)
	}
}

// A page that is on its way out takes no more work, and one that renders is not
// closed before its render has ended.
func TestW11_NoLeaseOnAPageThatIsGoing(t *testing.T) {
	p := warmPool(t, 1)
	old := kinds(submit(p, 1), pool.Grant)[0]
	p.Learn(t0, 2, "r2")
	fresh := kinds(p.Permit(t0, "r2"), pool.Warm)[0]
	actions := p.Warmed(t0, fresh, "r2")
	if closed := kinds(actions, pool.Close); len(closed) != 0 {
		t.Fatalf("pages %v were closed while the old one renders", closed)
	}
	if got := kinds(submit(p, 2), pool.Grant); !slices.Equal(got, []pool.PageID{fresh}) {
		t.Fatalf("new work went to %v, want page %d", got, fresh)
	}
	if got := kinds(submit(p, 3), pool.Grant); len(got) != 0 {
		t.Fatalf("work went to %v though no page is free", got)
	}
	actions = p.Done(t0, old, true)
	if got := kinds(actions, pool.Close); !slices.Equal(got, []pool.PageID{old}) {
		t.Fatalf("closed %v when the old render ended, want %d", got, old)
	}
	if got := kinds(actions, pool.Grant); len(got) != 0 {
		t.Fatalf("the old page was granted again: %v", got)
	}
}

// Permissions are counted from what is, never reset: after recycles under load
// the pool has its size again.
func TestW16_PoolHasItsSizeAfterRecycles(t *testing.T) {
	p := warmPool(t, 3)
	for n := uint64(2); n < 12; n++ {
		token := words.Token(rune('a' + n))
		granted := kinds(submit(p, pool.RequestID(n)), pool.Grant)
		p.Learn(t0, n, token)
		actions := p.Permit(t0, token)
		for range 10 {
			warm := kinds(actions, pool.Warm)
			actions = nil
			if len(warm) > 0 {
				actions = p.Warmed(t0, warm[0], token)
			} else if len(granted) > 0 {
				actions = p.Done(t0, granted[0], true)
				granted = nil
			}
		}
		if s := p.Status(); s.Capacity != 3 || s.Pages[token] != 3 || s.Warming != 0 {
			t.Fatalf("after recycle %d: %+v", n, s)
		}
	}
}

// What may be warmed or granted is counted from the pages that there are, so an
// event that comes late, twice or for a page that is gone gives no permit away.
func TestW17_LateAndRepeatedEventsGiveNoPermits(t *testing.T) {
	p := warmPool(t, 2)
	one, two := kinds(submit(p, 1), pool.Grant)[0], kinds(submit(p, 2), pool.Grant)[0]
	replaced := kinds(p.Gone(t0, one), pool.Warm)
	if len(replaced) != 1 {
		t.Fatalf("%d warm-ups for one dead page", len(replaced))
	}
	for range 3 {
		var actions []pool.Action
		actions = append(actions, p.Done(t0, one, true)...) // its render ends after its death
		actions = append(actions, p.Gone(t0, one)...)
		actions = append(actions, p.Warmed(t0, two, "r1")...) // it is busy, not warming
		actions = append(actions, p.WarmFailed(t0, two, "late", false)...)
		if len(actions) != 0 {
			t.Fatalf("late events led to %+v", actions)
		}
	}
	p.Warmed(t0, replaced[0], "r1")
	p.Done(t0, two, true)
	if s := p.Status(); s.Capacity != 2 || s.Idle != 2 || s.Warming != 0 {
		t.Fatalf("status %+v, want two idle pages", s)
	}
}

// A failed warm-up is no success: no capacity comes of it, and after a few the
// phase says failed, with the reason.
func TestW18_FailedWarmUpsAreNotCapacity(t *testing.T) {
	p := pool.New(pool.Options{Size: 2})
	now := t0
	actions := slices.Concat(p.Learn(now, 1, "r1"), p.Permit(now, "r1"))
	for range 3 {
		warm := kinds(actions, pool.Warm)
		p.WarmFailed(now, warm[0], "script missing", false)
		now = now.Add(10 * time.Second)
		actions = p.Tick(now)
	}
	s := p.Status()
	if s.Capacity != 0 || s.Phase != words.PhaseFailed || s.Detail != "script missing" {
		t.Fatalf("status %+v", s)
	}
	p.Warmed(now, kinds(actions, pool.Warm)[0], "r1")
	if s := p.Status(); s.Capacity != 1 || s.Phase == words.PhaseFailed {
		t.Fatalf("status %+v after a warm-up that worked", s)
	}
}

// A page for which the host serves an old shell is asked for again with growing
// pauses, and nothing is closed meanwhile.
func TestW04_OldShellIsAskedForAgain(t *testing.T) {
	p := warmPool(t, 1)
	p.Learn(t0, 2, "r2")
	now := t0
	actions := p.Permit(now, "r2")
	pause := time.Duration(0)
	for range 5 {
		warm := kinds(actions, pool.Warm)
		if len(warm) != 1 {
			t.Fatalf("%d warm-ups, want 1", len(warm))
		}
		if p.Accepts(warm[0], "r1") {
			t.Fatal("the old shell was accepted as the replacement")
		}
		if closed := kinds(p.WarmFailed(now, warm[0], "the host still serves release r1", true), pool.Close); len(closed) != 0 {
			t.Fatalf("closed %v while waiting", closed)
		}
		if s := p.Status(); s.Phase != words.PhaseWaiting || s.Detail == "" || s.Capacity != 1 {
			t.Fatalf("status %+v while waiting", s)
		}
		at, ok := p.NextTick(now)
		if !ok || at.Sub(now) <= pause {
			t.Fatalf("next try after %v, %v; the one before waited %v", at.Sub(now), ok, pause)
		}
		pause = at.Sub(now)
		now = at
		actions = p.Tick(now)
	}
	warm := kinds(actions, pool.Warm)
	if !p.Accepts(warm[0], "r2") {
		t.Fatal("the new shell was not accepted")
	}
}

// A third token during a recycle aims at the newest: what is warmed for the
// second is not waited for.
func TestThirdTokenDuringARecycleAimsAtTheNewest(t *testing.T) {
	p := warmPool(t, 2)
	p.Learn(t0, 2, "r2")
	warm := kinds(p.Permit(t0, "r2"), pool.Warm)
	p.Learn(t0, 3, "r3")
	p.Permit(t0, "r3")
	if p.Accepts(warm[0], "r2") {
		t.Fatal("a shell of r2 was accepted after r3")
	}
	if !p.Accepts(warm[0], "r3") {
		t.Fatal("a shell of r3 was refused")
	}
}
