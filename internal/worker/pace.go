package worker

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// patience is the longest that a lane waits for a realm's turn.
	patience = 250 * time.Millisecond
	// maxAway is the longest that a job is given back for its realm's turn: it
	// may be of an older release by then.
	maxAway = time.Minute
)

// pace is how fast a realm may be rendered.
type pace struct {
	mu      sync.Mutex
	limiter *rate.Limiter
	next    time.Time // when the job that was given back last comes again
}

func newPace() *pace { return &pace{limiter: rate.NewLimiter(0, 1)} }

// turn takes a render of the realm's rate, and returns how long to wait for it.
// If that is longer than patience it takes none: mine is false, and the job is
// to come again after wait, each later than the one before, for of all at once
// one would be done and the others given back once more.
func (p *pace) turn(now time.Time) (wait time.Duration, mine bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	reserved := p.limiter.ReserveN(now, 1)
	if wait = reserved.DelayFrom(now); wait <= patience {
		return wait, true
	}
	reserved.CancelAt(now)
	every := time.Duration(float64(time.Second) / float64(p.limiter.Limit()))
	p.next = p.next.Add(every)
	if soonest := now.Add(wait); p.next.Before(soonest) {
		p.next = soonest
	}
	if latest := now.Add(maxAway); p.next.After(latest) {
		p.next = latest
	}
	return p.next.Sub(now), false
}

func limitOf(perSecond float64, delay time.Duration) rate.Limit {
	if delay > 0 {
		return min(rate.Limit(perSecond), rate.Every(delay))
	}
	return rate.Limit(perSecond)
}
