// Package index decides what of a realm is rendered ahead of its visitors, in
// which order, how often it is tried, and what a new release means for it. It
// reads sitemaps and robots rules. It is pure: the queue is the ledger's, the
// renders are the worker's.
package index

import (
	"time"

	"github.com/rewarm/rewarm/internal/words"
)

// Class is what a job is for. A lower one goes first.
type Class int

// The classes of jobs.
const (
	// Miss is a page that a visitor asked for in vain.
	Miss Class = iota
	// Deploy is a page of the re-index that a release begins.
	Deploy
	// Routine is a page of a re-index that nobody waits for.
	Routine
)

// Classes lists all classes, the most urgent first.
func Classes() []Class { return []Class{Miss, Deploy, Routine} }

func (c Class) String() string {
	switch c {
	case Miss:
		return "miss"
	case Deploy:
		return "deploy"
	}
	return "routine"
}

// Job asks for one page of one release to be rendered and stored; with an
// empty URL, for the realm's pages to be looked up and queued.
type Job struct {
	Version  int         `json:"v"`
	Class    Class       `json:"class"`
	Realm    string      `json:"realm"` // base URL
	URL      string      `json:"url,omitempty"`
	Token    words.Token `json:"token"`
	Sequence uint64      `json:"sequence"` // of the release
	Run      uint64      `json:"run,omitempty"`
	QueuedAt time.Time   `json:"queuedAt"`
	Depth    int         `json:"depth,omitempty"` // links followed from a page that was listed
}

// Seeds reports whether the job is to find a realm's pages, not to render one.
func (j Job) Seeds() bool { return j.URL == "" }

// Run is one indexing of one realm. Runs of a realm are numbered upwards.
type Run struct {
	Version   int         `json:"v"`
	ID        uint64      `json:"id"`
	Realm     string      `json:"realm"`
	Class     Class       `json:"class"`
	Sequence  uint64      `json:"sequence"`
	Token     words.Token `json:"token"`
	StartedAt time.Time   `json:"startedAt"`
}

// ageStep is how long a job waits to be as urgent as one of the class before
// its own: a crowd of misses delays a re-index, it never stops it.
const ageStep = time.Minute

// urgency orders jobs: what is smaller goes first.
func (j Job) urgency(now time.Time) time.Duration {
	return time.Duration(j.Class)*ageStep - max(0, now.Sub(j.QueuedAt))
}

// Next returns which of the jobs goes first, -1 when there is none. A nil job
// is none. Of two that are equally urgent the one of the lower class does.
func Next(now time.Time, heads []*Job) int {
	best := -1
	for i, job := range heads {
		if job == nil {
			continue
		}
		if best < 0 || job.urgency(now) < heads[best].urgency(now) ||
			job.urgency(now) == heads[best].urgency(now) && job.Class < heads[best].Class {
			best = i
		}
	}
	return best
}

// Follow is what a job is to become under the current release.
type Follow int

// What can become of a job.
const (
	// Go: the job is of the current release.
	Go Follow = iota
	// Redo: the release is over; the page is to be queued again under the
	// current one. For a job that seeds, the release queues its own.
	Redo
	// Drop: the release is over, and the current one does this anyway.
	Drop
	// Wait: the job is of a release that this worker has not heard of yet.
	Wait
)

// Under judges a job by the release that is current.
func (j Job) Under(current words.Release) Follow {
	switch {
	case j.Sequence > current.Sequence:
		return Wait
	case j.Token == current.Token:
		// Also after a rollback to the job's own token: its page is wanted again.
		return Go
	case j.Seeds() && j.Class == Deploy:
		return Drop
	}
	return Redo
}

// On is the job as one of another release.
func (j Job) On(current words.Release, run uint64) Job {
	j.Token, j.Sequence, j.Run = current.Token, current.Sequence, run
	return j
}

// Needed reports whether the job's page must be rendered although a snapshot
// of its release, made at renderedAt, is stored. A page that somebody asked to
// be indexed again is, unless it was rendered since; any other only when the
// snapshot is older than maxAge.
func (j Job) Needed(now, renderedAt time.Time, maxAge time.Duration) bool {
	if renderedAt.IsZero() {
		return true
	}
	if j.Class == Routine {
		return renderedAt.Before(j.QueuedAt)
	}
	return now.Sub(renderedAt) >= maxAge
}

// Due decides which run a realm needs now, if any: the first of a release, or
// a routine one when every has passed since the last (0: never).
func Due(now time.Time, last Run, current words.Release, every time.Duration) (class Class, due bool) {
	switch {
	case current.Sequence == 0:
		return 0, false
	case last.Sequence < current.Sequence:
		return Deploy, true
	case every > 0 && now.Sub(last.StartedAt) >= every:
		return Routine, true
	}
	return 0, false
}
