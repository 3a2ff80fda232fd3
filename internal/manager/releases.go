package manager

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/ledger"
	"github.com/rewarm/rewarm/internal/release"
)

// maxConflicts bounds how often a report is judged again because another
// manager wrote first. Every conflict is somebody's progress.
const maxConflicts = 10

// releases records what is reported. Every report is judged against what the
// store says at that moment, so managers need not agree on anything else.
type releases struct {
	store   *ledger.Ledger
	fleet   *fleet
	log     *slog.Logger
	metrics *metrics
	gate    chan struct{} // one judgement at a time in this process

	mu    sync.Mutex
	state release.State // the newest known
	last  []release.Reporter
}

// report judges and records r. It returns only what is stored: an error means
// that nobody may rely on it, and the reporter must say it again.
func (s *releases) report(ctx context.Context, r release.Report) (release.Outcome, error) {
	return s.judge(ctx, func(b *release.Book, now time.Time) release.Outcome { return b.Report(now, r) })
}

// tick lets time pass over the releases.
func (s *releases) tick(ctx context.Context) error {
	_, err := s.judge(ctx, (*release.Book).Tick)
	return err
}

func (s *releases) judge(ctx context.Context, decide func(*release.Book, time.Time) release.Outcome) (release.Outcome, error) {
	select {
	case s.gate <- struct{}{}:
		defer func() { <-s.gate }()
	case <-ctx.Done():
		return release.Outcome{}, away(ctx.Err())
	}
	for range maxConflicts {
		state, revision, err := s.store.Releases(ctx)
		if err != nil {
			return release.Outcome{}, away(err)
		}
		reporters, err := s.store.Reporters(ctx)
		if err != nil {
			return release.Outcome{}, away(err)
		}
		book := release.Open(state, reporters)
		now := time.Now()
		outcome := decide(book, now)
		if book.Changed() {
			_, err := s.store.PutReleases(ctx, book.State(), revision)
			if errors.Is(err, ledger.ErrConflict) {
				continue
			}
			if err != nil {
				return release.Outcome{}, away(err)
			}
			s.account(outcome)
		}
		s.learn(now, book.State(), book.Reporters(now))
		if outcome.Reporter.Name != "" {
			if err := s.store.PutReporter(ctx, outcome.Reporter); err != nil {
				return release.Outcome{}, away(err)
			}
		}
		return outcome, nil
	}
	return release.Outcome{}, away(ledger.ErrConflict)
}

// account logs and counts what was decided and stored.
func (s *releases) account(o release.Outcome) {
	if o.New != nil {
		s.log.Info("release", "sequence", o.New.Sequence, "token", o.New.Token, "source", o.New.Source,
			"reporter", o.New.Reporter, "deploymentId", o.New.DeploymentID, "rollback", o.Rollback)
		s.metrics.releases.Inc()
	}
	if o.Refused != nil {
		s.log.Warn("candidate refused", "token", o.Refused.Token, "detail", o.Refused.Detail, "dropped", o.Refused.Dropped)
	}
}

// learn takes in what is stored and tells the fleet of it.
func (s *releases) learn(now time.Time, state release.State, reporters []release.Reporter) {
	s.mu.Lock()
	if state.Sequence >= s.state.Sequence {
		s.state = state
	}
	if reporters != nil {
		s.last = reporters
	}
	state, reporters = s.state, s.last
	s.mu.Unlock()
	var realms []string
	for _, r := range reporters {
		realms = append(realms, r.Realms...)
	}
	s.fleet.setRealms(realms)
	if len(state.History) > 0 {
		s.fleet.setRelease(now, state.History[0])
	}
	if c, ok := release.Open(state, reporters).Candidate(now); ok {
		s.fleet.setCandidate(now, &c)
	} else {
		s.fleet.setCandidate(now, nil)
	}
}

// liveRealms are those of reporters that were heard of late.
func (s *releases) liveRealms(now time.Time) (realms []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.last {
		if r.Live(now) {
			realms = append(realms, r.Realms...)
		}
	}
	return realms
}

// book is what was known last, for questions that need not ask the store.
func (s *releases) book() *release.Book {
	s.mu.Lock()
	defer s.mu.Unlock()
	return release.Open(s.state, s.last)
}

// away is the answer to whoever needs the store: come back, nothing is stored.
func away(err error) error {
	e := fault.Refuse(time.Second, "The store is away")
	e.Cause = err
	return e
}
