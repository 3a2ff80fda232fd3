package ledger

import (
	"maps"
	"testing"
	"time"

	"github.com/rewarm/rewarm/internal/index"
)

func TestPendingByClassCountsWhatIsQueuedAndWhatIsBeingDone(t *testing.T) {
	l := fresh(t)
	if got, err := l.PendingByClass(t.Context()); err == nil {
		t.Errorf("without a queue: %v", got)
	}
	counts := func(when string, miss, deploy, routine int) {
		t.Helper()
		want := map[index.Class]int{index.Miss: miss, index.Deploy: deploy, index.Routine: routine}
		if got, err := l.PendingByClass(t.Context()); err != nil || !maps.Equal(got, want) {
			t.Errorf("%s: %v, %v; want %v", when, got, err, want)
		}
	}
	urgent, elsewhere, routine := jobOf("/a"), jobOf("/a"), jobOf("/a")
	urgent.Class, elsewhere.Realm, routine.Class = index.Miss, "http://other", index.Routine
	queueJobs(t, l, 5, jobOf("/a"), jobOf("/b"), elsewhere, urgent, routine)
	missed, first := next(t, l, index.Miss), next(t, l, index.Deploy)
	if err := next(t, l, index.Routine).End(t.Context()); err != nil {
		t.Fatal(err)
	}
	counts("two being done, one ended", 1, 3, 0)
	if err := first.Again(time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := missed.End(t.Context()); err != nil {
		t.Fatal(err)
	}
	counts("one given back, two ended", 0, 3, 0)
}
