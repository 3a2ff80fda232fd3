package manager

import (
	"net/http"
	"time"

	"github.com/rewarm/rewarm/internal/release"
	"github.com/rewarm/rewarm/internal/web"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// report takes a realm server's report. 204 means that it is stored; a
// draining manager takes reports too.
func (m *Manager) report(w http.ResponseWriter, r *http.Request) error {
	body, err := web.ReadBody(w, r)
	if err != nil {
		return err
	}
	said, err := wire.ParseReport(body)
	if err != nil {
		m.metrics.reports.WithLabelValues("invalid").Inc()
		return err
	}
	outcome, err := m.releases.report(r.Context(), release.Report{
		Token:        said.Hash,
		Source:       said.Source,
		Reporter:     said.Reporter,
		Since:        said.Since,
		Realms:       said.Realms,
		DeploymentID: said.DeploymentID,
		Candidate:    said.State == wire.StateCandidate,
		Gated:        said.Promotion == wire.PromotionGated,
		Holds:        said.Candidate,
		Kept:         said.Kept,
	})
	if err != nil {
		m.metrics.reports.WithLabelValues("away").Inc()
		return err
	}
	m.metrics.reports.WithLabelValues(outcome.Name()).Inc()
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// hostShell shows the releases and who serves what.
func (m *Manager) hostShell(w http.ResponseWriter, r *http.Request) error {
	now := time.Now()
	view := wire.Releases{History: []wire.ReleaseView{}, Reporters: []wire.ReporterView{}}
	book := m.releases.book()
	state := book.State()
	view.History = append(view.History, state.History...)
	if len(state.History) > 0 {
		view.Current = &view.History[0]
	}
	for _, reporter := range book.Reporters(now) {
		shown := wire.ReporterView{
			Name:       reporter.Name,
			Token:      reporter.Token,
			Since:      reporter.Since,
			LastSeenAt: reporter.LastSeenAt,
			Behind:     reporter.Behind,
			Realms:     append([]string{}, reporter.Realms...),
		}
		if reporter.Gated {
			shown.Promotion, shown.Candidate = wire.PromotionGated, book.Holds(now, reporter)
		}
		view.Reporters = append(view.Reporters, shown)
	}
	web.WriteJSON(w, http.StatusOK, wire.ContentTypeJSON, view)
	return nil
}

// announce puts the current release on every answer, as it is when the answer
// begins: a report's own answer already names what it led to.
func (m *Manager) announce(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(&announcer{ResponseWriter: w, current: m.fleet.current}, r)
	})
}

type announcer struct {
	http.ResponseWriter
	current func() words.Release
	begun   bool
}

func (a *announcer) WriteHeader(status int) {
	if !a.begun {
		a.begun = true
		a.Header().Del(wire.HeaderRelease)
		if r := a.current(); r.Sequence > 0 {
			a.Header().Set(wire.HeaderRelease, wire.FormatRelease(r))
		}
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *announcer) Write(p []byte) (int, error) {
	if !a.begun {
		a.WriteHeader(http.StatusOK)
	}
	return a.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController find Flush.
func (a *announcer) Unwrap() http.ResponseWriter { return a.ResponseWriter }
