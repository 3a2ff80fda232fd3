package manager

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/web"
	"github.com/rewarm/rewarm/internal/wire"
)

// result is how a proxied request ended: a server's answer, and whose.
type result struct {
	*answer
	target string
}

// proxy answers a render route through the fleet.
func (m *Manager) proxy(path string) web.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		m.working.Add(1)
		defer m.working.Add(-1)
		if m.draining.Load() {
			return errDraining()
		}
		started := time.Now()
		body, err := web.ReadBody(w, r)
		if err != nil {
			return err
		}
		asked, err := m.understand(path, r.Header, body)
		if err != nil {
			return err
		}
		asked.requestID = web.RequestID(r.Context())
		w.Header().Set(wire.HeaderAffinity, headerSafe(asked.affinity.Key()))
		ctx, cancel := context.WithDeadlineCause(r.Context(), asked.deadline, errBudget)
		defer cancel()
		got, err := m.perform(ctx, w, asked)
		if err = m.excuse(ctx, r.Context(), err); err == nil {
			w.Header().Set(wire.HeaderTarget, got.target)
			got.write(w)
		}
		m.account(asked, got, err, started)
		return err
	}
}

// errBudget is the cause of a context that ended because the caller's budget did.
var errBudget = errors.New("the caller's budget ended")

// perform does the work after the checks that need the fleet.
func (m *Manager) perform(ctx context.Context, w http.ResponseWriter, asked *work) (result, error) {
	if asked.pin != "" && m.releases.book().Superseded(asked.pin) {
		current := m.fleet.current()
		w.Header().Set(wire.HeaderShellHash, string(current.Token))
		m.metrics.staleBlocked.WithLabelValues("superseded").Inc()
		return result{}, fault.New(fault.Superseded, "Release %s is superseded by release %d (%s)", asked.pin, current.Sequence, current.Token)
	}
	if err := m.discover(ctx); err != nil {
		return result{}, err
	}
	_, depth := wire.Lineage(asked.requestID)
	switch {
	case asked.once:
		return m.command(ctx, asked)
	case m.flights.awaits(asked):
		return result{}, fault.New(fault.Cycle, "wait-for cycle: the render of %s waits for itself", asked.subject)
	// What a page waits for joins no other's render: that could wait for the
	// same page by way of others, and nobody would see it.
	case asked.path == routeVisit && asked.identity != "" && depth == 0 && !asked.anew:
		return m.flights.join(ctx, asked, m.attempts)
	}
	return m.attempts(ctx, asked)
}

// excuse turns the end of a context into what the caller is to hear: nothing
// when it is gone, a refusal when its budget ended.
func (m *Manager) excuse(ctx, callers context.Context, err error) error {
	if err == nil {
		return nil
	}
	_, classified := errors.AsType[*fault.Error](err)
	switch {
	case callers.Err() == nil:
	case !m.draining.Load():
		return context.Canceled
	case !classified: // cut off by us: an empty answer would read as a success
		return fault.Refuse(time.Second, "Prerender manager stopped")
	}
	if !classified && (ctx.Err() != nil || errors.Is(err, errBudget)) {
		refused := fault.Refuse(time.Second, "No answer within the budget")
		refused.Cause = err
		return refused
	}
	return err
}

// discover waits for a first server when none is registered.
func (m *Manager) discover(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, m.options.DiscoveryWait)
	defer cancel()
	poll := time.NewTicker(m.options.DiscoveryPoll)
	defer poll.Stop()
	for {
		change := m.fleet.change()
		if m.fleet.presence() != nobody {
			return nil
		}
		select {
		case <-change:
		case <-poll.C:
		case <-m.drained:
			return errDraining()
		case <-bounded.Done():
			return errNoServers(time.Second)
		}
	}
}

func errNoServers(after time.Duration) error { return fault.Refuse(after, "No servers") }

// account counts and logs one proxied request.
func (m *Manager) account(asked *work, got result, err error, started time.Time) {
	status, attrs := 0, []any{
		"requestId", asked.requestID, "route", asked.path, "subject", asked.subject, "affinity", asked.affinity.Key(),
	}
	switch {
	case err == nil:
		status = got.status
		attrs = append(attrs, "server", got.target, "token", got.header.Get(wire.HeaderShellHash))
	case errors.Is(err, context.Canceled):
		attrs = append(attrs, "error", "caller gone")
	default:
		status = fault.From(err).Status()
		attrs = append(attrs, "error", err)
	}
	if job := asked.header.Get(wire.HeaderJobID); job != "" {
		attrs = append(attrs, "job", "[job: "+job+"]")
	}
	m.log.Info("proxied", append(attrs, "status", status, "ms", time.Since(started).Milliseconds())...)
	m.metrics.proxied.WithLabelValues(asked.path, strconv.Itoa(status)).Inc()
}

// headerSafe keeps a value that a caller chose from being refused as a header.
func headerSafe(s string) string {
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return strconv.QuoteToASCII(s)
		}
	}
	return s
}
