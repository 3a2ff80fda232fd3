package ledger

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rewarm/rewarm/internal/index"
	"github.com/rewarm/rewarm/internal/words"
)

// Run reads the last indexing of a realm and its revision, 0 when there was none.
func (l *Ledger) Run(ctx context.Context, realm string) (run index.Run, revision uint64, err error) {
	revision, _, err = l.get(ctx, "read run", l.runs, realmID(realm), &run)
	return run, revision, err
}

// PutRun stores a realm's run if the last one still has the revision that was
// read (0: none). ErrConflict: somebody else began one.
func (l *Ledger) PutRun(ctx context.Context, run index.Run, revision uint64) error {
	run.Version = version
	value, err := json.Marshal(run)
	if err != nil {
		return fmt.Errorf("ledger: store run: %w: %w", ErrInvalid, err)
	}
	return l.do(ctx, "store run", l.runs, func(ctx context.Context, kv jetstream.KeyValue) error {
		if revision == 0 {
			_, err = kv.Create(ctx, realmID(run.Realm), value)
		} else {
			_, err = kv.Update(ctx, realmID(run.Realm), value, revision)
		}
		return err
	})
}

// Failure is why a page of a release is not indexed, or not yet.
type Failure struct {
	Version int         `json:"v"`
	Realm   string      `json:"realm"`
	URL     string      `json:"url"`
	Token   words.Token `json:"token"`
	index.Tries
	// Dead: given up; else it is tried again.
	Dead   bool      `json:"dead"`
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
}

// maxReason bounds what is kept of a reason, in bytes: pages choose its text.
const maxReason = 1 << 10

// PutFailure stores a failure under its page and release.
func (l *Ledger) PutFailure(ctx context.Context, f Failure) error {
	f.Version = version
	f.Reason = f.Reason[:min(len(f.Reason), maxReason)]
	return l.put(ctx, "store failure", l.failures, snapshotKey(f.Realm, f.Token, f.URL), f)
}

// Failure reads what is known of a page's failures; the zero Failure is none.
func (l *Ledger) Failure(ctx context.Context, realm string, token words.Token, url string) (f Failure, err error) {
	_, _, err = l.get(ctx, "read failure", l.failures, snapshotKey(realm, token, url), &f)
	return f, err
}

// RemoveFailure forgets a page's failures.
func (l *Ledger) RemoveFailure(ctx context.Context, realm string, token words.Token, url string) error {
	return l.remove(ctx, "remove failure", l.failures, snapshotKey(realm, token, url))
}

// Failures lists the dead letters of a release of a realm, by URL.
func (l *Ledger) Failures(ctx context.Context, realm string, token words.Token) (all []Failure, err error) {
	err = l.scan(ctx, "list failures", l.failures, realmID(realm)+"."+tokenKey(token)+".*", func(entry jetstream.KeyValueEntry) {
		var f Failure
		if json.Unmarshal(entry.Value(), &f) == nil && f.Dead {
			all = append(all, f)
		}
	})
	slices.SortFunc(all, func(a, b Failure) int { return cmp.Compare(a.URL, b.URL) })
	return all, err
}

// ClearFailures forgets all failures of a release of a realm: its pages are
// tried anew.
func (l *Ledger) ClearFailures(ctx context.Context, realm string, token words.Token) error {
	return l.purge(ctx, "clear failures", l.failures, realmID(realm)+"."+tokenKey(token)+".*")
}

// purge removes every key below filter, without reading them.
func (l *Ledger) purge(ctx context.Context, op string, b *bucket, filter string) error {
	return l.do(ctx, op, b, func(ctx context.Context, kv jetstream.KeyValue) error {
		stream, err := l.js.Stream(ctx, "KV_"+kv.Bucket())
		if err != nil {
			return err
		}
		return stream.Purge(ctx, jetstream.WithPurgeSubject("$KV."+kv.Bucket()+"."+filter))
	})
}

// Progress is what one worker, or all together, did of a run. It is told, not
// relied upon: a worker that is killed takes its last second with it.
type Progress struct {
	Version int `json:"v"`
	Stored  int `json:"stored"`
	Skipped int `json:"skipped"` // there already, or forbidden by robots rules
	Failed  int `json:"failed"`  // given up
}

// PutProgress stores what a worker did of a run so far.
func (l *Ledger) PutProgress(ctx context.Context, realm string, run uint64, worker string, p Progress) error {
	p.Version = version
	return l.put(ctx, "store progress", l.progress, fmt.Sprintf("%s.%d.%s", realmID(realm), run, digest(worker)), p)
}

// Progress adds up what all workers did of a run.
func (l *Ledger) Progress(ctx context.Context, realm string, run uint64) (sum Progress, err error) {
	err = l.scan(ctx, "read progress", l.progress, fmt.Sprintf("%s.%d.*", realmID(realm), run), func(entry jetstream.KeyValueEntry) {
		var p Progress
		if json.Unmarshal(entry.Value(), &p) == nil {
			sum.Stored += p.Stored
			sum.Skipped += p.Skipped
			sum.Failed += p.Failed
		}
	})
	return sum, err
}

// BeginRun queues the job that finds a realm's pages, under a release, and
// records the run. begun is false when such a job is in the queue already, or
// somebody else was first; then run is the last one.
//
// The job goes first: whoever dies in between leaves a run that is begun again,
// never one that is recorded and not done.
func (l *Ledger) BeginRun(ctx context.Context, realm string, class index.Class, current words.Release, now time.Time) (run index.Run, begun bool, err error) {
	last, revision, err := l.Run(ctx, realm)
	if err != nil {
		return last, false, err
	}
	run = index.Run{ID: last.ID + 1, Realm: realm, Class: class, Sequence: current.Sequence, Token: current.Token, StartedAt: now}
	queued, err := l.QueueJobs(ctx, index.Job{
		Class: class, Realm: realm, Token: run.Token, Sequence: run.Sequence, Run: run.ID, QueuedAt: now,
	})
	if err != nil || queued == 0 && last.Sequence == current.Sequence {
		return last, false, err
	}
	err = l.PutRun(ctx, run, revision)
	if errors.Is(err, ErrConflict) {
		last, _, err = l.Run(ctx, realm)
		return last, false, err
	}
	return run, err == nil, err
}
