package prerender

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/page"
	"github.com/rewarm/rewarm/internal/pool"
	"github.com/rewarm/rewarm/internal/web"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// check is a takeover check that was asked for, and until when.
type check struct {
	observe page.ObserveOptions
	realm   string
	budget  time.Duration
	// release is a token that the realm server holds and does not serve; "" checks
	// what it serves.
	release   words.Token
	requestID string
}

// takeoverCheck loads a page as a visitor gets it and says what becomes of it
// when the application takes over.
func (s *Server) takeoverCheck(w http.ResponseWriter, r *http.Request) error {
	began := time.Now()
	c, err := s.readCheck(w, r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(r.Context(), c.budget-min(answerMargin, c.budget/4), errBudget)
	defer cancel()
	seen, err := s.observe(ctx, c)
	if err != nil {
		return s.noCheck(ctx, err)
	}
	result := seen.Result()
	s.metrics.checks.WithLabelValues(result.Verdict.Verdict).Inc()
	s.options.Log.Info("takeover check", "requestId", web.RequestID(r.Context()), "url", c.observe.URL, "verdict", result.Verdict.Verdict,
		"release", c.release, "snapshot", result.Snapshot, "findings", len(result.Findings), "ms", time.Since(began).Milliseconds())
	web.WriteJSON(w, http.StatusOK, wire.ContentTypeJSONAPI, wire.Document[wire.TakeoverResult]{
		Data: wire.Resource[wire.TakeoverResult]{Type: wire.TypeTakeoverResult, ID: c.observe.URL, Attributes: result},
	})
	return nil
}

func (s *Server) readCheck(w http.ResponseWriter, r *http.Request) (check, error) {
	body, err := web.ReadBody(w, r)
	if err != nil {
		return check{}, err
	}
	request, err := wire.ParseTakeoverRequest(body)
	if err != nil {
		return check{}, err
	}
	realm, err := s.placeOrLearn(r, page.Document, &wire.VisitRequest{URL: request.URL, Realm: request.Realm}, words.Affinity{}, false)
	if err != nil {
		return check{}, err
	}
	budget := min(wire.Budget(r.Header.Get(wire.HeaderBudget), 0), s.options.RenderTimeout)
	patience := budget / 2 // what follows has bounds of its own
	if request.Release != "" {
		patience = budget / 3 // it is rendered first, for as long
	}
	if request.TimeoutMs > 0 {
		patience = min(patience, wire.Budget("", request.TimeoutMs))
	}
	return check{
		observe: page.ObserveOptions{
			URL: request.URL, Realms: s.realms.all(), Allow: request.AllowDifference, Viewport: request.Viewport,
			Patience: patience, Pictures: request.Screenshots,
		},
		realm: realm, budget: budget, release: request.Release, requestID: web.RequestID(r.Context()),
	}, nil
}

// observe waits for its turn among the renders: a check costs what a page
// costs, so one of the pool's rests meanwhile.
func (s *Server) observe(ctx context.Context, c check) (page.Observation, error) {
	request := pool.Request{Owner: pool.Owner{Affinity: words.Affinity{Type: words.AffinityRealm, Value: c.realm}}}
	request.Deadline, _ = ctx.Deadline()
	turn, err := s.lease(ctx, request, false) // nothing is begun on it
	if err != nil {
		return page.Observation{}, err
	}
	defer turn.lease.done(true)
	browser, err := s.slot.get(ctx)
	if err != nil {
		return page.Observation{}, err
	}
	if c.release != "" {
		return s.observeCandidate(ctx, browser, c)
	}
	return browser.Observe(ctx, c.observe)
}

// noCheck says why there is no verdict: none of it is the page's fault.
func (s *Server) noCheck(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil && context.Cause(ctx) != errBudget:
		return context.Cause(ctx) // the caller is gone
	case fault.Is(err, fault.Refused):
		s.metrics.refused.WithLabelValues("no_page").Inc()
		return err
	case isFinal(err):
		return finally(err)
	}
	s.options.Log.Warn("takeover check not done", "error", err)
	if errors.Is(context.Cause(ctx), errBudget) {
		return fault.Refuse(time.Second, "The check was not done within the budget")
	}
	return fault.Refuse(time.Second, "The check was interrupted")
}
