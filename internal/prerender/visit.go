package prerender

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/page"
	"github.com/rewarm/rewarm/internal/pool"
	"github.com/rewarm/rewarm/internal/web"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// maxTries is how often one render is done before it is refused: what the
// fleet broke once may break again while a deploy is under way, but a page that
// breaks every server must not be tried for ever.
const maxTries = 4

// lostPause is between the loss of a page and the next try. A browser that
// dies takes all its pages with it, and without a pause the ones that the pool
// has not heard of yet would use up a render's tries within a millisecond.
const lostPause = 100 * time.Millisecond

// answerMargin is kept of the budget for writing the answer.
const answerMargin = 50 * time.Millisecond

// attempt is a finished task with where the time went.
type attempt struct {
	result page.Result
	lease  *lease
	waited time.Duration // for the page
	probed time.Duration
	render time.Duration
}

// perform is the handler of a task's route.
func (s *Server) perform(t task) web.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		began := time.Now()
		a, err := s.readAsk(w, r, t)
		if err != nil {
			return err
		}
		if sequence, token, ok := wire.ParseRelease(r.Header.Get(wire.HeaderRelease)); ok {
			// The manager tells with the work too: what it knew when it sent this
			// render is known here before the render starts.
			s.keeper.tell(func(p *pool.Pool, now time.Time) []pool.Action { return p.Learn(now, sequence, token) })
		}
		e, err := s.lineage.begin(a)
		if err != nil {
			s.metrics.refused.WithLabelValues("cycle").Inc()
			s.logRender(a, attempt{}, began, err)
			return err
		}
		defer s.lineage.end(e)
		a.task.Visit.Carry = e.carry
		ctx, cancel := context.WithTimeoutCause(r.Context(), a.budget-min(answerMargin, a.budget/4), errBudget)
		defer cancel()
		done, err := s.render(ctx, a.task, e.depth)
		if err != nil {
			s.logRender(a, attempt{}, began, err)
			return err
		}
		s.writeResult(w, a, done, began)
		s.logRender(a, done, began, nil)
		return nil
	}
}

// render gives the task to pages until an outcome may be told: ready, or
// something that the page itself decided on the current release. A command that
// was started is told whatever came of it, and is not done again. depth is how
// many renders wait for it.
func (s *Server) render(ctx context.Context, t page.Task, depth int) (attempt, error) {
	visit := t.Visit
	request := pool.Request{
		Owner: pool.Owner{Affinity: visit.Affinity, AuthHash: authHash(visit.Auth)}, Priority: visit.Priority,
		Pin: visit.Pin, Isolated: visit.Options.Mode == words.ModeIsolated, Depth: depth,
	}
	request.Deadline, _ = ctx.Deadline()
	skewed := false
	for range maxTries {
		done, err := s.renderOnce(ctx, request, t)
		again := ""
		switch {
		case errors.Is(err, page.ErrUnknown):
			// Said even when the caller seems gone: silence could be read as a
			// success, and the log has to know.
			s.options.Log.Warn("command outcome unknown", "requestId", visit.RequestID, "command", t.Command, "error", err)
			return attempt{}, fault.New(fault.Upstream, "command outcome unknown")
		case err == nil && t.Kind == page.Command:
			return done, nil // whatever happened around it
		case ctx.Err() != nil && context.Cause(ctx) != errBudget:
			return attempt{}, context.Cause(ctx) // the caller is gone
		case fault.Is(err, fault.Refused):
			s.metrics.refused.WithLabelValues("no_page").Inc()
			return attempt{}, err
		case isFinal(err):
			return attempt{}, finally(err)
		case err != nil:
			again = "page_lost"
		case visit.Pin != "" && done.result.Token == "" && done.result.HTML != "":
			// The page had the pinned document and left it; it would again.
			s.metrics.refused.WithLabelValues("other_document").Inc()
			return attempt{}, fault.Refuse(time.Second, "The page leaves the release that was asked for")
		case done.result.Status == words.StatusReady:
			return done, nil
		// By the page's token: a document that came from elsewhere, Chrome's
		// own error page for one, has none and is not of an old release.
		case superseded(s.keeper.status(), done.lease.Token()):
			if visit.Pin != "" {
				return attempt{}, fault.Refuse(time.Second, "Release %s was superseded while it rendered", visit.Pin)
			}
			again = "superseded"
			request.Current = true
		case isSkew(done.result.Capture) && !skewed:
			again, skewed = "skew", true
			s.skews.Add(1) // told at once: a deploy may be under way
			signal(s.keeper.changed)
			request.Isolated = true
		default:
			return done, nil
		}
		s.metrics.again.WithLabelValues(again).Inc()
		s.options.Log.Info("render is done again", "requestId", visit.RequestID, "url", visit.URL, "reason", again, "error", err)
		if again == "page_lost" {
			wait(ctx, lostPause)
		}
		if ctx.Err() != nil {
			break
		}
	}
	s.metrics.refused.WithLabelValues("broken").Inc()
	return attempt{}, fault.Refuse(time.Second, "The render was interrupted and could not be done again in time")
}

