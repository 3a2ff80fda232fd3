package manager

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the manager's own; gatherer shows them.
type metrics struct {
	gatherer     prometheus.Gatherer
	releases     prometheus.Counter
	reports      *prometheus.CounterVec // by outcome
	proxied      *prometheus.CounterVec // by route and status; status 0: the caller was gone
	staleBlocked *prometheus.CounterVec // by where
	takenOut     *prometheus.CounterVec // by reason
	candidates   *prometheus.CounterVec // by what was decided
}

func newMetrics(registerer prometheus.Registerer, f *fleet) (*metrics, error) {
	if registerer == nil {
		registerer = prometheus.NewRegistry()
	}
	gatherer, ok := registerer.(prometheus.Gatherer)
	if !ok {
		return nil, fmt.Errorf("%T cannot gather: /metrics would be empty", registerer)
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "rewarm", Subsystem: "manager", Name: name, Help: help}, labels)
	}
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "rewarm", Subsystem: "manager", Name: name, Help: help}, value)
	}
	m := &metrics{
		gatherer:     gatherer,
		releases:     prometheus.NewCounter(prometheus.CounterOpts{Namespace: "rewarm", Subsystem: "manager", Name: "releases_total", Help: "Releases recorded by this manager."}),
		reports:      counter("reports_total", "Reports of realm servers, by what they led to.", "outcome"),
		proxied:      counter("proxied_total", "Proxied requests, by route and status; 0: the caller was gone.", "route", "code"),
		staleBlocked: counter("stale_blocked_total", "Requests and answers of another release than required that were held back.", "where"),
		takenOut:     counter("servers_taken_out_total", "Prerender servers taken out of rotation by a request.", "reason"),
		candidates:   counter("candidates_total", "Candidates of gated promotion, by what was decided of them.", "outcome"),
	}
	for _, c := range []prometheus.Collector{
		m.releases, m.reports, m.proxied, m.staleBlocked, m.takenOut, m.candidates,
		gauge("servers", "Registered prerender servers.", func() float64 {
			f.mu.Lock()
			defer f.mu.Unlock()
			return float64(len(f.servers))
		}),
		gauge("release_sequence", "Sequence of the current release.", func() float64 { return float64(f.current().Sequence) }),
		gauge("candidate_refused", "1 while a release that realm servers hold was refused, and nobody dropped it.", f.refusedCandidates),
		gauge("superseded_pages", "Warm pages of live servers that are not of the current release.", f.supersededPages),
	} {
		if err := registerer.Register(c); err != nil {
			return nil, fmt.Errorf("register a metric: %w", err)
		}
	}
	return m, nil
}

func (f *fleet) supersededPages() (n float64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.servers {
		for token, pages := range s.heartbeat.HostShell.Pages {
			if token != f.release.Token {
				n += float64(pages)
			}
		}
	}
	return n
}

func (f *fleet) refusedCandidates() float64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.candidate == nil || f.candidate.Refusal == nil || f.candidate.Refusal.Dropped {
		return 0
	}
	return 1
}
