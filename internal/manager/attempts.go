package manager

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/routing"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// tally is what the attempts of one request have met so far.
type tally struct {
	tried    map[string]struct{}
	refused  time.Duration // the shortest Retry-After; 0: nobody refused
	broken   int           // servers that answered 5xx
	draining int
}

// attempts asks one server after another until one has answered. It is the
// only place where a server leaves rotation because of a request, and one
// request takes out at most one by a 5xx: whatever breaks every server is the
// request's own fault.
func (m *Manager) attempts(ctx context.Context, w *work) (result, error) {
	t := tally{tried: map[string]struct{}{}}
	patience, cancel := context.WithTimeout(ctx, m.options.DiscoveryWait)
	defer cancel()
	for {
		change := m.fleet.change()
		chosen, ok := m.fleet.choose(time.Now(), routing.Request{
			Key: w.affinity.Key(), Priority: w.priority, Pin: w.pin, Tried: t.tried,
		})
		if !ok && len(t.tried) == 0 && m.fleet.warming(time.Now(), w.pin) && m.await(patience, change) {
			continue
		}
		if !ok {
			return result{}, m.nobodyLeft(&t)
		}
		t.tried[chosen.url] = struct{}{}
		if chosen.evicted != "" {
			m.log.Info("affinity evicted", "affinity", chosen.evicted, "for", w.affinity.Key(), "server", chosen.url)
		}
		got, err := m.attempt(ctx, chosen, w)
		w.sent = w.sent || got != nil || errors.Is(err, errSent)
		if err != nil && ctx.Err() != nil {
			return result{}, context.Cause(ctx) // the caller's end, not the server's fault
		}
		if m.settles(chosen.url, w, got, err, &t) {
			return result{answer: got, target: chosen.url}, err
		}
	}
}

// await waits for a change of the fleet; false means that patience is over.
func (m *Manager) await(patience context.Context, change <-chan struct{}) bool {
	poll := time.NewTimer(m.options.DiscoveryPoll) // capacity is no change that is told
	defer poll.Stop()
	select {
	case <-change:
	case <-poll.C:
	case <-m.drained:
	case <-patience.Done():
		return false
	}
	return !m.draining.Load()
}

func (m *Manager) attempt(ctx context.Context, chosen lease, w *work) (*answer, error) {
	defer chosen.done()
	c := w.call
	if current := m.fleet.current(); current.Sequence > 0 {
		c.release = wire.FormatRelease(current)
	}
	return m.upstream.send(ctx, chosen.url, &c)
}

// settles judges one attempt: whether it ends the request.
func (m *Manager) settles(url string, w *work, got *answer, err error, t *tally) bool {
	if err != nil {
		m.fleet.takeOut(url)
		m.log.Warn("server out of rotation until its next heartbeat", "server", url, "requestId", w.requestID, "error", err)
		m.metrics.takenOut.WithLabelValues("connection").Inc()
		return w.once && errors.Is(err, errSent)
	}
	if got.status == http.StatusGone || got.header.Get(wire.HeaderServerStatus) == wire.StatusDraining {
		m.fleet.markDraining(time.Now(), url)
		t.draining++
		return false
	}
	if after := got.header.Get("Retry-After"); got.status == http.StatusServiceUnavailable && after != "" {
		t.refuse(retryAfter(after, time.Now()))
		return false
	}
	if got.status < 500 {
		return !m.stale(url, w, got, t)
	}
	t.broken++
	if w.once || t.broken > 1 {
		return true
	}
	m.fleet.takeOut(url)
	m.log.Warn("server out of rotation until its next heartbeat", "server", url, "requestId", w.requestID, "status", got.status)
	m.metrics.takenOut.WithLabelValues("status").Inc()
	return false
}

// stale holds back an answer whose document is of another release than the
// caller requires. Commands were checked before they started, and have run.
func (m *Manager) stale(url string, w *work, got *answer, t *tally) bool {
	token := words.Token(got.header.Get(wire.HeaderShellHash))
	if w.pin == "" || w.once || token == "" || token == w.pin || got.status >= 300 {
		return false
	}
	m.log.Error("stale answer held back", "server", url, "requestId", w.requestID, "pin", w.pin, "token", token)
	m.metrics.staleBlocked.WithLabelValues("answer").Inc()
	t.refuse(time.Second)
	return true
}

func (t *tally) refuse(after time.Duration) {
	if after = max(after, time.Second); t.refused == 0 || after < t.refused {
		t.refused = after
	}
}

// nobodyLeft is the answer when every server was tried or may not be.
func (m *Manager) nobodyLeft(t *tally) error {
	switch {
	case t.refused > 0:
		return fault.Refuse(t.refused, "All prerender servers refuse for now")
	case m.fleet.presence() == allDraining && t.broken == 0:
		return fault.New(fault.Draining, "All prerender servers draining")
	}
	return errNoServers(time.Second)
}

// retryAfter reads seconds or a date; a malformed one is a second.
func retryAfter(s string, now time.Time) time.Duration {
	if n, err := strconv.ParseUint(s, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	if at, err := http.ParseTime(s); err == nil {
		return at.Sub(now)
	}
	return time.Second
}