func isSkew(c words.Capture) bool { return c.Error != nil && c.Error.Kind == words.PageErrorSkew }

// isFinal is whether another page would say the same.
func isFinal(err error) bool {
	_, options := errors.AsType[*page.OptionsError](err)
	return options || fault.Is(err, fault.Draining)
}

func finally(err error) error {
	if options, ok := errors.AsType[*page.OptionsError](err); ok {
		return fault.New(fault.Invalid, "%s", options)
	}
	return err
}

// renderOnce does the task on one page. An error other than a refusal means
// that the page, not the URL, is to blame.
func (s *Server) renderOnce(ctx context.Context, request pool.Request, t page.Task) (attempt, error) {
	done, err := s.lease(ctx, request, t.Kind == page.Command)
	if err != nil {
		return attempt{}, err
	}
	leased := done.lease
	if err := s.mayStart(t, leased); err != nil {
		leased.done(true)
		return attempt{}, err
	}
	if leased.action.Reused && t.Kind != page.Command {
		t.Sign = probeTimeout
	}
	rendering := time.Now()
	done.result, err = leased.Do(ctx, t)
	done.render = time.Since(rendering)
	s.noteResidue(t.Visit, done.result.Report.Residue)
	if err != nil {
		leased.done(isFinal(err) && leased.Reusable())
		return attempt{}, err
	}
	// A document of another token than the page's is the invariant at stake:
	// it must not happen, and if it does the page is not trusted again.
	if done.result.Token != "" && done.result.Token != leased.Token() {
		s.metrics.violations.WithLabelValues("never_stale").Inc()
		leased.done(false)
		return attempt{}, errors.New("the document's token is not the page's")
	}
	whole := done.result.Status == words.StatusReady || done.result.Status == words.StatusError
	if whole {
		s.health.answered(time.Now())
	}
	leased.done(whole && leased.Reusable() && !isSkew(done.result.Capture))
	return done, nil
}

// mayStart is asked on the page, just before a task begins. A command must not
// be started when its outcome might not be told, or on a release that its
// caller did not ask for: afterwards it is too late for either.
func (s *Server) mayStart(t page.Task, leased *lease) error {
	switch {
	case t.Kind != page.Command:
		return nil
	case s.drainer.Draining():
		return fault.New(fault.Draining, "Prerender server draining")
	case t.Visit.Pin != "" && leased.Token() != t.Visit.Pin:
		return errors.New("the page is of another release than the pin")
	}
	return nil
}

