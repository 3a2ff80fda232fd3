package prerender

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/pool"
	"github.com/rewarm/rewarm/internal/web"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// maxTries is how often one render is done before it is refused: what the
// fleet broke once may break again while a deploy is under way, but a page that
// breaks every server must not be tried for ever.
const maxTries = 4

// answerMargin is kept of the budget for writing the answer.
const answerMargin = 50 * time.Millisecond

// attempt is a finished render with where the time went.
type attempt struct {
	capture words.Capture
	lease   *lease
	waited  time.Duration // for the page
	probed  time.Duration
	render  time.Duration
}

func (s *Server) visit(w http.ResponseWriter, r *http.Request) error {
	began := time.Now()
	a, err := s.readAsk(w, r)
	if err != nil {
		return err
	}
	if sequence, token, ok := wire.ParseRelease(r.Header.Get(wire.HeaderRelease)); ok {
		// The manager tells with the work too: what it knew when it sent this
		// render is known here before the render starts.
		s.keeper.tell(func(p *pool.Pool, now time.Time) []pool.Action { return p.Learn(now, sequence, token) })
	}
	ctx, cancel := context.WithTimeoutCause(r.Context(), a.budget-min(answerMargin, a.budget/4), errBudget)
	defer cancel()
	done, err := s.render(ctx, a.visit)
	if err != nil {
		s.logRender(a, attempt{}, began, err)
		return err
	}
	s.writeVisit(w, a, done, began)
	s.logRender(a, done, began, nil)
	return nil
}

// render gives the visit to pages until an outcome may be told: ready, or
// something that the page itself decided on the current release.
func (s *Server) render(ctx context.Context, visit words.Visit) (attempt, error) {
	request := pool.Request{
		Owner: pool.Owner{Affinity: visit.Affinity, AuthHash: authHash(visit.Auth)}, Priority: visit.Priority,
		Pin: visit.Pin, Isolated: visit.Options.Mode == words.ModeIsolated,
	}
	request.Deadline, _ = ctx.Deadline()
	skewed := false
	for range maxTries {
		done, err := s.renderOnce(ctx, request, visit)
		again := ""
		switch {
		case ctx.Err() != nil && context.Cause(ctx) != errBudget:
			return attempt{}, context.Cause(ctx) // the caller is gone
		case fault.Is(err, fault.Refused):
			s.metrics.refused.WithLabelValues("no_page").Inc()
			return attempt{}, err
		case err != nil:
			again = "page_lost"
		case visit.Pin != "" && done.capture.Token != visit.Pin:
			again = "other_document"
		case done.capture.Status == words.StatusReady:
			return done, nil
		case visit.Pin == "" && superseded(s.keeper.status(), done.capture.Token):
			again = "superseded"
			request.Current = true
		case isSkew(done.capture) && !skewed:
			again, skewed = "skew", true
			request.Isolated = true
		default:
			return done, nil
		}
		s.metrics.again.WithLabelValues(again).Inc()
		s.options.Log.Info("render is done again", "requestId", visit.RequestID, "url", visit.URL, "reason", again, "error", err)
		if ctx.Err() != nil {
			break
		}
	}
	s.metrics.refused.WithLabelValues("broken").Inc()
	return attempt{}, fault.Refuse(time.Second, "The render was interrupted and could not be done again in time")
}

func isSkew(c words.Capture) bool { return c.Error != nil && c.Error.Kind == words.PageErrorSkew }

