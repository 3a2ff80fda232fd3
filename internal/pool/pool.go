// Package pool decides what a prerender server's warm pages do: which page a
// render gets, which page is warmed, which is closed, and how a recycle moves
// all of them to another release. It is a pure state machine: every method
// takes what happened and when, and returns what to do about it. The caller
// carries that out and tells the pool how it went.
//
// A page is of one release for its life. While an old page and its replacement
// both live, the pool holds one page more than its size; no page that renders
// is ever closed. A page that is worn out is replaced in the same way, when
// nothing else is to be done.
package pool

import (
	"cmp"
	"slices"
	"time"

	"github.com/rewarm/rewarm/internal/words"
)

// PageID names a page for the life of the pool; never used twice.
type PageID uint64

// RequestID names a request for a page; the caller chooses it, once.
type RequestID uint64

// Owner is what a page is kept for. Pages are never shared between owners, so
// neither affinities nor credentials ever meet in a browser context. The zero
// Owner is that of a standby.
type Owner struct {
	Affinity words.Affinity
	AuthHash string // "" without credentials
}

// Options are the pool's bounds. Zero fields take the defaults in brackets.
type Options struct {
	// Size is how many pages are kept warm at the most [4], Min how few in quiet
	// times [Size]. In between the size follows the work.
	Size int
	Min  int
	// Memory bounds the growth above Min: what the browser may take with all its
	// pages, those of a recycle too, in bytes [unbounded].
	Memory uint64
	// Surge is how many pages more there may be while pages are replaced [1].
	// Each costs the memory of a page; more make a recycle shorter.
	Surge int
	// Warming is how many pages are warmed at a time [1]: warming is bound by
	// the processor, and two at once delay the first that callers wait for.
	Warming int
	// Queue is how many requests may wait for a page [64].
	Queue int
	// PerOwner is how many pages one owner may have [Size].
	PerOwner int

	// MaxUses, MaxAge and MaxMemory are when a page is worn out: by renders,
	// by time, by what was measured of it in bytes. See [Pool.Weigh].
	MaxUses   int
	MaxAge    time.Duration
	MaxMemory uint64
	// Seed spreads the ages at which pages are replaced.
	Seed uint64
}

func (o Options) withDefaults() Options {
	o.Size = cmp.Or(max(o.Size, 0), 4)
	o.Min = min(cmp.Or(max(o.Min, 0), o.Size), o.Size)
	o.Surge = cmp.Or(max(o.Surge, 0), 1)
	o.Warming = cmp.Or(max(o.Warming, 0), 1)
	o.Queue = cmp.Or(max(o.Queue, 0), 64)
	o.PerOwner = cmp.Or(max(o.PerOwner, 0), o.Size)
	o.MaxUses = cmp.Or(max(o.MaxUses, 0), maxUses)
	o.MaxAge = cmp.Or(max(o.MaxAge, 0), maxAge)
	o.MaxMemory = cmp.Or(o.MaxMemory, maxMemory)
	return o
}

// Request asks for a page.
type Request struct {
	ID       RequestID
	Owner    Owner
	Priority int
	// Pin is the token the page must have; "" takes any.
	Pin words.Token
	// Current wants a page of the newest release heard, whatever it is by then.
	Current bool
	// Isolated wants a page that nobody used and nobody will use again.
	Isolated bool
	// Depth is how many renders wait for this one, each for the next: 0 for
	// none. They hold pages until it is done, so it is queued before what nobody
	// holds a page for, whatever its priority, and has a page beyond the size
	// for each of its depth if need be.
	Depth int
	// Deadline is when waiting for a page is no longer worth it.
	Deadline time.Time

	arrived time.Time
	order   int // of arrival, among equals
}

// Pool is the state machine. It is not safe for concurrent use: its caller
// holds a lock around every call.
type Pool struct {
	options  Options
	size     int // how many pages are kept now, between Min and Size
	pages    map[PageID]*page
	queue    []*Request // sorted: depth, priority, arrival
	evicted  map[RequestID]bool
	nextPage PageID
	arrivals int
	draining bool

	current   words.Release // newest heard: Sequence and Token only
	permitted words.Token
	sequences map[words.Token]uint64 // of each token heard as a release

	backoff [purposes]backoff
	pace    time.Duration // moving average of how long a page is busy

	pressed  bool   // the processors have nothing to spare
	memory   uint64 // what the browser took when that was measured last,
	measured int    // with so many pages
}

