package pool

import (
	"slices"
	"time"

	"github.com/rewarm/rewarm/internal/words"
)

// schedule brings the pool from what is to what should be. Every event ends
// here, so each rule stands in one place and none depends on which event came
// before.
func (p *Pool) schedule(now time.Time) []Action {
	if p.draining {
		return nil
	}
	p.wearOut(now)
	actions := p.grant(now)
	actions = append(actions, p.resize(now)...)
	actions = append(actions, p.retire()...)
	actions = append(actions, p.warm(now)...)
	return append(actions, p.freeze(now)...)
}

// restAfter is how long a page is idle before it is frozen: longer than a host
// takes to fetch ahead what it may need later, and than callers who come one
// after another leave between them.
const restAfter = 10 * time.Second

// freeze lets pages rest that nobody needs: what animates or polls there costs
// the pages that render.
func (p *Pool) freeze(now time.Time) []Action {
	var actions []Action
	for _, pg := range p.sorted() {
		if pg.state == idle && !pg.frozen && !now.Before(pg.idleSince.Add(restAfter)) {
			pg.frozen = true
			actions = append(actions, Action{Kind: Freeze, Page: pg.id})
		}
	}
	return actions
}

// grant gives idle pages to waiting requests, the most urgent first.
func (p *Pool) grant(now time.Time) []Action {
	var actions []Action
	for _, r := range slices.Clone(p.queue) {
		pg := p.pageFor(r)
		if pg == nil {
			continue
		}
		reused := pg.owner == r.Owner && pg.uses > 0
		pg.state, pg.owner, pg.request, pg.since, pg.isolated, pg.depth = busy, r.Owner, r.ID, now, r.Isolated, r.Depth
		actions = append(actions, Action{
			Kind: Grant, Page: pg.id, Request: r.ID, Owner: r.Owner, Reused: reused, Evicted: p.evicted[r.ID], Frozen: pg.frozen,
		})
		pg.frozen = false
		p.dequeue(r.ID)
	}
	return actions
}

// pageFor is the best idle page for r: of the newest release first, then one
// that serves the owner already, then a standby; nil if there is none.
func (p *Pool) pageFor(r *Request) *page {
	var best *page
	for _, pg := range p.sorted() {
		if !p.suits(pg, r) {
			continue
		}
		if best == nil || p.better(pg, best) {
			best = pg
		}
	}
	return best
}

// pin is the token that a page for r must have, "" for any.
func (p *Pool) pin(r *Request) words.Token {
	if r.Current {
		return p.current.Token
	}
	return r.Pin
}

func (p *Pool) suits(pg *page, r *Request) bool {
	if pin := p.pin(r); pg.state != idle || pg.retiring != "" || pin != "" && pg.token != pin {
		return false
	}
	if r.Isolated {
		return pg.owner == (Owner{})
	}
	return pg.owner == r.Owner || pg.owner == (Owner{}) && p.mayOwn(r, pg.token)
}

// mayOwn reports whether the request's owner may have one more page of the
// token. Pages of other releases do not count, or a full owner could never be
// recycled; nor do those that render what its own renders wait for.
func (p *Pool) mayOwn(r *Request, token words.Token) bool {
	n := 0
	for _, pg := range p.pages {
		if pg.state != warming && pg.owner == r.Owner && pg.token == token && !pg.isolated && pg.depth == 0 {
			n++
		}
	}
	return n < p.options.PerOwner || r.Depth > 0
}

func (p *Pool) better(a, b *page) bool {
	if sa, sb := p.sequence(a.token), p.sequence(b.token); sa != sb {
		return sa > sb
	}
	if aOwned, bOwned := a.owner != (Owner{}), b.owner != (Owner{}); aOwned != bOwned {
		return aOwned
	}
	return a.lastUsed.After(b.lastUsed) // the most recently used stays warm, the others can go
}