// renderOnce renders on one page. An error other than a refusal means that the
// page, not the URL, is to blame.
func (s *Server) renderOnce(ctx context.Context, request pool.Request, visit words.Visit) (attempt, error) {
	began := time.Now()
	leased, err := s.keeper.acquire(ctx, request)
	if err != nil {
		return attempt{}, err
	}
	done := attempt{lease: leased, waited: time.Since(began)}
	if leased.action.Reused {
		probing := time.Now()
		if err := probe(ctx, leased); err != nil {
			leased.gone()
			return attempt{}, err
		}
		done.probed = time.Since(probing)
	}
	rendering := time.Now()
	done.capture, err = leased.Render(ctx, visit)
	done.render = time.Since(rendering)
	if err != nil {
		leased.done(false)
		return attempt{}, err
	}
	// A document of another token than the page's is the invariant at stake:
	// it must not happen, and if it does the page is not trusted again.
	if done.capture.Token != "" && done.capture.Token != leased.Token() {
		s.metrics.violations.WithLabelValues("never_stale").Inc()
		leased.done(false)
		return attempt{}, errors.New("the document's token is not the page's")
	}
	whole := done.capture.Status == words.StatusReady || done.capture.Status == words.StatusError
	if whole {
		s.health.answered(time.Now())
	}
	leased.done(whole && leased.Reusable() && !isSkew(done.capture))
	return done, nil
}

// probe asks a page that was used before for a sign of life: a script that
// went on after its render was answered may hold the thread for ever.
func probe(ctx context.Context, p Page) error {
	bounded, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	return p.Probe(bounded)
}

func (s *Server) writeVisit(w http.ResponseWriter, a ask, done attempt, began time.Time) {
	status := s.keeper.status()
	token := done.capture.Token
	meta := wire.Meta{
		Timing: wire.Timing{
			LaunchMs: (done.waited + done.probed).Milliseconds(), RenderMs: done.render.Milliseconds(),
			TotalMs: time.Since(began).Milliseconds(),
			Waits:   wire.Waits{TabQueueMs: done.waited.Milliseconds(), TabProbeMs: done.probed.Milliseconds()},
		},
		Pool: wire.PoolMeta{
			PageID: strconv.FormatUint(uint64(done.lease.id), 10), AffinityType: string(a.visit.Affinity.Type),
			AffinityValue: a.visit.Affinity.Value, Reused: done.lease.action.Reused, Evicted: done.lease.action.Evicted,
			TimedOut: done.capture.SettledBy == words.SettledByTimeout,
		},
		HostShell: wire.HostShellMeta{Rendered: token, Desired: status.Current, Fresh: token != "" && token == status.Current},
	}
	result := wire.VisitResult{Capture: done.capture, Meta: wire.ResultMeta{
		RequestID: a.visit.RequestID, Diagnostics: map[string]any{"settledBy": done.capture.SettledBy},
	}}
	w.Header().Set(wire.HeaderAffinity, a.visit.Affinity.Key())
	if token != "" {
		w.Header().Set(wire.HeaderShellHash, string(token))
	}
	web.WriteJSON(w, http.StatusCreated, wire.ContentTypeJSONAPI, wire.Document[wire.VisitResult]{
		Data: wire.Resource[wire.VisitResult]{Type: wire.TypeVisitResult, ID: a.visit.URL, Attributes: result}, Meta: &meta,
	})
}

func (s *Server) logRender(a ask, done attempt, began time.Time, err error) {
	took := time.Since(began)
	fields := []any{"requestId", a.visit.RequestID, "url", a.visit.URL, "affinity", a.visit.Affinity.Key(), "ms", took.Milliseconds()}
	if a.jobID != "" {
		fields = append(fields, "job", "[job: "+a.jobID+"]")
	}
	if err != nil {
		s.options.Log.Warn("render not done", append(fields, "error", err)...)
		return
	}
	c := done.capture
	s.metrics.renders.WithLabelValues(string(c.Status), string(c.SettledBy)).Inc()
	s.metrics.renderSeconds.WithLabelValues(string(c.Status)).Observe(took.Seconds())
	s.options.Log.Info("render", append(fields, "status", c.Status, "httpStatus", c.HTTPStatus, "settledBy", c.SettledBy,
		"token", c.Token, "page", done.lease.id, "reused", done.lease.action.Reused)...)
}