// New returns an empty pool; the first Tick starts its warm-ups.
func New(options Options) *Pool {
	options = options.withDefaults()
	return &Pool{
		options:   options,
		size:      options.Min,
		pages:     map[PageID]*page{},
		evicted:   map[RequestID]bool{},
		sequences: map[words.Token]uint64{},
	}
}

// Learn tells of a release. One older than the newest heard changes nothing.
func (p *Pool) Learn(now time.Time, sequence uint64, token words.Token) []Action {
	if sequence <= p.current.Sequence {
		return nil
	}
	p.current = words.Release{Sequence: sequence, Token: token}
	p.sequences[token] = sequence
	p.forgetOldTokens()
	p.retryNow()
	return p.schedule(now)
}

// Permit tells the token that existing pages may move to now. A release older
// than the one already permitted changes nothing: orders may overtake each other.
func (p *Pool) Permit(now time.Time, token words.Token) []Action {
	if token == p.permitted || token == "" || p.sequence(token) < p.sequence(p.permitted) {
		return nil
	}
	p.permitted = token
	p.retryNow()
	return p.schedule(now)
}

// Submit asks for a page: granted now, later, or refused.
func (p *Pool) Submit(now time.Time, r Request) []Action {
	if !now.Before(r.Deadline) {
		return []Action{{Kind: Refuse, Request: r.ID}}
	}
	turn := p.turn(r.Priority)
	if p.draining || r.Depth == 0 && (len(p.queue) >= p.options.Queue || now.Add(turn).After(r.Deadline)) {
		return []Action{{Kind: Refuse, Request: r.ID, Full: true, RetryAfter: turn}}
	}
	p.arrivals++
	r.order, r.arrived = p.arrivals, now
	at, _ := slices.BinarySearchFunc(p.queue, &r, func(a, b *Request) int {
		return cmp.Or(cmp.Compare(b.Depth, a.Depth), cmp.Compare(b.Priority, a.Priority), cmp.Compare(a.order, b.order))
	})
	p.queue = slices.Insert(p.queue, at, &r)
	return p.schedule(now)
}

// Cancel takes back a request that was not granted yet.
func (p *Pool) Cancel(now time.Time, id RequestID) []Action {
	p.dequeue(id)
	return p.schedule(now)
}

// Warmed tells that a page is warm and of which token its document is.
func (p *Pool) Warmed(now time.Time, id PageID, token words.Token) []Action {
	pg, ok := p.pages[id]
	if !ok {
		return []Action{{Kind: Close, Page: id, Reason: Drained}} // given up meanwhile
	}
	if pg.state != warming {
		return nil
	}
	lastUsed := now
	if pg.purpose == forRecycle || pg.purpose == forRenewal {
		// It is needed no more than the page that goes for it.
		if old := p.mostDispensable(); old != nil && old.state == idle {
			lastUsed = old.lastUsed
		}
	}
	pg.state, pg.token, pg.lastUsed, pg.depth = idle, token, lastUsed, 0
	pg.warmedAt, pg.idleSince = now, now
	p.backoff[pg.purpose] = backoff{}
	return p.schedule(now)
}

// Backoff bounds of warm-ups that did not succeed. The first retry is quick
// because most hosts are back within a second; the last is often enough that a
// host's recovery is noticed while somebody watches.
const (
	backoffMin = 250 * time.Millisecond
	backoffMax = 5 * time.Second
)

// WarmFailed tells that a page could not be warmed, and why. waiting says that
// nothing is broken: the host still serves an old shell, and is asked again.
func (p *Pool) WarmFailed(now time.Time, id PageID, detail string, waiting bool) []Action {
	pg, ok := p.pages[id]
	if !ok || pg.state != warming {
		return nil
	}
	delete(p.pages, id)
	b := &p.backoff[pg.purpose]
	if waiting {
		b.waits++
	} else {
		b.failures++
	}
	b.detail = detail
	b.retryAt = now.Add(min(backoffMax, backoffMin<<min(b.failures+b.waits-1, 10)))
	return p.schedule(now)
}

// Done tells that a granted page has finished its render. A page that is not
// reusable is closed and replaced.
func (p *Pool) Done(now time.Time, id PageID, reusable bool) []Action {
	pg, ok := p.pages[id]
	if !ok || pg.state != busy {
		return nil // gone meanwhile
	}
	p.learnPace(now.Sub(pg.since))
	depth := pg.depth
	pg.state, pg.lastUsed, pg.idleSince, pg.request, pg.depth = idle, now, now, 0, 0
	pg.uses++
	var actions []Action
	switch {
	case p.draining:
		actions = p.close(pg, Drained)
	case pg.isolated:
		actions = p.close(pg, Isolated)
	case !reusable:
		actions = p.close(pg, Broken)
	case pg.retiring != "":
		actions = p.close(pg, pg.retiring)
	case p.isReserve(pg, depth):
		actions = p.close(pg, Excess)
	}
	return append(actions, p.schedule(now)...)
}

