package prerender

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/pool"
	"github.com/rewarm/rewarm/internal/words"
)

// keeper carries out what the pool decides: it opens and closes pages, hands
// them to renders, and tells the pool how that went. The pool is only touched
// under the lock; nothing that takes time happens there.
type keeper struct {
	log         *slog.Logger
	warmTimeout time.Duration
	open        func(ctx context.Context, accepts func(words.Token) bool) (Page, error)
	metrics     *metrics

	mu          sync.Mutex
	machine     *pool.Pool
	pages       map[pool.PageID]Page
	leased      map[pool.PageID]bool                // since they were measured last
	waiting     map[pool.RequestID]chan pool.Action // buffered: one answer each
	nextRequest pool.RequestID
	todo        []pool.Action // warm-ups and closes for Run

	wake    chan struct{} // todo or the next tick changed
	changed chan struct{} // the status may have changed; read by the heartbeat
}

func newKeeper(o *Options, m *metrics) *keeper {
	o.Pool.Seed = rand.Uint64()
	return &keeper{
		log: o.Log, warmTimeout: o.WarmTimeout, metrics: m, machine: pool.New(o.Pool),
		pages: map[pool.PageID]Page{}, leased: map[pool.PageID]bool{}, waiting: map[pool.RequestID]chan pool.Action{},
		wake: make(chan struct{}, 1), changed: make(chan struct{}, 1),
	}
}

// tell runs one event through the pool and routes its decisions.
func (k *keeper) tell(event func(p *pool.Pool, now time.Time) []pool.Action) {
	k.mu.Lock()
	for _, a := range event(k.machine, time.Now()) {
		switch a.Kind {
		case pool.Grant, pool.Refuse:
			if answer, ok := k.waiting[a.Request]; ok {
				delete(k.waiting, a.Request)
				answer <- a
			}
		case pool.Freeze:
			// Here, and not by run, so that it never overtakes the next lease.
			if idle, ok := k.pages[a.Page]; ok {
				idle.Freeze()
			}
		default:
			k.todo = append(k.todo, a)
		}
	}
	k.mu.Unlock()
	signal(k.wake)
	signal(k.changed)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // already signalled
	}
}

// status is how the pool stands now.
func (k *keeper) status() pool.Status {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.machine.Status()
}

// idlePage is some page to probe that renders nothing now.
func (k *keeper) idlePage() (Page, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	id, ok := k.machine.IdlePage()
	if !ok {
		return nil, false
	}
	idle, ok := k.pages[id]
	return idle, ok
}

// used are the pages that rendered since the last call, to be measured.
func (k *keeper) used() map[pool.PageID]Page {
	k.mu.Lock()
	defer k.mu.Unlock()
	used := map[pool.PageID]Page{}
	for id := range k.leased {
		if p, ok := k.pages[id]; ok {
			used[id] = p
		}
	}
	k.leased = map[pool.PageID]bool{}
	return used
}

// run opens and closes pages until ctx ends, then closes all that are left.
// Leases must have ended before ctx does.
func (k *keeper) run(ctx context.Context) {
	var warmUps, pages sync.WaitGroup
	defer func() {
		k.tell((*pool.Pool).Drain)
		warmUps.Wait() // ctx ends them; what became warm all the same is closed next
		k.closeAll(&pages)
		pages.Wait()
	}()
	k.tell((*pool.Pool).Tick)
	for {
		k.mu.Lock()
		todo := k.todo
		k.todo = nil
		at, timed := k.machine.NextTick(time.Now())
		k.mu.Unlock()
		for _, a := range todo {
			if a.Kind == pool.Close {
				k.close(&pages, a.Page, a.Reason)
				continue
			}
			warmUps.Go(func() { k.warm(ctx, &pages, a.Page) })
		}
		var tick <-chan time.Time
		if timed {
			tick = time.After(time.Until(at))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick:
			k.tell((*pool.Pool).Tick)
		case <-k.wake:
		}
	}
}

