package prerender

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/pool"
	"github.com/rewarm/rewarm/internal/web"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// Bounds of readiness (protocol, "Prerender server"): a page must have
// answered within readyFor. Probing twice in that time lets one probe be slow.
const (
	readyFor     = 30 * time.Second
	probeEvery   = readyFor / 3
	probeTimeout = 2 * time.Second
)

// health remembers when a page last answered.
type health struct {
	mu         sync.Mutex
	answeredAt time.Time
}

func (h *health) answered(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answeredAt = now
}

func (h *health) ready(now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.answeredAt.IsZero() && now.Sub(h.answeredAt) <= readyFor
}

// probeReadiness keeps asking an idle page whether it answers; renders count
// as answers too, so a busy server needs no probe.
func (s *Server) probeReadiness(ctx context.Context) {
	for ctx.Err() == nil {
		pause := probeEvery
		if err := s.probeOne(ctx); err != nil && !s.health.ready(time.Now()) {
			pause = 500 * time.Millisecond // starting: be ready as soon as it is true
		}
		wait(ctx, pause)
	}
}

func (s *Server) probeOne(ctx context.Context) error {
	probed, ok := s.keeper.idlePage()
	if !ok {
		return errPageGone
	}
	bounded, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	if err := probed.Probe(bounded); err != nil {
		return err
	}
	s.health.answered(time.Now())
	return nil
}

func (s *Server) notReady() string {
	if s.health.ready(time.Now()) {
		return ""
	}
	if detail := s.keeper.status().Detail; detail != "" {
		return "not ready: " + detail
	}
	return "not ready: no page has answered yet"
}

func (s *Server) root(w http.ResponseWriter, _ *http.Request) error {
	if s.drainer.Draining() {
		w.Header().Set(wire.HeaderServerStatus, wire.StatusDraining)
		web.WriteJSON(w, http.StatusGone, wire.ContentTypeJSON, map[string]bool{"ready": false, "draining": true})
		return nil
	}
	if reason := s.notReady(); reason != "" {
		return fault.New(fault.Refused, "%s", reason)
	}
	web.WriteJSON(w, http.StatusOK, wire.ContentTypeJSON, map[string]bool{"ready": true})
	return nil
}

func (s *Server) livez(w http.ResponseWriter, _ *http.Request) error {
	web.WriteJSON(w, http.StatusOK, wire.ContentTypeJSON, map[string]bool{"live": true})
	return nil
}

func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) error {
	if s.drainer.Draining() {
		return fault.New(fault.Draining, "Prerender server draining")
	}
	if reason := s.notReady(); reason != "" {
		return fault.New(fault.Refused, "%s", reason)
	}
	web.WriteJSON(w, http.StatusOK, wire.ContentTypeJSON, map[string]bool{"ready": true})
	return nil
}

// shellStatus is the hostShell of a heartbeat.
func shellStatus(s pool.Status) wire.HostShell {
	return wire.HostShell{Release: s.Release, Desired: s.Permitted, Pages: s.Pages, Phase: s.Phase, Detail: s.Detail}
}

func stalePages(s pool.Status) float64 {
	if s.Current == "" {
		return 0
	}
	stale := 0
	for token, n := range s.Pages {
		if token != s.Current {
			stale += n
		}
	}
	return float64(stale)
}

// superseded reports whether a page of the token is no longer of the newest
// release heard of.
func superseded(s pool.Status, token words.Token) bool {
	return s.Current != "" && token != s.Current
}