// retire closes pages beyond the pool's size: first those of an older release
// than the permitted one, then those that are worn out, then standbys, then the
// least recently used. One that renders is marked, and closed when it is done:
// were it left alone, the next request would have it. Pages that may not move
// yet are kept beside the extra one that a pin needed: closing them would be
// moving them.
func (p *Pool) retire() []Action {
	limit := p.size + p.nested()
	if p.anyHeld() {
		limit += p.options.Surge
	}
	var actions []Action
	for p.live() > limit {
		pg := p.mostDispensable()
		if pg == nil {
			break
		}
		if pg.state == idle {
			actions = append(actions, p.close(pg, p.dispensable(pg))...)
			continue
		}
		pg.retiring = p.dispensable(pg)
	}
	return actions
}

// mostDispensable is the page to lose next, nil for none.
func (p *Pool) mostDispensable() *page {
	var best *page
	for _, pg := range p.sorted() {
		if pg.state == warming || pg.retiring != "" {
			continue
		}
		if best == nil || p.lessNeeded(pg, best) {
			best = pg
		}
	}
	return best
}

func (p *Pool) lessNeeded(a, b *page) bool {
	if x, y := p.behind(a), p.behind(b); x != y {
		return x
	}
	if x, y := a.worn != "", b.worn != ""; x != y {
		return x
	}
	if a.state != b.state {
		return a.state == idle
	}
	if x, y := p.sequence(a.token), p.sequence(b.token); x != y {
		return x < y
	}
	if x, y := a.owner == (Owner{}), b.owner == (Owner{}); x != y {
		return x
	}
	return a.lastUsed.Before(b.lastUsed)
}

// warm begins the warm-ups that are due.
func (p *Pool) warm(now time.Time) []Action {
	var actions []Action
	for p.warming() < p.options.Warming {
		pg, r := p.nextWarmUp(now)
		if pg == nil {
			break
		}
		if r != nil {
			victim := p.evictee(r, now)
			if victim == nil {
				break
			}
			p.evicted[r.ID] = true
			if victim.state == busy {
				victim.retiring = Evicted
			} else {
				actions = append(actions, p.close(victim, Evicted)...)
			}
		}
		p.nextPage++
		pg.id, pg.state, pg.lastUsed = p.nextPage, warming, now
		p.pages[pg.id] = pg
		actions = append(actions, Action{Kind: Warm, Page: pg.id})
	}
	return actions
}

// nextWarmUp is the most useful page to warm now, nil for none; and the request
// that another page has to go for, if there is one.
func (p *Pool) nextWarmUp(now time.Time) (*page, *Request) {
	due := func(w purpose) bool { return !now.Before(p.backoff[w].retryAt) }
	total, waiting := p.live()+p.warming(), p.unserved()
	if pg := p.nestedWarmUp(waiting, due); pg != nil {
		return pg, nil
	}
	if total < p.size && len(p.pages) < p.size+2*p.options.Surge && due(forStock) {
		return &page{purpose: forStock}, nil
	}
	if p.anyBehind() && p.mayExceed() && due(forRecycle) {
		return &page{purpose: forRecycle}, nil
	}
	for _, r := range waiting {
		if pin := p.pin(r); pin != "" && p.mayExceed() && due(forPin) {
			return &page{purpose: forPin, pin: pin}, nil
		}
		// A page is closed for a request only if what replaces it can serve it.
		if p.stockServes(r) && due(forStock) {
			return &page{purpose: forStock}, r
		}
	}
	if p.anyWorn() && p.mayExceed() && due(forRenewal) {
		return &page{purpose: forRenewal}, nil
	}
	return nil, nil
}

// Accepts reports whether page id, which is being warmed, may be opened on a
// shell with the token. If not, the host still serves something else: call
// WarmFailed with waiting, and the pool asks again later.
func (p *Pool) Accepts(id PageID, token words.Token) bool {
	pg, ok := p.pages[id]
	if !ok || pg.state != warming {
		return false
	}
	known, permitted := p.sequence(token), p.sequence(p.permitted)
	switch pg.purpose {
	case forPin:
		return token == pg.pin
	case forRecycle, forRenewal:
		return known >= permitted // an unknown token replaces nothing
	default:
		return known == 0 || known >= permitted
	}
}

