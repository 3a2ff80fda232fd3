package worker

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/rewarm/rewarm/internal/client"
	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/index"
	"github.com/rewarm/rewarm/internal/ledger"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// result is what came of one try at a job.
type result struct {
	outcome index.Outcome
	reason  string        // of anything but Done
	after   time.Duration // the wish of the fleet or of the realm's rate, 0 if there is none
	fresh   bool          // Done, and nothing had to be rendered
}

func refused(reason string) result { return result{outcome: index.Refused, reason: reason} }

func held(reason string) result { return result{outcome: index.Held, reason: reason} }

// do tries a job once, and ends it or gives it back.
func (w *Worker) do(ctx context.Context, job *ledger.QueuedJob) {
	defer w.keeping(job)()
	w.tally.begin(job.Realm)
	verdict := w.try(ctx, job)
	if w.tally.done(job.Realm) && ctx.Err() == nil { // else it is told when the worker ends
		// Before it ends: who sees that nothing is pending sees all that was done.
		w.flush(ctx)
	}
	if verdict.Finished {
		w.end(ctx, job)
		return
	}
	_ = job.Again(verdict.After) // or it comes again by itself
	pause(ctx, verdict.Pause)
}

// try does what there is to do for a job now.
func (w *Worker) try(ctx context.Context, job *ledger.QueuedJob) index.Verdict {
	current := w.current.Load()
	if current == nil {
		return index.Verdict{After: storeRetry}
	}
	switch job.Under(*current) {
	case index.Wait:
		return index.Verdict{After: storeRetry}
	case index.Redo:
		return w.redo(ctx, job, *current)
	case index.Drop:
		return index.Verdict{Finished: true}
	}
	if job.Seeds() {
		return w.settle(ctx, job, w.seed(ctx, job.Job, job.Deliveries))
	}
	return w.settle(ctx, job, w.page(ctx, job))
}

// redo queues the job again under the current release.
func (w *Worker) redo(ctx context.Context, job *ledger.QueuedJob, current words.Release) index.Verdict {
	run, _, err := w.o.Store.Run(ctx, job.Realm)
	if err == nil {
		_, err = w.o.Store.QueueJobs(ctx, job.On(current, run.ID))
	}
	if err != nil {
		return index.Verdict{After: storeRetry}
	}
	return index.Verdict{Finished: true}
}

func (w *Worker) end(ctx context.Context, job *ledger.QueuedJob) {
	// Also when the worker is ending: it was done, and need not be done again.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookTimeout)
	defer cancel()
	if err := job.End(ctx); err != nil {
		w.log.Warn("job done but not ended; it comes again", "realm", job.Realm, "url", job.URL, "error", err)
	}
}

// page renders a page and stores it, if that is needed.
func (w *Worker) page(ctx context.Context, job *ledger.QueuedJob) result {
	if owner := w.owner(job.Realm, job.URL); owner != job.Realm {
		return result{outcome: index.Skipped, reason: "it is a page of " + owner}
	}
	site, err := w.sites.of(ctx, job.Realm, w.o.Now())
	if err != nil {
		return held(oneLine("robots rules not known: %v", err))
	}
	// What a visitor asked for is no crawling.
	if job.Class != index.Miss && !site.robots.Allow(job.URL) {
		return result{outcome: index.Skipped, reason: "forbidden by robots.txt"}
	}
	stored, _, err := w.o.Store.Snapshot(ctx, job.Realm, job.Token, job.URL)
	if err != nil {
		return refused(oneLine("%v", err))
	}
	if stored.Status == words.StatusReady && !job.Needed(w.o.Now(), stored.RenderedAt, w.o.site(job.Realm).MaxAge) {
		return w.leads(ctx, job.Job, site, stored.HTTPStatus, index.Links(job.URL, stored.HTML), result{fresh: true})
	}
	wait, mine := site.pace.turn(w.o.Now())
	if !mine {
		// Given back, not waited for: a slow realm would take all lanes.
		return result{outcome: index.Held, reason: "not this realm's turn", after: wait}
	}
	if !pause(ctx, wait) {
		return refused("the worker ends")
	}
	return w.anew(ctx, job, site)
}

// anew renders a page and stores it.
func (w *Worker) anew(ctx context.Context, q *ledger.QueuedJob, site *site) result {
	job := q.Job
	before, err := w.o.Store.Purges(ctx, job.Realm)
	if err != nil {
		return refused(oneLine("%v", err))
	}
	select {
	case w.renders <- struct{}{}:
	case <-ctx.Done():
		return refused("the worker ends")
	}
	leave, got := w.enter(ctx, q)
	if leave == nil {
		<-w.renders
		return got
	}
	defer leave()
	got, answer := w.timed(ctx, job)
	<-w.renders
	if got.outcome != index.Done {
		return got
	}
	if wire.Private(answer.Result.Headers) {
		return result{outcome: index.Skipped, reason: "the page says that it is not for everyone"}
	}
	// Before it is stored: a page that is there is not rendered again, and what
	// it leads to would be lost with this worker.
	if got = w.leads(ctx, job, site, answer.Result.HTTPStatus, answer.Result.Links, got); got.outcome != index.Done {
		return got
	}
	if err := w.o.Store.PutUnpurged(ctx, snapshotOf(job, answer, w.o.Now()), before); err != nil {
		if errors.Is(err, ledger.ErrTooLarge) || errors.Is(err, ledger.ErrInvalid) {
			return result{outcome: index.Hopeless, reason: oneLine("%v", err)}
		}
		if errors.Is(err, ledger.ErrPurged) {
			return held(oneLine("%v", err))
		}
		return refused(oneLine("%v", err))
	}
	return got
}

