package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rewarm/rewarm/internal/bus"
	"github.com/rewarm/rewarm/internal/client"
	"github.com/rewarm/rewarm/internal/index"
	"github.com/rewarm/rewarm/internal/ledger"
)

// misses queues pages that visitors missed, and no run that would forget what
// is known of them.
func (r *rig) misses(paths ...string) {
	r.t.Helper()
	err := r.store.PutRun(r.t.Context(), index.Run{ID: 1, Realm: r.realm.URL, Sequence: 1, Token: "t1"}, 0)
	for _, path := range paths {
		_, again := r.store.QueueJobs(r.t.Context(), index.Job{Class: index.Miss, Realm: r.realm.URL, URL: r.realm.URL + path, Token: "t1", Sequence: 1})
		err = errors.Join(err, again)
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) failure(path string) ledger.Failure {
	r.t.Helper()
	failure, err := r.store.Failure(r.t.Context(), r.realm.URL, "t1", r.realm.URL+path)
	if err != nil {
		r.t.Error(err)
	}
	return failure
}

// murder is a page that kills its worker each time, and pages beside it. The
// first two times it waits for these, so that they are lost with it.
type murder struct {
	r          *rig
	neighbours int
	killed     chan struct{} // one element for each time

	mu     sync.Mutex
	kills  int
	beside int           // renders of neighbours that run
	moved  chan struct{} // closed when one of these has changed
	store  *bus.Bus      // of the worker that lives
}

func (m *murder) change(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
	close(m.moved)
	m.moved = make(chan struct{})
}

// until waits until met, asked under m.mu, or ctx ends.
func (m *murder) until(ctx context.Context, met func() bool) {
	for {
		m.mu.Lock()
		ok, moved := met(), m.moved
		m.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return
		}
	}
}

func (m *murder) arrive(ctx context.Context, path string) {
	if path == "/killer" {
		m.kill(ctx)
		return
	}
	var kills int
	m.change(func() { m.beside++; kills = m.kills })
	defer m.change(func() { m.beside-- })
	if kills >= 2 { // long enough for the killer to come beside it, if it may
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, 300*time.Millisecond)
		defer cancel()
	}
	m.until(ctx, func() bool { return kills >= 2 && m.kills > kills })
}

// kill leaves of the worker what SIGKILL leaves: nothing of it reaches the store
// from now on, and nothing was said to it before.
func (m *murder) kill(ctx context.Context) {
	m.until(ctx, func() bool { return m.kills >= 2 || m.beside == m.neighbours })
	m.change(func() {
		if m.kills >= 2 && m.beside > 0 {
			m.r.t.Errorf("death %d: %d pages are rendered beside the one that kills", m.kills+1, m.beside)
		}
		m.kills++
		m.store.Conn().Close()
	})
	m.killed <- struct{}{}
	<-ctx.Done()
}

// process starts a worker as one of its own, with a connection of its own.
func (r *rig) process(name string) (store *bus.Bus, stop func()) {
	r.t.Helper()
	store, err := bus.Start(r.t.Context(), bus.Options{URLs: []string{r.address}})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = store.Close() })
	own, err := ledger.Open(r.t.Context(), store.Conn(), ledger.Options{AckWait: time.Second})
	if err != nil {
		r.t.Fatal(err)
	}
	end := r.start(func(o *Options) { o.Name, o.Store, o.Concurrency = name, own, 4 })
	return store, func() {
		end()
		_ = store.Close()
	}
}

// life is that of one worker: until it is killed, or nothing is left to do,
// which it reports.
func (m *murder) life(name string) (done bool) {
	m.r.t.Helper()
	m.mu.Lock() // no render begins before it is known whose store to cut off
	store, stop := m.r.process(name)
	m.store = store
	m.mu.Unlock()
	defer stop()
	m.r.until("the worker is killed or done", func() bool {
		select {
		case <-m.killed:
			return true
		default:
			done = m.r.pending() == 0
			return done
		}
	})
	return done
}

func TestAPageThatKillsItsWorkerIsGivenUpAlone(t *testing.T) {
	r := newRig(t)
	m := &murder{r: r, neighbours: 3, killed: make(chan struct{}), moved: make(chan struct{})}
	r.arrive = m.arrive
	r.misses("/a", "/b", "/killer", "/c")
	for n := 1; !m.life(fmt.Sprint("w", n)); n++ {
		if n > index.MaxRenders+1 {
			t.Fatalf("%d workers were killed, and the page is not given up", n)
		}
	}
	if m.kills != index.MaxRenders+1 {
		t.Errorf("%d renders", m.kills)
	}
	r.equal(r.stored("t1"), "/a", "/b", "/c")
	dead, err := r.store.Failures(t.Context(), r.realm.URL, "t1")
	if err != nil || len(dead) != 1 || dead[0].URL != r.realm.URL+"/killer" || dead[0].Reason != "its worker was lost in 4 of 4 renders" {
		t.Errorf("given up: %+v, %v", dead, err)
	}
}

func TestAWorkerThatEndsInARenderIsNotLost(t *testing.T) {
	r := newRig(t)
	began, last := make(chan struct{}), atomic.Bool{}
	r.arrive = func(ctx context.Context, _ string) {
		if last.Load() {
			return
		}
		began <- struct{}{}
		<-ctx.Done()
	}
	r.misses("/a")
	for n := range index.MaxRenders + 2 {
		name := fmt.Sprint("w", n)
		_, stop := r.process(name)
		<-began
		want := index.Tries{}
		if n > 0 { // nothing is written when a job is handed out first
			want.By = name
		}
		if known := r.failure("/a"); known.Tries != want {
			t.Fatalf("in render %d: %+v", n+1, known.Tries)
		}
		stop()
		if known := r.failure("/a"); known.Tries != (index.Tries{}) {
			t.Fatalf("after render %d: %+v", n+1, known.Tries)
		}
	}
	last.Store(true)
	r.process("last")
	r.idle(1)
	r.equal(r.stored("t1"), "/a")
	if known := r.failure("/a"); known != (ledger.Failure{}) {
		t.Errorf("of a page that is stored: %+v", known)
	}
}

func TestARenderThatEndsIsNotLeftOpen(t *testing.T) {
	r := newRig(t)
	w, err := New(Options{Name: "w", Manager: client.NewManager(r.manager.URL, ""), Store: r.store})
	if err != nil {
		t.Fatal(err)
	}
	for outcome, want := range map[index.Outcome]index.Tries{
		index.Done: {}, index.Skipped: {}, index.Hopeless: {Renders: 2, Lost: 2}, index.Failed: {Renders: 3, Lost: 2},
		index.Refused: {Renders: 2, Lost: 2}, index.Overtaken: {Renders: 2, Lost: 2}, index.Held: {Renders: 2, Lost: 2},
	} {
		job := &ledger.QueuedJob{Job: index.Job{Realm: r.realm.URL, URL: r.realm.URL + fmt.Sprint("/", int(outcome)), Token: "t1"}, Deliveries: 3}
		before := ledger.Failure{Realm: job.Realm, URL: job.URL, Token: "t1", Tries: index.Tries{Renders: 1, Lost: 1, By: "lost"}}
		if err := r.store.PutFailure(t.Context(), before); err != nil {
			t.Fatal(err)
		}
		leave, _ := w.enter(t.Context(), job)
		leave()
		if _, err := w.record(t.Context(), job, result{outcome: outcome}); err != nil {
			t.Error(err)
		}
		if known := r.failure(fmt.Sprint("/", int(outcome))); known.Tries != want {
			t.Errorf("outcome %d: %+v, want %+v", outcome, known.Tries, want)
		}
	}
}
