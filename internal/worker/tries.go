package worker

import (
	"context"
	"fmt"

	"github.com/rewarm/rewarm/internal/index"
	"github.com/rewarm/rewarm/internal/ledger"
)

// enter waits until the job's page may be rendered. leave is to be called once
// nothing of the page is being worked on; it is nil if the page must not be
// rendered, and got says why.
//
// That a render has begun is recorded for a job that was handed out before: of
// these one may kill its worker each time. For all others it would cost every
// page a write.
func (w *Worker) enter(ctx context.Context, job *ledger.QueuedJob) (leave func(), got result) {
	if job.Deliveries == 1 {
		w.alone.RLock()
		return w.alone.RUnlock, result{}
	}
	known, err := w.o.Store.Failure(ctx, job.Realm, job.Token, job.URL)
	if err != nil {
		return nil, refused(oneLine("%v", err))
	}
	failure := w.failureOf(job, triesOf(known).Begin(w.o.Name), known.Reason)
	enter, leave := w.alone.RLock, w.alone.RUnlock
	if failure.Alone() {
		enter, leave = w.alone.Lock, w.alone.Unlock
	}
	enter() // for no longer than a render: others end when ctx does
	// Not before: it would be counted as lost while it waits for the one that kills.
	if err := w.o.Store.PutFailure(ctx, failure); err != nil {
		leave()
		return nil, refused(oneLine("%v", err))
	}
	if failure.Over() {
		leave()
		return nil, result{outcome: index.Hopeless, reason: fmt.Sprintf("its worker was lost in %d of %d renders", failure.Lost, failure.Renders)}
	}
	return leave, result{}
}

// record keeps what came of a try with the failures of its page, and judges it.
func (w *Worker) record(ctx context.Context, job *ledger.QueuedJob, got result) (index.Verdict, error) {
	// Also when the worker is ending: a render that stays open counts as lost.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookTimeout)
	defer cancel()
	failed := got.outcome == index.Failed
	known, err := w.o.Store.Failure(ctx, job.Realm, job.Token, job.URL)
	if err != nil && failed {
		return index.Verdict{After: storeRetry}, err // uncounted it would be rendered for ever
	}
	tries := triesOf(known).End(w.o.Name, failed)
	verdict := index.Judge(got.outcome, tries.Renders, job.Deliveries, got.after)
	failure := w.failureOf(job, tries, got.reason)
	failure.Dead = verdict.Dead
	switch {
	case failed, verdict.Dead:
		err = w.o.Store.PutFailure(ctx, failure)
	case known == (ledger.Failure{}): // as of nearly every page
	case verdict.Finished:
		err = w.o.Store.RemoveFailure(ctx, job.Realm, job.Token, job.URL)
	case known.By != tries.By:
		err = w.o.Store.PutFailure(ctx, failure)
	}
	return verdict, err
}

func (w *Worker) failureOf(job *ledger.QueuedJob, tries index.Tries, reason string) ledger.Failure {
	return ledger.Failure{Realm: job.Realm, URL: job.URL, Token: job.Token, Tries: tries, Reason: reason, At: w.o.Now()}
}

// triesOf are those for this job: a page that was given up is tried anew for the next.
func triesOf(known ledger.Failure) index.Tries {
	if known.Dead {
		return index.Tries{}
	}
	return known.Tries
}