// leads queues what a page leads to, and returns got, or why that failed.
func (w *Worker) leads(ctx context.Context, job index.Job, site *site, status int, links []string, got result) result {
	if job.Class == index.Miss || status != http.StatusOK {
		return got // nobody listed it, or there is nothing there
	}
	if err := w.follow(ctx, job, site, links); err != nil {
		return refused(oneLine("links not queued: %v", err))
	}
	return got
}

func snapshotOf(job index.Job, answer client.VisitAnswer, now time.Time) words.Snapshot {
	return words.Snapshot{
		Realm: job.Realm, Token: answer.Token, URL: job.URL, RenderedAt: now,
		Status: answer.Result.Status, HTTPStatus: answer.Result.HTTPStatus, Headers: answer.Result.Headers, HTML: answer.Result.HTML,
	}
}

// render asks the fleet for the page, in a document of the job's release.
func (w *Worker) render(ctx context.Context, job index.Job) (result, client.VisitAnswer) {
	ctx, cancel := context.WithTimeoutCause(ctx, w.o.RenderBudget, errors.New("render budget"))
	defer cancel()
	kind := string(words.AffinityRealm)
	answer, err := w.o.Manager.Visit(ctx,
		wire.VisitRequest{URL: job.URL, Realm: job.Realm, AffinityType: &kind, AffinityValue: &job.Realm, Fields: wire.Fields{wire.FieldHTML}},
		client.Call{Pin: job.Token, Budget: w.o.RenderBudget, Anew: true})
	return judge(answer, err, job.Token), answer
}

// judge is the protocol's table as an index reads it.
func judge(answer client.VisitAnswer, err error, pin words.Token) result {
	if status, ok := errors.AsType[*client.StatusError](err); ok {
		got := result{reason: oneLine("%v", err), after: status.RetryAfter}
		switch {
		case status.Status == http.StatusConflict:
			got.outcome = index.Overtaken
		case fault.Retryable(status.Status), status.Status == http.StatusUnauthorized:
			// The wrong secret is mended by whoever runs this, not by giving up pages.
			got.outcome = index.Refused
		case status.Status < 500:
			got.outcome = index.Hopeless
		default:
			got.outcome = index.Failed
		}
		return got
	}
	r := answer.Result
	switch {
	case err != nil:
		return refused(oneLine("%v", err))
	case answer.Token != pin:
		return result{outcome: index.Overtaken, reason: oneLine("rendered on %q, not on %q", answer.Token, pin)}
	case r.Status == words.StatusReady:
		return result{}
	case r.Error != nil:
		return result{outcome: index.Failed, reason: oneLine("%s: %s", r.Error.Kind, r.Error.Message)}
	}
	return result{outcome: index.Failed, reason: oneLine("the page was %s", r.Status)}
}

// settle judges what came of a job, and remembers why.
func (w *Worker) settle(ctx context.Context, job *ledger.QueuedJob, got result) index.Verdict {
	ends := ctx.Err() != nil && got.outcome != index.Done
	if ends {
		got = refused("the worker ends")
	}
	verdict, err := w.record(ctx, job, got)
	if ends {
		return index.Verdict{} // another worker may have it at once
	}
	w.metrics.tried(job.Job, got, verdict)
	w.say(ctx, job, got, verdict, err)
	if !verdict.Finished {
		return verdict
	}
	w.tally.add(job.Job, got, verdict)
	if got.outcome == index.Done {
		if current := w.current.Load(); current != nil && job.Under(*current) == index.Redo {
			return w.redo(ctx, job, *current)
		}
	}
	return verdict
}

// say logs a try. What it is about is formatted only if somebody reads the
// level: nearly all are told at the debug level.
func (w *Worker) say(ctx context.Context, job *ledger.QueuedJob, got result, verdict index.Verdict, err error) {
	level, message, about := slog.LevelDebug, "page done", []any{"fresh", got.fresh, "reason", got.reason}
	switch {
	case err != nil:
		level, message, about = slog.LevelWarn, "failure not recorded", []any{"reason", got.reason, "error", err}
	case verdict.Dead:
		level, message, about = slog.LevelWarn, "page given up", []any{"reason", got.reason, "deliveries", job.Deliveries}
	case got.outcome == index.Held && got.after > 0:
		message, about = "page waits for its realm's turn", []any{"after", verdict.After}
	case !verdict.Finished:
		level, message, about = slog.LevelInfo, "page is tried again", []any{"reason", got.reason, "after", verdict.After}
	}
	about = append(about, "realm", job.Realm, "url", job.URL, "class", job.Class.String(), "token", job.Token)
	w.log.Log(ctx, level, message, about...)
}
