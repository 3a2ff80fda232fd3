package realm

import (
	"context"
	"sync"
	"time"

	"github.com/rewarm/rewarm/internal/index"
	"github.com/rewarm/rewarm/internal/words"
)

// renderQueue holds what is to be rendered in the background.
type renderQueue struct {
	jobs chan *job
	left chan index.Job // for the workers

	mu       sync.Mutex
	switches int             // of the release
	busy     map[string]*job // by URL, queued or being rendered
	hold     map[string]*job // done, and not again before its time
	keys     *keys
}

// job is one render of a page, however many want it.
type job struct {
	url      string
	switches int // of the release, when it was queued
	done     chan struct{}

	// Read after done.
	until     time.Time // not again before
	elsewhere bool      // another realm server renders it, and may still be at it
}

func newRenderQueue() *renderQueue {
	return &renderQueue{jobs: make(chan *job, maxQueued), left: make(chan index.Job, maxLeft), busy: map[string]*job{}, hold: map[string]*job{}, keys: newKeys()}
}

// forget starts a release: its keys are counted anew.
func (q *renderQueue) forget() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.switches++
	q.keys.forget()
	clear(q.hold)
}

// add queues a URL unless it is queued already, or was just tried. It returns
// the job to wait for; or nil, and why names what kept it out.
func (q *renderQueue) add(url string, now time.Time) (j *job, why string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if j := q.busy[url]; j != nil {
		return j, ""
	}
	if j := q.hold[url]; j != nil && now.Before(j.until) {
		return j, ""
	}
	if !q.keys.ask(url, now) {
		return nil, "too_many_keys"
	}
	j = &job{url: url, switches: q.switches, done: make(chan struct{})}
	select {
	case q.jobs <- j:
	default:
		return nil, queueFull
	}
	q.busy[url] = j
	delete(q.hold, url)
	return j, ""
}

// done ends a job; its URL is not queued again before until.
func (q *renderQueue) done(j *job, o rendered, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	j.until, j.elsewhere = now.Add(o.hold), o.elsewhere
	close(j.done)
	delete(q.busy, j.url)
	switch o.outcome {
	case "stored", "already_there", "claimed_elsewhere":
		q.keys.got(j.url)
	}
	if o.hold > 0 && j.switches == q.switches { // else it says nothing of the current release
		q.hold[j.url] = j
	}
	if len(q.hold) > maxQueued {
		for url, held := range q.hold {
			if !held.until.After(now) {
				delete(q.hold, url)
			}
		}
	}
}

// wantRender asks for a page to be rendered for the next visitor. It returns
// the job to wait for, if there is one.
func (s *site) wantRender(url string) *job {
	j, why := s.renders.add(url, s.o.Now())
	if why == queueFull {
		s.leave(url, s.Token())
	}
	if why != "" {
		s.metrics.renders.WithLabelValues(s.realm.URL, why).Inc()
	}
	return j
}

// await waits for the job of a page, at most as long as visitors are to, and
// returns the page, nil when there is none in time. What the job renders is not
// lost: the next visitor gets it.
func (s *site) await(ctx context.Context, current *release, key pageKey, j *job, took *spent) (p *page) {
	if j == nil {
		return nil
	}
	select {
	case s.waiting <- struct{}{}:
	default:
		return nil // so many that connections would run out
	}
	defer func() { <-s.waiting }()
	began := time.Now()
	defer func() { took.render = time.Since(began) }()
	ctx, cancel := context.WithTimeoutCause(ctx, s.realm.WaitAtMost, errWaited)
	defer cancel()
	select {
	case <-j.done:
	case <-s.ended:
		return nil
	case <-ctx.Done():
		return nil
	}
	again := time.NewTicker(elsewhereAgain)
	defer again.Stop()
	for {
		if p, _ = s.lookup(ctx, current, key); p != nil || !j.elsewhere {
			return p
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// queueFull is why a page is left to the workers.
const queueFull = "queue_full"

// leave leaves a page to the workers, if there is room: it is a hint, and the
// next visitor asks again.
func (s *site) leave(url string, token words.Token) {
	select {
	case s.renders.left <- index.Job{Class: index.Miss, Realm: s.realm.URL, URL: url, Token: token, QueuedAt: s.o.Now()}:
	default:
	}
}

// leaveLoop queues what is left to the workers, until ctx ends.
func (s *site) leaveLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case job := <-s.renders.left:
			if _, err := s.o.Store.QueueJobs(ctx, job); err != nil {
				s.o.Log.Warn("page not queued for the workers", "url", job.URL, "error", err)
			}
		}
	}
}
