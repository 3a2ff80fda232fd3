package worker

import (
	"context"
	"sync"
	"time"

	"github.com/rewarm/rewarm/internal/index"
	"github.com/rewarm/rewarm/internal/ledger"
)

// tellEvery is how often progress is stored, so that following it costs one
// write a second and not one a page.
const tellEvery = time.Second

// tally counts what this worker did of each realm's latest run.
type tally struct {
	telling sync.Mutex // held while it is stored: what was counted last is stored last
	mu      sync.Mutex
	byRealm map[string]*count
	inHand  map[string]int // jobs being done, by realm
}

type count struct {
	run   uint64
	done  ledger.Progress
	dirty bool
}

func newTally() *tally { return &tally{byRealm: map[string]*count{}, inHand: map[string]int{}} }

// begin counts a job as being done.
func (t *tally) begin(realm string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.inHand[realm]++
}

// done counts a job as done, and reports whether it was the last of its realm.
func (t *tally) done(realm string) (last bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.inHand[realm]--; t.inHand[realm] > 0 {
		return false
	}
	delete(t.inHand, realm)
	return true
}

func (t *tally) add(job index.Job, got result, verdict index.Verdict) {
	if job.Seeds() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.byRealm[job.Realm]
	if c == nil || c.run < job.Run {
		c = &count{run: job.Run}
		t.byRealm[job.Realm] = c
	}
	if c.run != job.Run {
		return // of a run that is over
	}
	switch c.dirty = true; {
	case verdict.Dead:
		c.done.Failed++
	case got.fresh || got.outcome == index.Skipped:
		c.done.Skipped++
	default:
		c.done.Stored++
	}
}

// take returns what has changed since it was called last.
func (t *tally) take() map[string]count {
	t.mu.Lock()
	defer t.mu.Unlock()
	changed := map[string]count{}
	for realm, c := range t.byRealm {
		if c.dirty {
			c.dirty = false
			changed[realm] = *c
		}
	}
	return changed
}

// untold is to be called when what was taken of a realm could not be stored.
func (t *tally) untold(realm string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c := t.byRealm[realm]; c != nil {
		c.dirty = true
	}
}

// tell stores the progress until ctx ends.
func (w *Worker) tell(ctx context.Context) {
	for pause(ctx, tellEvery) {
		w.flush(ctx)
	}
}

// flush stores the progress, if there was any.
func (w *Worker) flush(ctx context.Context) {
	w.tally.telling.Lock()
	defer w.tally.telling.Unlock()
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	for realm, c := range w.tally.take() {
		if err := w.o.Store.PutProgress(ctx, realm, c.run, w.o.Name, c.done); err != nil {
			w.tally.untold(realm)
			w.log.Debug("progress not stored", "realm", realm, "error", err)
		}
	}
}