func (k *keeper) warm(ctx context.Context, pages *sync.WaitGroup, id pool.PageID) {
	ctx, cancel := context.WithTimeoutCause(ctx, k.warmTimeout, errWarmTimeout)
	defer cancel()
	began := time.Now()
	opened, err := k.open(ctx, func(token words.Token) bool {
		k.mu.Lock()
		defer k.mu.Unlock()
		return k.machine.Accepts(id, token)
	})
	if err != nil {
		_, waiting := errors.AsType[*oldShellError](err)
		if ctx.Err() == nil || context.Cause(ctx) == errWarmTimeout {
			k.log.Warn("page not warmed", "page", id, "waiting", waiting, "error", err)
		}
		k.metrics.warmUps.WithLabelValues(outcome(waiting)).Inc()
		k.tell(func(p *pool.Pool, now time.Time) []pool.Action { return p.WarmFailed(now, id, err.Error(), waiting) })
		return
	}
	k.metrics.warmUps.WithLabelValues("warm").Inc()
	k.metrics.warmSeconds.Observe(time.Since(began).Seconds())
	k.log.Info("page warm", "page", id, "token", opened.Token(), "ms", time.Since(began).Milliseconds())
	k.mu.Lock()
	k.pages[id] = opened
	k.mu.Unlock()
	pages.Go(func() {
		<-opened.Gone() // closed by us or dead by itself: either way it ends
		k.tell(func(p *pool.Pool, now time.Time) []pool.Action { return p.Gone(now, id) })
	})
	k.tell(func(p *pool.Pool, now time.Time) []pool.Action { return p.Warmed(now, id, opened.Token()) })
}

func outcome(waiting bool) string {
	if waiting {
		return "waiting"
	}
	return "failed"
}

func (k *keeper) close(pages *sync.WaitGroup, id pool.PageID, why pool.Reason) {
	k.mu.Lock()
	closing, ok := k.pages[id]
	delete(k.pages, id)
	k.mu.Unlock()
	if ok {
		k.log.Info("page closed", "page", id, "token", closing.Token(), "reason", why)
		k.metrics.closed.WithLabelValues(string(why)).Inc()
		pages.Go(func() { k.closePage(closing) })
	}
}

func (k *keeper) closeAll(pages *sync.WaitGroup) {
	k.mu.Lock()
	rest := k.pages
	k.pages = map[pool.PageID]Page{}
	k.mu.Unlock()
	for _, left := range rest {
		pages.Go(func() { k.closePage(left) })
	}
}

// closePage closes a page; its context is gone with the browser at the latest.
func (k *keeper) closePage(p Page) {
	if err := p.Close(); err != nil {
		k.log.Debug("page not closed cleanly", "token", p.Token(), "error", err)
	}
}

// lease is a page that belongs to one render.
type lease struct {
	Page
	id     pool.PageID
	action pool.Action
	keeper *keeper
}

// acquire waits for a page. Its error is a refusal, or ctx's when the caller
// is gone.
func (k *keeper) acquire(ctx context.Context, request pool.Request) (*lease, error) {
	answer := make(chan pool.Action, 1)
	k.mu.Lock()
	k.nextRequest++
	request.ID = k.nextRequest
	k.waiting[request.ID] = answer
	k.mu.Unlock()
	k.tell(func(p *pool.Pool, now time.Time) []pool.Action { return p.Submit(now, request) })
	select {
	case a := <-answer:
		return k.granted(a)
	case <-ctx.Done():
	}
	k.mu.Lock()
	delete(k.waiting, request.ID)
	k.mu.Unlock()
	select {
	case a := <-answer: // granted at the same moment: give it back unused
		if l, err := k.granted(a); err == nil {
			l.done(true)
		}
	default:
		k.tell(func(p *pool.Pool, now time.Time) []pool.Action { return p.Cancel(now, request.ID) })
	}
	if context.Cause(ctx) == errBudget {
		return nil, fault.Refuse(time.Second, "No page was free within the budget")
	}
	return nil, context.Cause(ctx)
}

func (k *keeper) granted(a pool.Action) (*lease, error) {
	if a.Kind == pool.Refuse && a.Full {
		return nil, fault.Refuse(a.RetryAfter, "Prerender server is full")
	}
	if a.Kind == pool.Refuse {
		return nil, fault.Refuse(time.Second, "No page was free within the budget")
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	granted, ok := k.pages[a.Page]
	if !ok {
		return nil, errPageGone
	}
	k.leased[a.Page] = true
	return &lease{Page: granted, id: a.Page, action: a, keeper: k}, nil
}

// done gives the page back; one that is not reusable is replaced.
func (l *lease) done(reusable bool) {
	l.keeper.tell(func(p *pool.Pool, now time.Time) []pool.Action { return p.Done(now, l.id, reusable) })
}

// gone gives up a page that does not answer: it is closed and replaced.
func (l *lease) gone() {
	l.keeper.tell(func(p *pool.Pool, now time.Time) []pool.Action { return p.Gone(now, l.id) })
}
