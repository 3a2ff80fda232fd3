package index

import "time"

// MaxRenders is how often a page is rendered for one job before it is given
// up: four times within a minute and a half tell a page that is broken from a
// backend that was restarted.
const MaxRenders = 4

// Bounds of the time to the next try.
const (
	firstBackoff = 5 * time.Second
	maxBackoff   = time.Minute
	refusedFor   = 2 * time.Second
	overtakenFor = time.Second
)

// Backoff is how long a page waits after its n-th failed render (from 1): 5 s,
// 15 s, 45 s, and never more than a minute.
func Backoff(n int) time.Duration { return grown(firstBackoff, 3, n) }

// grown is d, n-1 times multiplied by factor, and never more than maxBackoff.
func grown(d, factor time.Duration, n int) time.Duration {
	for range n - 1 {
		if d *= factor; d >= maxBackoff {
			return maxBackoff
		}
	}
	return d
}

// Outcome is what came of one try, as far as the next one depends on it.
type Outcome int

// The outcomes of a try.
const (
	// Done: stored, or there already.
	Done Outcome = iota
	// Skipped: the rules say that the page is not to be indexed.
	Skipped
	// Failed: the page was rendered, and is no use.
	Failed
	// Hopeless: the page will never be stored, as one that is too large.
	Hopeless
	// Refused: nothing was rendered; the fleet or the store was busy or away.
	Refused
	// Overtaken: the release changed meanwhile.
	Overtaken
	// Held: nothing was rendered, for a reason of the realm or the page alone:
	// its rate, its rules, a purge. Others are not concerned.
	Held
)

// Verdict is what happens to the job.
type Verdict struct {
	Finished bool          // take it out of the queue
	Dead     bool          // and keep it among the dead letters
	After    time.Duration // else: try again then
	// Pause is how long whoever refused this is to be asked for nothing.
	Pause time.Duration
}

// Judge decides after a try: renders is how often the page was rendered in
// vain, this time included; deliveries how often the job was handed out; asked
// the time after which the fleet, or the realm's rate, wants to be asked again,
// 0 if it did not say.
//
// A refusal never ends a job, for it says nothing of the page: a fleet that is
// away for an hour leaves no page unindexed. What ends such a job is the
// release, when it is over.
func Judge(outcome Outcome, renders, deliveries int, asked time.Duration) Verdict {
	switch outcome {
	case Done, Skipped:
		return Verdict{Finished: true}
	case Hopeless:
		return Verdict{Finished: true, Dead: true}
	case Failed:
		if renders >= MaxRenders {
			return Verdict{Finished: true, Dead: true}
		}
		return Verdict{After: Backoff(renders)}
	case Overtaken:
		return Verdict{After: grown(overtakenFor, 2, deliveries)}
	case Held:
		if asked > 0 {
			return Verdict{After: min(asked, maxBackoff)}
		}
		return Verdict{After: grown(refusedFor, 2, deliveries)}
	}
	return Verdict{
		After: min(max(asked, grown(refusedFor, 2, deliveries)), maxBackoff),
		// Does not grow: it is the worker that waits, and other jobs with it.
		Pause: min(max(asked, refusedFor), maxBackoff),
	}
}