// Gone tells that a page died by itself. Its render, if any, is the caller's
// to submit again.
func (p *Pool) Gone(now time.Time, id PageID) []Action {
	pg, ok := p.pages[id]
	if !ok {
		return nil
	}
	return append(p.close(pg, Dead), p.schedule(now)...)
}

// Tick lets time pass: requests past their deadline are refused, warm-ups that
// waited begin.
func (p *Pool) Tick(now time.Time) []Action {
	var actions []Action
	for _, r := range slices.Clone(p.queue) {
		if !now.Before(r.Deadline) {
			p.dequeue(r.ID)
			actions = append(actions, Action{Kind: Refuse, Request: r.ID})
		}
	}
	return append(actions, p.schedule(now)...)
}

// Drain closes idle pages, refuses what waits, and takes no more work.
func (p *Pool) Drain(now time.Time) []Action {
	p.draining = true
	var actions []Action
	for _, r := range p.queue {
		actions = append(actions, Action{Kind: Refuse, Request: r.ID, Full: true})
	}
	p.queue = nil
	for _, pg := range p.sorted() {
		if pg.state != busy {
			actions = append(actions, p.close(pg, Drained)...)
		}
	}
	return actions
}

// NextTick is when Tick must be called at the latest; ok is false when nothing
// waits for time.
func (p *Pool) NextTick(now time.Time) (at time.Time, ok bool) {
	sooner := func(t time.Time) {
		if t.After(now) && (!ok || t.Before(at)) {
			at, ok = t, true
		}
	}
	for _, b := range p.backoff {
		sooner(b.retryAt)
	}
	for _, r := range p.queue {
		sooner(r.Deadline)
		sooner(r.arrived.Add(patience))
	}
	for _, pg := range p.pages {
		if pg.state == warming {
			continue
		}
		sooner(p.wornAt(pg))
		if pg.state == idle && !pg.frozen {
			sooner(pg.idleSince.Add(restAfter))
		}
		if p.size > p.options.Min {
			sooner(pg.lastUsed.Add(quiet))
		}
	}
	return at, ok
}

// turn estimates how long a new request of the priority waits for a page: what
// is queued before it, at the pace of late, over all pages. It is zero while
// nothing waits, so an estimate that is off refuses nobody on an idle server.
func (p *Pool) turn(priority int) time.Duration {
	ahead := 0
	for _, r := range p.queue {
		if r.Priority >= priority {
			ahead++
		}
	}
	return p.pace * time.Duration(ahead) / time.Duration(p.size)
}

// learnPace weighs the last render by an eighth: a few slow ones do not turn
// callers away, a slow application does after a dozen.
func (p *Pool) learnPace(took time.Duration) {
	if p.pace == 0 {
		p.pace = took
	}
	p.pace += (took - p.pace) / 8
}

func (p *Pool) dequeue(id RequestID) {
	p.queue = slices.DeleteFunc(p.queue, func(r *Request) bool { return r.ID == id })
	delete(p.evicted, id)
}

func (p *Pool) close(pg *page, why Reason) []Action {
	delete(p.pages, pg.id)
	return []Action{{Kind: Close, Page: pg.id, Reason: why}}
}

func (p *Pool) retryNow() {
	p.backoff = [purposes]backoff{}
}

// forgetOldTokens bounds what is remembered of history: tokens that no page
// has and that are far behind need no order any more.
func (p *Pool) forgetOldTokens() {
	const remembered = 64
	for token, sequence := range p.sequences {
		if sequence+remembered < p.current.Sequence && !slices.ContainsFunc(p.sorted(), func(pg *page) bool { return pg.token == token }) {
			delete(p.sequences, token)
		}
	}
}

// sorted are the pages in the order they were made, so that decisions do not
// depend on the order of a map.
func (p *Pool) sorted() []*page {
	pages := make([]*page, 0, len(p.pages))
	for _, pg := range p.pages {
		pages = append(pages, pg)
	}
	slices.SortFunc(pages, func(a, b *page) int { return cmp.Compare(a.id, b.id) })
	return pages
}