// lease waits for a page, which it wakes if it rests. sure is for what must not
// be begun on a page that does not answer; other tasks ask it themselves, and do
// not wait for that.
func (s *Server) lease(ctx context.Context, request pool.Request, sure bool) (attempt, error) {
	began := time.Now()
	leased, err := s.keeper.acquire(ctx, request)
	if err != nil {
		return attempt{}, err
	}
	done := attempt{lease: leased, waited: time.Since(began)}
	if leased.action.Frozen || leased.action.Reused && sure {
		probing := time.Now()
		if err := wake(ctx, leased); err != nil {
			leased.gone()
			return attempt{}, err
		}
		done.probed = time.Since(probing)
	}
	return done, nil
}

// wake thaws a page that rests and asks for a sign of life: a script that went
// on after the page's last render was answered may hold the thread for ever.
func wake(ctx context.Context, l *lease) error {
	bounded, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	if l.action.Frozen {
		if err := l.Thaw(bounded); err != nil {
			return err
		}
	}
	return l.Probe(bounded)
}

func (s *Server) writeResult(w http.ResponseWriter, a ask, done attempt, began time.Time) {
	status := s.keeper.status()
	token := done.result.Token
	meta := wire.Meta{
		Timing: wire.Timing{
			LaunchMs: (done.waited + done.probed).Milliseconds(), RenderMs: done.render.Milliseconds(),
			TotalMs: time.Since(began).Milliseconds(),
			Waits:   wire.Waits{TabQueueMs: done.waited.Milliseconds(), TabProbeMs: done.probed.Milliseconds()},
		},
		Pool: wire.PoolMeta{
			PageID: strconv.FormatUint(uint64(done.lease.id), 10), AffinityType: string(a.task.Visit.Affinity.Type),
			AffinityValue: a.task.Visit.Affinity.Value, Reused: done.lease.action.Reused, Evicted: done.lease.action.Evicted,
			TimedOut: done.result.SettledBy == words.SettledByTimeout,
		},
		HostShell: wire.HostShellMeta{Rendered: token, Desired: status.Current, Fresh: token != "" && token == status.Current},
	}
	a.fields.Trim(&done.result.Capture)
	w.Header().Set(wire.HeaderAffinity, a.task.Visit.Affinity.Key())
	if token != "" {
		w.Header().Set(wire.HeaderShellHash, string(token))
	}
	web.WriteJSON(w, http.StatusCreated, wire.ContentTypeJSONAPI, wire.Document[any]{
		Data: wire.Resource[any]{Type: a.kind.answer, ID: a.subject, Attributes: a.kind.attributes(done.result, wire.ResultMeta{
			RequestID: a.task.Visit.RequestID, Diagnostics: done.result.Report.Diagnostics(done.result.SettledBy),
		})},
		Meta: &meta,
	})
}

// noteResidue tells that the application left something of one route behind for
// another.
func (s *Server) noteResidue(v words.Visit, names []string) {
	if len(names) == 0 {
		return
	}
	for _, name := range names {
		s.metrics.residue.WithLabelValues(page.ResidueKind(name)).Inc()
	}
	s.options.Log.Warn("the application left residue of an earlier route", "requestId", v.RequestID, "url", v.URL, "residue", names)
}

func (s *Server) logRender(a ask, done attempt, began time.Time, err error) {
	took := time.Since(began)
	fields := []any{"requestId", a.task.Visit.RequestID, "task", a.kind.answer, "subject", a.subject, "affinity", a.task.Visit.Affinity.Key(), "ms", took.Milliseconds()}
	if a.jobID != "" {
		fields = append(fields, "job", "[job: "+a.jobID+"]")
	}
	if err != nil {
		s.options.Log.Warn("render not done", append(fields, "error", err)...)
		return
	}
	c := done.result
	s.metrics.renders.WithLabelValues(string(c.Status), string(c.SettledBy)).Inc()
	s.metrics.renderSeconds.WithLabelValues(string(c.Status)).Observe(took.Seconds())
	s.options.Log.Info("render", append(fields, "status", c.Status, "httpStatus", c.HTTPStatus, "settledBy", c.SettledBy,
		"token", c.Token, "page", done.lease.id, "reused", done.lease.action.Reused)...)
}
