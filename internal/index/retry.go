package index

import "time"

// MaxRenders is how often a page is rendered for one job before it is given
// up: four times within a minute and a half tell a page that is broken from a
// backend that was restarted.
const MaxRenders = 4

// MaxDeliveries is how often a job is handed out at all. Refusals and dead
// workers count here, and say nothing of the page, so there may be many; none
// means that a job which kills its worker would go round for ever.
const MaxDeliveries = 200

// Bounds of the time to the next try.
const (
	firstBackoff = 5 * time.Second
	maxBackoff   = time.Minute
	refusedFor   = 2 * time.Second
)

// Backoff is how long a page waits after its n-th failed render (from 1): 5 s,
// 15 s, 45 s, and never more than a minute.
func Backoff(n int) time.Duration {
	d := firstBackoff
	for range n - 1 {
		if d *= 3; d >= maxBackoff {
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
)

// Verdict is what happens to the job.
type Verdict struct {
	Finished bool          // take it out of the queue
	Dead     bool          // and keep it among the dead letters
	After    time.Duration // else: try again then
}

// Judge decides after a try: renders is how often the page was rendered in
// vain, this time included; deliveries how often the job was handed out; asked
// the time after which the fleet wants to be asked again, 0 if it did not say.
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
	}
	if deliveries >= MaxDeliveries {
		return Verdict{Finished: true, Dead: true}
	}
	if outcome == Overtaken {
		return Verdict{After: time.Second}
	}
	return Verdict{After: min(max(asked, refusedFor), maxBackoff)}
}
