package ledger

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/rewarm/rewarm/internal/bus"
	"github.com/rewarm/rewarm/internal/index"
	"github.com/rewarm/rewarm/internal/words"
)

const site = "http://realm"

func jobOf(path string) index.Job {
	return index.Job{Class: index.Deploy, Realm: site, URL: site + path, Token: "t", Sequence: 1, QueuedAt: time.Now()}
}

func queueJobs(t *testing.T, l *Ledger, want int, jobs ...index.Job) {
	t.Helper()
	if n, err := l.QueueJobs(t.Context(), jobs...); err != nil || n != want {
		t.Fatalf("queued %d, %v; want %d", n, err, want)
	}
}

func next(t *testing.T, l *Ledger, class index.Class) *QueuedJob {
	t.Helper()
	job, found, err := l.NextJob(t.Context(), class)
	if err != nil || !found {
		t.Fatalf("no job: %t, %v", found, err)
	}
	return job
}

func pending(t *testing.T, l *Ledger, want int) {
	t.Helper()
	if n, err := l.PendingJobs(t.Context(), site); err != nil || n != want {
		t.Errorf("%d pending, %v; want %d", n, err, want)
	}
}

func TestAJobIsInTheQueueOnceUntilItIsDone(t *testing.T) {
	l := fresh(t)
	a, b := jobOf("/a"), jobOf("/b")
	queueJobs(t, l, 2, a, b, a)
	queueJobs(t, l, 0, a)
	other, newer, urgent := a, a, a
	other.Realm, newer.Token, urgent.Class = "http://other", "u", index.Miss
	queueJobs(t, l, 3, other, newer, urgent)
	pending(t, l, 4)
	got := next(t, l, index.Deploy)
	if got.URL != a.URL || got.Token != "t" || got.Deliveries != 1 {
		t.Fatalf("first: %+v", got)
	}
	queueJobs(t, l, 0, a) // being done
	if err := got.End(t.Context()); err != nil {
		t.Fatal(err)
	}
	pending(t, l, 3)
	queueJobs(t, l, 1, a)
	if got := next(t, l, index.Miss); got.URL != urgent.URL || got.Class != index.Miss {
		t.Errorf("miss: %+v", got)
	}
}

// Also in a queue that an older version made, and that takes no batches.
func TestManyJobsAreQueuedOnceEach(t *testing.T) {
	for name, older := range map[string]bool{"of this version": false, "of an older one": true} {
		t.Run(name, func(t *testing.T) {
			l := fresh(t)
			if older {
				before := jetstream.StreamConfig{Name: queueName, Subjects: []string{"rewarm.index.>"}, Retention: jetstream.WorkQueuePolicy}
				if _, err := l.js.CreateStream(t.Context(), before); err != nil {
					t.Fatal(err)
				}
			}
			var jobs []index.Job
			for i := range 2*maxBatch + 2*fewJobs {
				jobs = append(jobs, jobOf(fmt.Sprint("/", i)))
			}
			some := jobs[:len(jobs)-fewJobs]
			queueJobs(t, l, len(some), some...)
			queueJobs(t, l, len(jobs)-len(some), jobs...)
			queueJobs(t, l, 0, jobs...)
			pending(t, l, len(jobs))
			stream, err := l.js.Stream(t.Context(), queueName)
			if err != nil {
				t.Fatal(err)
			}
			first, err := stream.GetMsg(t.Context(), 1)
			if err != nil {
				t.Fatal(err)
			}
			if alone := first.Header.Get(jetstreamext.BatchIDHeader) == ""; alone != older {
				t.Errorf("queued by itself: %t", alone)
			}
			if got := next(t, l, index.Deploy); got.URL != jobs[0].URL {
				t.Errorf("first: %s", got.URL)
			}
		})
	}
}

func TestAJobThatIsGivenBackComesAgain(t *testing.T) {
	l := fresh(t)
	queueJobs(t, l, 1, jobOf("/a"))
	for n := 1; n <= 3; n++ {
		job := next(t, l, index.Deploy)
		if job.Deliveries != n {
			t.Errorf("delivery %d, want %d", job.Deliveries, n)
		}
		if err := errors.Join(job.Keep(), job.Again(time.Duration(n-1)*time.Millisecond)); err != nil {
			t.Fatal(err)
		}
	}
}

