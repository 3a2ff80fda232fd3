package egress

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// reason is why a request is refused, as the metric's label says it.
type reason string

const (
	private   reason = "private"   // the address is not public, and no permitted origin
	ofFleet   reason = "fleet"     // the address is one of the fleet itself
	scheme    reason = "scheme"    // the origin is permitted under another scheme
	analytics reason = "analytics" // what counts visits
	malformed reason = "malformed" // no target that a browser would name
)

// refusal is the error of a request that is refused.
type refusal struct {
	reason reason
	target string
}

func refused(why reason, target string) error { return &refusal{reason: why, target: target} }

func (r *refusal) Error() string {
	because := map[reason]string{
		private:   "it is at no public address, and not permitted with --allow-origin",
		ofFleet:   "it is an address of the fleet itself",
		scheme:    "it is permitted under another scheme only",
		analytics: "renders do not count as visits",
		malformed: "it names no http target",
	}[r.reason]
	return r.target + " is refused: " + because
}

// The bounds of what is logged: each target once a minute, and so many of them
// a minute. A page that hammers fills a counter, not a disk.
const (
	logEvery   = time.Minute
	logTargets = 20
)

// refusals counts and logs what was refused.
type refusals struct {
	total *prometheus.CounterVec
	log   *slog.Logger

	mu    sync.Mutex
	since time.Time
	known map[refusal]bool // logged since then
}

func newRefusals(r prometheus.Registerer, log *slog.Logger) *refusals {
	total := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "rewarm", Subsystem: "egress", Name: "refused_total", Help: "Requests of pages that the egress proxy refused, by reason.",
	}, []string{"reason"})
	r.MustRegister(total)
	return &refusals{total: total, log: log, known: map[refusal]bool{}}
}

func (r *refusals) note(why *refusal) {
	r.total.WithLabelValues(string(why.reason)).Inc()
	if !r.isNews(*why, time.Now()) {
		return
	}
	level := slog.LevelWarn
	if why.reason == analytics {
		level = slog.LevelDebug // meant to be so
	}
	r.log.Log(context.Background(), level, "a page's request was refused", "target", why.target, "why", why.Error())
}

// isNews is whether a refusal is to be logged.
func (r *refusals) isNews(why refusal, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.since) >= logEvery {
		r.since = now
		clear(r.known)
	}
	if r.known[why] || len(r.known) >= logTargets {
		return false
	}
	r.known[why] = true
	return true
}
