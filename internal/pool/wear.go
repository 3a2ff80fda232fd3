package pool

import (
	"cmp"
	"time"
)

// Reason is why a page is closed.
type Reason string

// The reasons. The first five are those of a replacement.
const (
	Outdated Reason = "release" // of an older release than the permitted one
	Used     Reason = "uses"    // worn out by renders
	Aged     Reason = "age"     // by time
	Grown    Reason = "memory"  // by what was measured of it
	Moved    Reason = "browser" // its browser is being replaced
	Excess   Reason = "size"    // beyond the pool's size
	Evicted  Reason = "evicted" // for another owner's request
	Isolated Reason = "isolated"
	Broken   Reason = "broken" // not reusable after a render
	Dead     Reason = "dead"
	Drained  Reason = "drained"
)

// When a page is worn out, unless told otherwise.
const (
	// maxUses is for what no measurement shows: listeners and timers that an
	// application leaves behind at every route make each render a little slower.
	// A warm-up takes some hundred milliseconds of processor, so a thousand uses
	// pay below a millisecond each for it.
	maxUses = 1000
	// maxAge bounds what an application gathers while nothing is rendered.
	maxAge = time.Hour
	// maxMemory is a page's JavaScript heap, DOM and buffers. A large
	// application has a tenth of it after warming; V8 gives up at two to four
	// gigabytes, and long before that the machine swaps.
	maxMemory = 512 << 20
)

// Weigh tells what a page's memory was measured to be, in bytes.
func (p *Pool) Weigh(now time.Time, id PageID, bytes uint64) []Action {
	pg, ok := p.pages[id]
	if !ok || pg.state == warming || pg.worn != "" || bytes <= p.options.MaxMemory {
		return nil
	}
	pg.worn = Grown
	return p.schedule(now)
}

// Move tells that pages open in another browser from now on: those that are
// there, and those that are being warmed, are replaced.
func (p *Pool) Move(now time.Time) []Action {
	for _, pg := range p.pages {
		pg.worn = cmp.Or(pg.worn, Moved)
	}
	return p.schedule(now)
}

// wearOut marks the pages that are worn out by now.
func (p *Pool) wearOut(now time.Time) {
	for _, pg := range p.pages {
		switch {
		case pg.state == warming || pg.worn != "":
		case pg.uses >= p.options.MaxUses:
			pg.worn = Used
		case !now.Before(p.wornAt(pg)):
			pg.worn = Aged
		}
	}
}

// wornAt is when the page is too old: pages that were warmed together, at a
// start or a recycle, must not go together, so up to a quarter is taken off.
func (p *Pool) wornAt(pg *page) time.Time {
	return pg.warmedAt.Add(p.options.MaxAge - time.Duration(float64(p.options.MaxAge/4)*fraction(p.options.Seed^uint64(pg.id))))
}

// fraction is a number in [0, 1) that looks random (the mixing function of
// SplitMix64).
func fraction(x uint64) float64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return float64((x^x>>31)>>11) / (1 << 53)
}

// anyWorn reports whether a page is to be replaced because it is worn out. A
// recycle comes first and replaces worn pages with the others; and pages that
// may not move yet stay, for what is warmed now would be of the release that
// they may not move to.
func (p *Pool) anyWorn() bool {
	worn := 0
	for _, pg := range p.pages {
		switch {
		case p.behind(pg) || p.held(pg):
			return false
		case pg.state == warming && pg.purpose == forRenewal:
			worn--
		case pg.worn != "" && pg.retiring == "":
			worn++
		}
	}
	return worn > 0
}

// dispensable is why the pool can do without the page.
func (p *Pool) dispensable(pg *page) Reason {
	switch {
	case p.behind(pg):
		return Outdated
	case pg.worn != "":
		return pg.worn
	}
	return Excess
}
