package manager

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/web"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// heartbeat registers a server and tells it the release and its permission.
func (m *Manager) heartbeat(w http.ResponseWriter, r *http.Request) error {
	body, err := web.ReadBody(w, r)
	if err != nil {
		return err
	}
	h, err := wire.ParseHeartbeat(body)
	if err != nil {
		return err
	}
	joined, skewed := m.fleet.heard(time.Now(), h)
	if joined {
		m.log.Info("server joined", "server", h.URL, "capacity", h.Capacity, "instance", h.Instance, "requestId", web.RequestID(r.Context()))
	}
	m.askAbout(h, skewed)
	if wait := m.holdFor(r.Header); wait > 0 && !h.Draining() {
		m.hold(r.Context(), h, wait)
	}
	if token, ok := m.fleet.permission(h.URL); ok {
		w.Header().Set(wire.HeaderShellHash, string(token))
	}
	w.Header().Set(wire.HeaderServerID, h.URL)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// holdFor reads "Prefer: wait=N" (seconds); 0 when the answer is not to be
// held. At most two thirds of the heartbeat timeout, so that a server whose
// held heartbeat was lost on the way is not swept before it notices.
func (m *Manager) holdFor(header http.Header) time.Duration {
	for _, line := range header.Values("Prefer") {
		for preference := range strings.FieldsFuncSeq(line, func(r rune) bool { return r == ',' || r == ';' }) {
			name, value, _ := strings.Cut(strings.TrimSpace(preference), "=")
			if !strings.EqualFold(strings.TrimSpace(name), "wait") {
				continue
			}
			n, err := strconv.ParseUint(strings.Trim(strings.TrimSpace(value), `"`), 10, 31)
			if err != nil {
				return 0
			}
			return min(time.Duration(n)*time.Second, m.options.HeartbeatTimeout*2/3)
		}
	}
	return 0
}

// hold waits until there is something to tell the server, for at most wait. A
// newer held heartbeat of the same server, and draining, end it.
func (m *Manager) hold(ctx context.Context, h wire.Heartbeat, wait time.Duration) {
	held := m.fleet.beginHold(h.URL)
	defer func() { m.fleet.endHold(time.Now(), h.URL, held) }()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		change := m.fleet.change() // before looking, so that nothing is missed
		if m.fleet.hasNews(h) {
			return
		}
		select {
		case <-change:
		case <-timer.C:
			return
		case <-held.ended:
			return
		case <-m.drained:
			return
		case <-ctx.Done():
			return
		}
	}
}

func (f *fleet) beginHold(url string) *hold {
	f.mu.Lock()
	defer f.mu.Unlock()
	held := &hold{ended: make(chan struct{})}
	s := f.servers[url]
	if s == nil { // unregistered in between
		close(held.ended)
		return held
	}
	if s.hold != nil {
		close(s.hold.ended)
	}
	s.hold = held
	return held
}

func (f *fleet) endHold(now time.Time, url string, held *hold) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.servers[url]; s != nil && s.hold == held {
		s.hold, s.lastSeenAt = nil, now
	}
}

// hasNews reports whether the server's own words differ from what it would be
// told. A server that has heard of a higher sequence than this manager ignores
// what it would say, so there is nothing to say.
func (f *fleet) hasNews(h wire.Heartbeat) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.servers[h.URL]
	if s == nil || f.release.Sequence > h.HostShell.Release {
		return true
	}
	return f.release.Sequence == h.HostShell.Release && f.release.Sequence > 0 &&
		f.plan.Permits(h.URL) && f.release.Token != h.HostShell.Desired
}

// permission is the token the server may move its existing pages to now.
func (f *fleet) permission(url string) (words.Token, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.release.Token, f.release.Sequence > 0 && f.plan.Permits(url)
}

// unregister forgets a server.
func (m *Manager) unregister(w http.ResponseWriter, r *http.Request) error {
	url, err := serverParam(r)
	if err != nil {
		return err
	}
	if m.fleet.forget(time.Now(), url) {
		m.log.Info("server left", "server", url, "reason", "unregistered", "requestId", web.RequestID(r.Context()))
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// disposeAffinity ends the assignment of an affinity to a server.
func (m *Manager) disposeAffinity(w http.ResponseWriter, r *http.Request) error {
	url, err := serverParam(r)
	if err != nil {
		return err
	}
	m.fleet.unassign(r.PathValue("key"), url)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func serverParam(r *http.Request) (string, error) {
	raw := r.URL.Query().Get("url")
	if raw == "" {
		return "", fault.New(fault.Invalid, "Missing required query parameter: url")
	}
	if url, ok := wire.NormalizeURL(raw); ok {
		return url, nil
	}
	return raw, nil // unknown then, and that is no error
}

// reset clears the assignments and keeps the servers.
func (m *Manager) reset(w http.ResponseWriter, r *http.Request) error {
	m.fleet.resetAssignments()
	m.log.Warn("assignments cleared", "requestId", web.RequestID(r.Context()))
	w.WriteHeader(http.StatusNoContent)
	return nil
}
