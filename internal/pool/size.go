package pool

import (
	"slices"
	"time"
)

// How the size follows the work.
const (
	// patience is how long a request waits before a page more is warmed for it,
	// or taken from another owner who keeps it busy: ten usual renders. A burst
	// of a few is over by then.
	patience = 500 * time.Millisecond
	// quiet is how long a page was not needed before the pool shrinks by it: a
	// warm-up costs what ten renders do, and crawlers pause for minutes.
	quiet = 5 * time.Minute
	// pageCost is what a page more is taken to need, in bytes: a renderer
	// process of its own, of which one with a small host in it takes 25 MB, and
	// its part of the graphics process, half of that; times three for a large
	// application. What it really takes is in the next measurement.
	pageCost = 128 << 20
)

// Load is how the machine stands.
type Load struct {
	// Memory is what the browser takes with all its processes, in bytes; 0 when
	// that is not known.
	Memory uint64
	// Pressed says that the processors have nothing to spare: a page more would
	// only make all of them slower.
	Pressed bool
}

// Loaded tells how the machine stands. Over the budget the pool shrinks by a
// page each time it is told so.
func (p *Pool) Loaded(now time.Time, l Load) []Action {
	p.pressed = l.Pressed
	if l.Memory > 0 {
		p.memory, p.measured = l.Memory, len(p.pages)-p.warming()
	}
	if over := p.options.Memory > 0 && l.Memory > p.options.Memory; over && p.size > p.options.Min {
		p.size--
	}
	return p.schedule(now)
}

// affords reports whether so many pages are within the budget: by what was
// measured last, and for those that are more, by what a page may need.
func (p *Pool) affords(pages int) bool {
	return p.options.Memory == 0 || p.memory+uint64(max(0, pages-p.measured))*pageCost <= p.options.Memory
}

// fits reports whether so many pages may be there while pages are replaced. The
// least that was asked for can always be recycled, whatever the budget.
func (p *Pool) fits(pages int) bool {
	return pages <= p.options.Min+2*p.options.Surge || p.affords(pages)
}

// roomBeside reports whether a page may be warmed beside one that is to go. One
// that renders to its end still takes memory; and one that is stuck in a long
// render must not stop the recycle of the others.
func (p *Pool) roomBeside() bool {
	return len(p.pages) < p.size+2*p.options.Surge && p.fits(len(p.pages)+1)
}

// mayExceed reports whether a page beyond the size may be warmed.
func (p *Pool) mayExceed() bool {
	return p.live()+p.warming() < p.size+p.options.Surge && p.roomBeside()
}

// resize lets the size follow the work. It grows by one page at a time, once
// the one before is warm, and shrinks by each page that was not needed for
// long.
func (p *Pool) resize(now time.Time) []Action {
	full := p.live() >= p.size
	switch {
	case full && p.size > p.options.Min && (p.anyBehind() || p.anyWorn()) && !p.fits(len(p.pages)+1):
		p.size-- // room for what replaces them
	case full && p.size < p.options.Size && p.warming() == 0 && p.affords(p.size+1+p.options.Surge) && p.wantsMore(now):
		p.size++
	}
	var actions []Action
	for _, pg := range p.sorted() {
		if p.size > p.options.Min && p.live() >= p.size && pg.state == idle && pg.retiring == "" &&
			!p.behind(pg) && !p.held(pg) && !now.Before(pg.lastUsed.Add(quiet)) {
			p.size--
			actions = append(actions, p.close(pg, Excess)...)
		}
	}
	return actions
}

// wantsMore reports whether a page more would help a request that waits: no
// page there is will ever serve it, or those that could have long been busy and
// the processors have not.
func (p *Pool) wantsMore(now time.Time) bool {
	helps := func(r *Request) bool { return r.Depth == 0 && p.stockServes(r) }
	return slices.ContainsFunc(p.unserved(), helps) || !p.pressed && slices.ContainsFunc(p.queue, func(r *Request) bool {
		return helps(r) && p.patienceOver(r, now)
	})
}

// stockServes reports whether a page that is warmed now, on what the host is
// expected to serve, suits r.
func (p *Pool) stockServes(r *Request) bool {
	pin := p.pin(r)
	return pin == "" || pin == p.current.Token
}

func (p *Pool) patienceOver(r *Request, now time.Time) bool {
	return !now.Before(r.arrived.Add(patience))
}