// unserved are the waiting requests that no page, not even one that is busy or
// warming now, will be able to serve; the most urgent first.
func (p *Pool) unserved() (all []*Request) {
	promised, pages := map[PageID]bool{}, p.sorted()
	for _, r := range p.queue {
		served := false
		for _, pg := range pages {
			if !promised[pg.id] && p.willSuit(pg, r) {
				promised[pg.id] = pg.state == warming // a warming page serves one; a busy one serves its owner for ever
				served = true
				break
			}
		}
		if !served {
			all = append(all, r)
		}
	}
	return all
}

func (p *Pool) willSuit(pg *page, r *Request) bool {
	pin := p.pin(r)
	switch {
	case pg.retiring != "" || pg.isolated || pg.state != warming && pin != "" && pg.token != pin:
		return false
	case pg.state == busy && r.Depth > 0:
		return false // it may be the one that waits for this
	case pg.owner == r.Owner && !r.Isolated:
		return true
	case pg.state == warming:
		return pin == "" || pin == p.current.Token || pin == pg.pin
	}
	return pg.state == idle && pg.owner == (Owner{}) && (r.Isolated || p.mayOwn(r, pg.token))
}

// evictee is the page that has to go for a request that has none and for which
// there is no room: the idle page that is needed least. When all render and the
// request has waited long, it is one that nobody before it in the queue waits
// for, and that goes when its render ends: its owner could keep it for ever.
func (p *Pool) evictee(r *Request, now time.Time) *page {
	var best, later *page
	for _, pg := range p.sorted() {
		switch {
		case pg.retiring != "" || pg.state == warming:
		case pg.state == idle && (best == nil || p.lessNeeded(pg, best)):
			best = pg
		case pg.state == busy && p.yields(pg, r, now) && (later == nil || p.lessNeeded(pg, later)):
			later = pg
		}
	}
	if best == nil {
		best = later
	}
	return best
}

func (p *Pool) yields(pg *page, r *Request, now time.Time) bool {
	before := p.queue[:slices.Index(p.queue, r)]
	return p.patienceOver(r, now) && p.roomBeside() &&
		!slices.ContainsFunc(before, func(other *Request) bool { return other.Owner == pg.owner })
}

// behind reports whether the page is of an older release than the one that
// existing pages may move to. Unknown tokens count as older, for a release
// newer than the newest heard is only ever heard of, never guessed; a page is
// closed for it only once a page of the permitted release is warm.
func (p *Pool) behind(pg *page) bool {
	target := p.sequence(p.permitted)
	return pg.state != warming && target > 0 && p.sequence(pg.token) < target
}

func (p *Pool) anyBehind() bool {
	for _, pg := range p.pages {
		if p.behind(pg) && pg.retiring == "" {
			return true
		}
	}
	return false
}

// held reports whether the page is of an older release than the newest but may
// not be moved yet.
func (p *Pool) held(pg *page) bool {
	return pg.state != warming && !p.behind(pg) && p.sequence(pg.token) < p.current.Sequence
}

func (p *Pool) anyHeld() bool {
	for _, pg := range p.pages {
		if p.held(pg) {
			return true
		}
	}
	return false
}

func (p *Pool) sequence(token words.Token) uint64 { return p.sequences[token] }

// live counts the pages that can take work: neither warming nor going.
func (p *Pool) live() int {
	n := 0
	for _, pg := range p.pages {
		if pg.state != warming && pg.retiring == "" {
			n++
		}
	}
	return n
}

func (p *Pool) warming() int {
	n := 0
	for _, pg := range p.pages {
		if pg.state == warming {
			n++
		}
	}
	return n
}