// Also with a queue that an older version made, which bounded them.
func TestJobsOfARealmThatIsDownHoldUpNoOthers(t *testing.T) {
	const bound = 5
	l := fresh(t)
	stream, err := l.queue.open(t.Context(), l.js)
	if err != nil {
		t.Fatal(err)
	}
	before := jetstream.ConsumerConfig{Durable: index.Deploy.String(), FilterSubject: "rewarm.index.1.>", AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: bound}
	if _, err := stream.CreateConsumer(t.Context(), before); err != nil {
		t.Fatal(err)
	}
	for i := range 2 * bound {
		queueJobs(t, l, 1, jobOf(fmt.Sprint("/", i)))
		if err := next(t, l, index.Deploy).Again(time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	other := jobOf("/a")
	other.Realm = "http://other"
	queueJobs(t, l, 1, other)
	if got := next(t, l, index.Deploy); got.Realm != other.Realm {
		t.Errorf("next: %+v", got)
	}
	consumer, err := l.queue.consumer(t.Context(), l.js, index.Deploy)
	if err != nil {
		t.Fatal(err)
	}
	if got := consumer.CachedInfo().Config.MaxAckPending; got != -1 {
		t.Errorf("%d jobs at most are held", got)
	}
}

func TestAJobNeedsARealmAndAToken(t *testing.T) {
	l := fresh(t)
	for _, change := range []func(*index.Job){func(j *index.Job) { j.Realm = "" }, func(j *index.Job) { j.Token = "" }} {
		job := jobOf("/a")
		change(&job)
		if _, err := l.QueueJobs(t.Context(), job); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", job, err)
		}
	}
	// Whatever else may write to the queue does not stop it.
	if _, err := l.js.Publish(t.Context(), "rewarm.index.1.x.y.z", []byte("garbage")); err != nil {
		t.Fatal(err)
	}
	queueJobs(t, l, 1, jobOf("/a"))
	if _, found, err := l.NextJob(t.Context(), index.Deploy); found || err != nil {
		t.Errorf("garbage: %t, %v", found, err)
	}
	next(t, l, index.Deploy)
}

// A store that starts again, as after a crash, has every job, and those that
// were out come again.
func TestTheQueueOutlivesItsStore(t *testing.T) {
	dir := t.TempDir()
	b, err := bus.Start(t.Context(), bus.Options{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	l := open(t, b, Options{})
	queueJobs(t, l, 2, jobOf("/a"), jobOf("/b"))
	next(t, l, index.Deploy)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.QueueJobs(t.Context(), jobOf("/c")); !errors.Is(err, ErrAway) {
		t.Errorf("away: %v", err)
	}
	l = open(t, store(t, bus.Options{DataDir: dir}), Options{})
	pending(t, l, 2)
	queueJobs(t, l, 0, jobOf("/a"), jobOf("/b"))
	if job := next(t, l, index.Deploy); job.URL != site+"/b" {
		t.Errorf("next: %s", job.URL)
	}
}

func TestOneWorkerBeginsARun(t *testing.T) {
	l := fresh(t)
	_, revision, err := l.Run(t.Context(), site)
	if err != nil || revision != 0 {
		t.Fatal(revision, err)
	}
	run := index.Run{ID: 1, Realm: site, Sequence: 3, Token: "t"}
	if err := l.PutRun(t.Context(), run, 0); err != nil {
		t.Fatal(err)
	}
	if err := l.PutRun(t.Context(), run, 0); !errors.Is(err, ErrConflict) {
		t.Errorf("a second: %v", err)
	}
	got, revision, err := l.Run(t.Context(), site+"/")
	if err != nil || got.Sequence != 3 || got.Token != "t" {
		t.Errorf("%+v, %v", got, err)
	}
	if err := l.PutRun(t.Context(), run, revision); err != nil {
		t.Error(err)
	}
}

func TestFailuresAreOfAReleaseAndTheDeadAreListed(t *testing.T) {
	l := fresh(t)
	for _, f := range []Failure{
		{Realm: site, URL: site + "/b", Token: "t", Dead: true, Reason: strings.Repeat("x", 2*maxReason)},
		{Realm: site, URL: site + "/a", Token: "t", Dead: true},
		{Realm: site, URL: site + "/trying", Token: "t", Tries: index.Tries{Renders: 2}},
		{Realm: site, URL: site + "/a", Token: "u", Dead: true},
	} {
		if err := l.PutFailure(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	dead, err := l.Failures(t.Context(), site, "t")
	if err != nil || len(dead) != 2 || dead[0].URL != site+"/a" || len(dead[1].Reason) != maxReason {
		t.Errorf("dead: %+v, %v", dead, err)
	}
	if f, err := l.Failure(t.Context(), site, "t", site+"/trying"); err != nil || f.Renders != 2 {
		t.Errorf("%+v, %v", f, err)
	}
	if err := errors.Join(l.RemoveFailure(t.Context(), site, "t", site+"/a"), l.ClearFailures(t.Context(), site, "u")); err != nil {
		t.Fatal(err)
	}
	for token, want := range map[words.Token]int{"t": 1, "u": 0} {
		if dead, err := l.Failures(t.Context(), site, token); err != nil || len(dead) != want {
			t.Errorf("%s: %+v, %v", token, dead, err)
		}
	}
}

func TestProgressIsTheSumOfAllWorkers(t *testing.T) {
	l := fresh(t)
	for worker, p := range map[string]Progress{"a": {Stored: 1, Failed: 2}, "b *.": {Stored: 10, Skipped: 5}} {
		if err := errors.Join(l.PutProgress(t.Context(), site, 1, worker, Progress{}), l.PutProgress(t.Context(), site, 1, worker, p), l.PutProgress(t.Context(), site, 2, worker, p)); err != nil {
			t.Fatal(err)
		}
	}
	if sum, err := l.Progress(t.Context(), site, 1); err != nil || sum != (Progress{Stored: 11, Skipped: 5, Failed: 2}) {
		t.Errorf("%+v, %v", sum, err)
	}
}

func TestPurgeByURLByPrefixAndAll(t *testing.T) {
	l := fresh(t)
	for _, s := range []words.Snapshot{
		{Token: "t", URL: "/a/1"}, {Token: "u", URL: "/a/1"}, {Token: "t", URL: "/a/2"}, {Token: "t", URL: "/b"}, {Token: "t", URL: "/c"}, {Realm: "http://other", Token: "t", URL: "/b"},
	} {
		if s.Realm == "" {
			s.Realm = site
		}
		s.URL = s.Realm + s.URL
		if err := l.PutSnapshot(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		selection Selection
		urls      []string
		snapshots int
	}{
		{Selection{}, nil, 0},
		{Selection{URL: site + "/none"}, nil, 0},
		{Selection{URL: site + "/b"}, []string{"/b"}, 1},
		{Selection{Prefix: site + "/a/"}, []string{"/a/1", "/a/2"}, 3},
		{Selection{All: true}, []string{"/c"}, 1},
		{Selection{All: true}, nil, 0},
	} {
		dry, count, err := l.SelectSnapshots(t.Context(), site, test.selection)
		var want []string
		for _, path := range test.urls {
			want = append(want, site+path)
		}
		if err != nil || !slices.Equal(dry, want) || count != test.snapshots {
			t.Errorf("%+v, dry: %v %d, %v", test.selection, dry, count, err)
		}
		if gone, count, err := l.PurgeSnapshots(t.Context(), site, test.selection); err != nil || !slices.Equal(gone, want) || count != test.snapshots {
			t.Errorf("%+v: %v %d, %v", test.selection, gone, count, err)
		}
	}
	if purges, err := l.Purges(t.Context(), site); err != nil || purges == 0 {
		t.Errorf("no purge is known: %d, %v", purges, err)
	}
	if n, err := l.CountSnapshots(t.Context(), "http://other", "t"); err != nil || n != 1 {
		t.Errorf("another realm's: %d, %v", n, err)
	}
}

func TestW22_AModuleIsFoundUnderItsOwnTokenOnly(t *testing.T) {
	l := fresh(t)
	m := words.Module{Realm: site, Token: "t", URL: site + "/m", Result: []byte(`{"a":1}`), Deps: []string{site + "/d"}, Generation: 4}
	if err := l.PutModule(t.Context(), m, 0); err != nil {
		t.Fatal(err)
	}
	got, revision, found, err := l.Module(t.Context(), site, "t", m.URL)
	if err != nil || !found || string(got.Result) != `{"a":1}` || got.Generation != 4 || !slices.Equal(got.Deps, m.Deps) {
		t.Errorf("%+v %t, %v", got, found, err)
	}
	if _, _, found, err := l.Module(t.Context(), site, "u", m.URL); found || err != nil {
		t.Errorf("under another token: %t, %v", found, err)
	}
	if err := l.PutModule(t.Context(), m, 0); !errors.Is(err, ErrConflict) {
		t.Errorf("a second first: %v", err)
	}
	if err := l.PutModule(t.Context(), m, revision); err != nil {
		t.Error(err)
	}
	if err := l.PutModule(t.Context(), m, revision); !errors.Is(err, ErrConflict) {
		t.Errorf("an old revision: %v", err)
	}
	m.Token = ""
	if err := l.PutModule(t.Context(), m, 0); !errors.Is(err, ErrInvalid) {
		t.Errorf("without a token: %v", err)
	}
}

func TestInvalidationsAreToldInOrder(t *testing.T) {
	l := fresh(t)
	var last uint64
	for i := range 3 {
		generation, err := l.Invalidate(t.Context(), Invalidation{Realm: site, Module: fmt.Sprint(i % 2)})
		if err != nil || generation <= last {
			t.Fatal(generation, err)
		}
		last = generation
	}
	w, err := l.WatchInvalidations(t.Context(), site)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	if _, err := l.Invalidate(t.Context(), Invalidation{Realm: "http://other", Module: "x"}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Invalidate(t.Context(), Invalidation{Realm: site, Pages: Selection{All: true}}); err != nil {
		t.Fatal(err)
	}
	var told []string
	for {
		i, known, err := w.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !known {
			told = append(told, fmt.Sprint(i.Module, i.Pages.All))
		}
		if i.Pages.All {
			break
		}
	}
	if want := []string{"1false", "0false", "true"}; !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
}
