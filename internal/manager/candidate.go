package manager

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/ledger"
	"github.com/rewarm/rewarm/internal/release"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// watchCandidate has each candidate checked once all who are to switch together
// have it, and promotes or refuses it. Other managers may check the same; the
// first verdict holds.
func (m *Manager) watchCandidate(ctx context.Context) {
	for ctx.Err() == nil {
		changed := m.fleet.change()
		if c, servers := m.fleet.uncheckedCandidate(); len(servers) > 0 {
			m.checkCandidate(ctx, c)
			continue
		}
		select {
		case <-changed:
		case <-time.After(tickInterval): // a server that comes back into rotation is no change
		case <-ctx.Done():
		}
	}
}

func (m *Manager) checkCandidate(ctx context.Context, c release.Candidate) {
	check := canary{Manager: m, token: c.Token, candidate: true}
	check.servers = func() []string {
		now, servers := m.fleet.uncheckedCandidate()
		if now.Token != c.Token || !now.Turned.Equal(c.Turned) {
			return nil
		}
		return servers
	}
	verdict, err := check.verdict(ctx)
	if err != nil {
		return
	}
	m.log.Log(ctx, level(verdict.Passed), "candidate checked", "token", c.Token, "server", verdict.Server, "passed", verdict.Passed, "detail", verdict.Detail)
	for ctx.Err() == nil && check.goesOn() {
		outcome, err := m.releases.judge(ctx, func(b *release.Book, now time.Time) release.Outcome {
			switch {
			case !b.Still(now, c):
				return release.Outcome{}
			case verdict.Passed:
				return b.Pass(now, c.Token)
			}
			return b.Refuse(now, release.Refusal{Token: c.Token, Server: verdict.Server, Detail: verdict.Detail, Checks: verdict.Checks})
		})
		if err == nil {
			m.accountCandidate(outcome)
			return
		}
		m.log.Warn("the candidate's verdict is not stored", "token", c.Token, "error", err)
		verdict.Checks = nil // if it was they that were too large
		pause(ctx, canaryRetry)
	}
}

// accountCandidate counts what was decided of a candidate.
func (m *Manager) accountCandidate(o release.Outcome) {
	switch {
	case o.New != nil:
		m.metrics.candidates.WithLabelValues("promoted").Inc()
	case o.Refused != nil && o.Refused.Dropped:
		m.metrics.candidates.WithLabelValues("dropped").Inc()
	case o.Refused != nil:
		m.metrics.candidates.WithLabelValues("refused").Inc()
	}
}

// setCandidate takes in what is to be promoted next; nil for nothing.
func (f *fleet) setCandidate(now time.Time, c *release.Candidate) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !reflect.DeepEqual(c, f.candidate) {
		f.candidate = c
		f.replan(now, true)
	}
}

// uncheckedCandidate is the candidate that may be checked now, and the servers
// that may be asked to; none when it may not.
func (f *fleet) uncheckedCandidate() (c release.Candidate, servers []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.candidate == nil || !f.candidate.Ready() || f.control.Paused || f.away {
		return release.Candidate{}, nil
	}
	return *f.candidate, f.renderers()
}

// renderers are the servers that take work. f.mu is held.
func (f *fleet) renderers() (urls []string) {
	for url, s := range f.servers {
		if !s.draining && !s.out {
			urls = append(urls, url)
		}
	}
	slices.Sort(urls)
	return urls
}

// tellCandidate is the candidate as GET /rollout shows it. f.mu is held.
func (f *fleet) tellCandidate() *wire.CandidateReport {
	c := f.candidate
	if c == nil {
		return nil
	}
	view := &wire.CandidateReport{
		Token: c.Token, Since: c.Since, DeploymentID: c.DeploymentID, Phase: wire.CandidateWaiting, Detail: "release " + string(c.Token) + " " + c.Waits(),
		Have: append([]string{}, c.Have...), Missing: append([]string{}, c.Missing...),
	}
	switch {
	case c.Refusal != nil:
		view.Phase, view.Dropped = wire.CandidateRefused, c.Refusal.Dropped
		view.Canary = &wire.CanaryReport{Server: c.Refusal.Server, Detail: c.Refusal.Detail, Checks: c.Refusal.Checks, At: c.Refusal.At}
		way := "undo drops it, restart has it checked again, resume promotes it all the same"
		if c.Refusal.Dropped {
			way = "it was dropped; only a newer one is promoted, or this one by `rewarm release report --hash`"
		}
		view.Detail += fmt.Sprintf("; release %d goes on being served (%s)", f.release.Sequence, way)
	case !c.Ready():
		view.Detail += "; resume --release promotes it without them"
	case f.control.Paused:
		view.Detail = "release " + string(c.Token) + " waits, for an operator paused the rollout; resume goes on"
	case f.away:
		view.Detail = "release " + string(c.Token) + " waits for the store, which is away"
	case len(f.renderers()) == 0:
		view.Detail = "release " + string(c.Token) + " waits for a prerender server to check it; resume --release promotes it unchecked"
	default:
		view.Phase = wire.CandidateChecking
	}
	return view
}

// steerCandidate has an operator's order decide on the candidate.
func (m *Manager) steerCandidate(ctx context.Context, order func(*release.Book, time.Time) release.Outcome) (release.Outcome, error) {
	outcome, err := m.releases.judge(ctx, order)
	if err == nil {
		m.accountCandidate(outcome)
	}
	return outcome, err
}

// resume goes on after a pause. A candidate that only the pause held is left to
// its check; one that waits for something else, or was refused, is promoted.
func (m *Manager) resume(ctx context.Context, token words.Token, by string) error {
	control, err := m.store.Control(ctx)
	if err != nil {
		return away(err)
	}
	outcome, promoting := m.steerCandidate(ctx, func(b *release.Book, now time.Time) release.Outcome {
		return b.Resume(now, token, control.Paused)
	})
	if token != "" && outcome.Declined != "" {
		return declined(outcome)
	}
	if err := m.setPaused(ctx, false, by); err != nil {
		return err
	}
	overruled := false
	err = m.ruleCanary(ctx, func(c *ledger.Canary) bool {
		overruled = m.fleet.overrule(time.Now(), c)
		return overruled
	})
	if err == nil && promoting == nil && outcome.Declined != "" && !control.Paused && !overruled {
		return declined(outcome) // it was all that could be meant
	}
	return errors.Join(err, promoting)
}

// declined tells an operator why nothing was done.
func declined(o release.Outcome) error {
	return fault.New(fault.Superseded, "Nothing was done: %s", o.Declined)
}
