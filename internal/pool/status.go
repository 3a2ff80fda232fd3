package pool

import (
	"fmt"

	"github.com/rewarm/rewarm/internal/words"
)

// Status is what a heartbeat and the metrics say of the pool.
type Status struct {
	Release   uint64              // newest heard
	Permitted words.Token         // that existing pages may move to
	Current   words.Token         // of the newest release heard
	Pages     map[words.Token]int // pages that can take or are doing work, by document
	Size      int                 // how many pages are to be kept now
	Capacity  int                 // the sum of Pages
	Idle      int
	Warming   int
	Queued    int
	Phase     words.Phase
	Detail    string
	Owners    []OwnerStatus
}

// OwnerStatus is what an affinity has, over all its credentials.
type OwnerStatus struct {
	Affinity           words.Affinity
	Pages              int
	Idle               bool
	MaxPendingPriority int // of its waiting requests; -1 without any
}

// failuresUntilFailed is how many warm-ups in a row must fail before the pool
// says so: one may be a host that restarts.
const failuresUntilFailed = 3

// Status tells how the pool stands. Only pages that have been verified count:
// warming ones have promised nothing yet, retiring ones take no more work.
func (p *Pool) Status() Status {
	s := Status{
		Release: p.current.Sequence, Current: p.current.Token, Permitted: p.permitted,
		Pages: map[words.Token]int{}, Size: p.size, Queued: len(p.queue), Warming: p.warming(),
	}
	held := 0
	for _, pg := range p.sorted() {
		if pg.state == warming {
			continue
		}
		s.Pages[pg.token]++ // a retiring page still renders on its token
		if pg.retiring != "" {
			continue
		}
		s.Capacity++
		if pg.state == idle {
			s.Idle++
		}
		if p.held(pg) {
			held++
		}
		s.addOwner(pg)
	}
	s.addQueue(p.queue)
	s.Phase, s.Detail = p.phase(s.Capacity, held)
	return s
}

func (s *Status) addOwner(pg *page) {
	if pg.owner == (Owner{}) || pg.isolated {
		return
	}
	o := s.owner(pg.owner.Affinity)
	o.Pages++
	o.Idle = o.Idle || pg.state == idle
}

func (s *Status) addQueue(queue []*Request) {
	for _, r := range queue {
		o := s.owner(r.Owner.Affinity)
		o.MaxPendingPriority = max(o.MaxPendingPriority, r.Priority)
	}
}

func (s *Status) owner(a words.Affinity) *OwnerStatus {
	for i := range s.Owners {
		if s.Owners[i].Affinity == a {
			return &s.Owners[i]
		}
	}
	s.Owners = append(s.Owners, OwnerStatus{Affinity: a, MaxPendingPriority: -1})
	return &s.Owners[len(s.Owners)-1]
}

func (p *Pool) phase(capacity, held int) (words.Phase, string) {
	stock, recycle := p.backoff[forStock], p.backoff[forRecycle]
	switch {
	case stock.failures >= failuresUntilFailed:
		return words.PhaseFailed, stock.detail
	case recycle.failures >= failuresUntilFailed:
		return words.PhaseFailed, recycle.detail
	case p.anyBehind() && recycle.waits > 0:
		return words.PhaseWaiting, recycle.detail
	case p.anyBehind() || p.anyLeaving():
		return words.PhaseRecycling, recycle.detail
	case capacity == 0 && stock.waits > 0:
		return words.PhaseWaiting, stock.detail
	case capacity == 0:
		return words.PhaseRecycling, "no page is warm yet"
	case held > 0:
		return words.PhaseWaiting, fmt.Sprintf("%d pages may not move to the current release yet", held)
	}
	return words.PhaseFresh, ""
}

// anyLeaving reports whether a page of an older release ends its last render.
func (p *Pool) anyLeaving() bool {
	for _, pg := range p.pages {
		if pg.retiring != "" && p.behind(pg) {
			return true
		}
	}
	return false
}

// IdlePage is the least recently used page that renders nothing, ok is false
// when there is none: the one whose health is known least.
func (p *Pool) IdlePage() (id PageID, ok bool) {
	var best *page
	for _, pg := range p.sorted() {
		if pg.state == idle && (best == nil || pg.lastUsed.Before(best.lastUsed)) {
			best = pg
		}
	}
	if best == nil {
		return 0, false
	}
	return best.id, true
}
