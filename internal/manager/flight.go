package manager

import (
	"context"
	"sync"
	"time"

	"github.com/rewarm/rewarm/internal/wire"
)

// flights lets identical visits share one render: thirty callers of a page
// that nobody has rendered yet cost one page, not thirty.
type flights struct {
	tasks *sync.WaitGroup // of the manager, which waits for them

	mu      sync.Mutex
	running map[string]*flight
}

type flight struct {
	leader   string // id of the request that started it
	deadline time.Time
	cancel   context.CancelCauseFunc
	waiting  int // callers; guarded by flights.mu
	done     chan struct{}
	got      result // set before done is closed
	err      error
}

func newFlights(tasks *sync.WaitGroup) *flights {
	return &flights{tasks: tasks, running: map[string]*flight{}}
}

// join waits for the running flight of the same identity, or starts one with
// perform. A caller that leaves does not end it for the others; the last one
// does. ctx must have a deadline: the flight ends with its first caller's.
func (f *flights) join(ctx context.Context, w *work, perform func(context.Context, *work) (result, error)) (result, error) {
	flight := f.board(ctx, w, perform)
	defer f.leave(w.identity, flight)
	select {
	case <-flight.done:
		return flight.got, flight.err
	case <-ctx.Done():
		return result{}, context.Cause(ctx)
	}
}

// awaits reports whether the flight of the same identity is one that waits for
// w: that of the first request of its chain.
func (f *flights) awaits(w *work) bool {
	root, depth := wire.Lineage(w.requestID)
	f.mu.Lock()
	defer f.mu.Unlock()
	running := f.running[w.identity]
	if depth == 0 || running == nil {
		return false
	}
	leaders, above := wire.Lineage(running.leader)
	return leaders == root && above == 0
}

func (f *flights) board(ctx context.Context, w *work, perform func(context.Context, *work) (result, error)) *flight {
	f.mu.Lock()
	defer f.mu.Unlock()
	// A flight that would give up long before this caller must is not joined:
	// its answer may be partial for want of a time that this caller has.
	if running := f.running[w.identity]; running != nil && running.waiting > 0 {
		mine, its := time.Until(w.deadline), time.Until(running.deadline)
		if its >= mine/2 {
			running.waiting++
			return running
		}
	}
	own, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	own, stop := context.WithDeadlineCause(own, w.deadline, errBudget)
	started := &flight{leader: w.requestID, deadline: w.deadline, cancel: cancel, waiting: 1, done: make(chan struct{})}
	f.running[w.identity] = started
	f.tasks.Go(func() {
		defer stop()
		defer cancel(nil)
		started.got, started.err = perform(own, w)
		f.land(w.identity, started)
		close(started.done)
	})
	return started
}

func (f *flights) leave(identity string, flight *flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if flight.waiting--; flight.waiting == 0 {
		flight.cancel(context.Canceled)
		f.remove(identity, flight)
	}
}

// land takes a flight off the list before its callers hear: who asks from now
// on gets a new render.
func (f *flights) land(identity string, flight *flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.remove(identity, flight)
}

func (f *flights) remove(identity string, flight *flight) {
	if f.running[identity] == flight {
		delete(f.running, identity)
	}
}
