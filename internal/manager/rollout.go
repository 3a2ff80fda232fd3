package manager

import (
	"context"
	"net/http"
	"time"

	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/ledger"
	"github.com/rewarm/rewarm/internal/release"
	"github.com/rewarm/rewarm/internal/web"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// progress is the rollout as of now. Time alone may change it (a server is no
// longer live), so it is computed when asked for.
func (f *fleet) progress(now time.Time) wire.Rollout {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.replan(now, false)
	view := wire.Rollout{
		Release:      wire.RolloutRelease{Sequence: f.release.Sequence, Token: f.release.Token},
		Phase:        wire.RolloutPhase(f.plan.Phase),
		Detail:       f.plan.Detail,
		StartedAt:    f.plan.StartedAt,
		FinishedAt:   f.plan.FinishedAt,
		CanaryPassed: f.plan.CanaryPassed,
		Candidate:    f.tellCandidate(),
		Servers:      make([]wire.RolloutServer, 0, len(f.plan.Servers)),
	}
	if c := f.canary; c.Sequence == f.release.Sequence && c.Sequence > 0 {
		view.Canary = &wire.CanaryReport{Server: c.Server, Passed: c.Passed, Detail: c.Detail, Checks: c.Checks, At: c.At}
	}
	for _, s := range f.plan.Servers {
		pages := s.Pages
		if pages == nil {
			pages = map[words.Token]int{}
		}
		view.Servers = append(view.Servers, wire.RolloutServer{URL: s.URL, Phase: s.Phase, Permitted: s.Permitted, Pages: pages, Detail: s.Detail})
	}
	return view
}

func (m *Manager) showRollout(w http.ResponseWriter, r *http.Request) error {
	web.WriteJSON(w, http.StatusOK, wire.ContentTypeJSON, m.fleet.progress(time.Now()))
	return nil
}

// steer answers POST /rollout/{action}.
func (m *Manager) steer(w http.ResponseWriter, r *http.Request) error {
	action := r.PathValue("action")
	by := web.RequestID(r.Context())
	token, err := steered(r)
	if err != nil {
		return err
	}
	unchanged := ""
	switch action {
	case "pause":
		err = m.setPaused(r.Context(), true, by)
	case "resume":
		err = m.resume(r.Context(), token, by)
	case "restart":
		err = m.restart(r.Context(), by)
	case "undo":
		unchanged, err = m.undo(r.Context(), token)
	default:
		return web.NotFound(w, r)
	}
	if err != nil {
		return err
	}
	m.log.Info("rollout steered", "action", action, "requestId", by, "unchanged", unchanged)
	view := m.fleet.progress(time.Now())
	view.Unchanged = unchanged
	web.WriteJSON(w, http.StatusOK, wire.ContentTypeJSON, view)
	return nil
}

// restart has a candidate that was refused checked again, and the current
// release rolled out again from its canary. While a candidate is not decided on,
// it is for a canary that broke only: a pause that an operator ordered holds.
func (m *Manager) restart(ctx context.Context, by string) error {
	outcome, err := m.steerCandidate(ctx, (*release.Book).Recheck)
	if err != nil {
		return err
	}
	if outcome.Declined != "" && !m.fleet.canaryBroke() {
		return declined(outcome)
	}
	if err := m.ruleCanary(ctx, func(c *ledger.Canary) bool { *c = ledger.Canary{At: time.Now()}; return true }); err != nil {
		return err
	}
	m.fleet.restartRollout(time.Now())
	return m.setPaused(ctx, false, by)
}

// canaryBroke reports whether the canary holds the current release back.
func (f *fleet) canaryBroke() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.canary.Sequence > 0 && f.canary.Sequence == f.release.Sequence && !f.canary.Passed
}

func (m *Manager) setPaused(ctx context.Context, paused bool, by string) error {
	now := time.Now()
	control := ledger.Control{Paused: paused, At: now, By: by}
	if err := m.store.PutControl(ctx, control); err != nil {
		return away(err)
	}
	m.fleet.setControl(now, control)
	return nil
}

// overrule makes a verdict that holds the current release back one that does
// not; false when it is none.
func (f *fleet) overrule(now time.Time, c *ledger.Canary) bool {
	if c.Passed || c.Sequence == 0 || c.Sequence != f.current().Sequence {
		return false
	}
	c.Passed, c.At, c.Detail = true, now, "resumed by an operator, though: "+c.Detail
	return true
}

// undo drops the candidate, or makes the previous release current again;
// unchanged is why nothing was left to do, "" if something was.
func (m *Manager) undo(ctx context.Context, token words.Token) (unchanged string, err error) {
	outcome, err := m.steerCandidate(ctx, func(b *release.Book, now time.Time) release.Outcome { return b.Undo(now, token) })
	switch {
	case err != nil:
		return "", err
	case outcome.Declined != "":
		return "", declined(outcome)
	case outcome.New == nil && outcome.Refused == nil && outcome.Unchanged == "":
		return "", fault.New(fault.Invalid, "There is no previous release to go back to")
	}
	return outcome.Unchanged, nil
}

// steered is the release that an order names, "" for none.
func steered(r *http.Request) (words.Token, error) {
	named := r.URL.Query().Get("release")
	if named == "" {
		return "", nil
	}
	token, err := words.ParseToken(named)
	if action := r.PathValue("action"); err == nil && action != "resume" && action != "undo" {
		err = fault.New(fault.Invalid, "only resume and undo take a release")
	}
	if err != nil {
		return "", fault.Wrap(fault.Invalid, err, "release: %v", err)
	}
	return token, nil
}
