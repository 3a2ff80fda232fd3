package worker

import (
	"context"
	"sync"
	"time"

	"github.com/rewarm/rewarm/internal/index"
	"github.com/rewarm/rewarm/internal/ledger"
)

const (
	lookTimeout = 10 * time.Second
	storeRetry  = time.Second
)

// dispatch hands jobs to the lanes, the most urgent first: the queue gives the
// oldest job of each class, and one of each is held here to choose from.
func (w *Worker) dispatch(ctx context.Context) {
	var owned sync.WaitGroup
	defer owned.Wait()
	classes := index.Classes()
	arrived := make(chan *ledger.QueuedJob)
	taken := make([]chan struct{}, len(classes))
	for _, class := range classes {
		taken[class] = make(chan struct{})
		owned.Go(func() { w.feed(ctx, class, arrived, taken[class]) })
	}
	heads := make([]*ledger.QueuedJob, len(classes))
	defer func() {
		for _, head := range heads {
			if head != nil {
				_ = head.Again(0) // or it comes again by itself
			}
		}
	}()
	keep := time.NewTicker(w.keepEvery())
	defer keep.Stop()
	for {
		next := w.next(heads)
		var lanes chan<- *ledger.QueuedJob
		var job *ledger.QueuedJob
		if next >= 0 {
			lanes, job = w.jobs, heads[next]
		}
		select {
		case head := <-arrived:
			heads[head.Class] = head
		case lanes <- job:
			heads[next] = nil
			select {
			case taken[next] <- struct{}{}:
			case <-ctx.Done():
				return
			}
		case <-w.changed:
		case <-keep.C:
			for _, head := range heads {
				if head != nil {
					_ = head.Keep() // or it comes again
				}
			}
		case <-ctx.Done():
			return
		}
	}
}

// next is the class of the job to do now, -1 when there is none or no release
// may be indexed.
func (w *Worker) next(heads []*ledger.QueuedJob) int {
	if w.current.Load() == nil {
		return -1
	}
	jobs := make([]*index.Job, len(heads))
	for i, head := range heads {
		if head != nil {
			jobs[i] = &head.Job
		}
	}
	return index.Next(w.o.Now(), jobs)
}

// feed brings the jobs of a class, one at a time.
func (w *Worker) feed(ctx context.Context, class index.Class, arrived chan<- *ledger.QueuedJob, taken <-chan struct{}) {
	for {
		job, found, err := w.o.Store.NextJob(ctx, class)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			w.log.Debug("no job to be had", "class", class.String(), "error", err)
			if !pause(ctx, storeRetry) {
				return
			}
			continue
		case !found:
			continue
		case job.Class != class: // somebody else wrote it; its subject says where it belongs
			job.Class = class
		}
		select {
		case arrived <- job:
		case <-ctx.Done():
			_ = job.Again(0) // or it comes again by itself
			return
		}
		select {
		case <-taken:
		case <-ctx.Done():
			return
		}
	}
}

// keepEvery is how often a job is kept: twice may be lost.
func (w *Worker) keepEvery() time.Duration { return w.o.Store.AckWait() / 3 }

// lane does one job after another.
func (w *Worker) lane(ctx context.Context) {
	for {
		select {
		case job := <-w.jobs:
			w.do(ctx, job)
		case <-ctx.Done():
			return
		}
	}
}

// keeping keeps a job until the returned function is called.
func (w *Worker) keeping(job *ledger.QueuedJob) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(w.keepEvery())
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				_ = job.Keep() // or it is done twice
			case <-done:
				return
			}
		}
	}()
	return func() {
		close(done)
		<-ended
	}
}
