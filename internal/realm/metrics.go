package realm

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rewarm/rewarm/internal/fault"
)

// metrics are the realm server's counters.
type metrics struct {
	pages    *prometheus.CounterVec // answers to app routes, by X-Rewarm-Snapshot
	renders  *prometheus.CounterVec // background renders, by what came of them
	releases *prometheus.CounterVec
	reports  *prometheus.CounterVec
	modules  *prometheus.CounterVec // answers of the modules cache
	// mismatched counts snapshots that were of another release than the one
	// served, and so not served. Invariant 1: stays 0.
	mismatched prometheus.Counter
	// configRefused is 1 while the configuration file is one that is not taken.
	configRefused prometheus.GaugeFunc
}

// newMetrics registers with r. refused is asked at each scrape.
func newMetrics(r prometheus.Registerer, refused func() bool) (*metrics, error) {
	vector := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &metrics{
		pages:      vector("rewarm_realm_pages_total", "Answers to app routes.", "realm", "snapshot"),
		renders:    vector("rewarm_realm_renders_total", "Background renders asked for, by outcome.", "realm", "outcome"),
		releases:   vector("rewarm_realm_releases_total", "Releases read from the host, by outcome.", "outcome"),
		reports:    vector("rewarm_realm_reports_total", "Reports to the manager, by outcome.", "outcome"),
		modules:    vector("rewarm_realm_modules_total", "Modules asked for, by what the cache had.", "realm", "cache"),
		mismatched: prometheus.NewCounter(prometheus.CounterOpts{Name: "rewarm_realm_mismatched_snapshots_total", Help: "Snapshots of another release than the one served; must stay 0."}),
		configRefused: prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "rewarm_realm_config_refused", Help: "1 while the configuration file is refused, and what was read before it is served; else 0."}, func() float64 {
			if refused() {
				return 1
			}
			return 0
		}),
	}
	for i, c := range m.all() {
		if err := r.Register(c); err != nil {
			for _, registered := range m.all()[:i] {
				r.Unregister(registered)
			}
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.pages, m.renders, m.releases, m.reports, m.modules, m.mismatched, m.configRefused}
}

// forget removes what was counted of a realm.
func (m *metrics) forget(realm string) {
	for _, vector := range []*prometheus.CounterVec{m.pages, m.renders, m.modules} {
		vector.DeletePartialMatch(prometheus.Labels{"realm": realm})
	}
}

// unregister makes room for the next server of this process.
func (m *metrics) unregister(r prometheus.Registerer) {
	for _, c := range m.all() {
		r.Unregister(c)
	}
}

func (s *Server) serveMetrics(w http.ResponseWriter, r *http.Request) error {
	gatherer, ok := s.o.Registerer.(prometheus.Gatherer)
	if !ok {
		return fault.New(fault.NotFound, "no metrics are gathered here")
	}
	return s.o.Guard.Metrics(gatherer)(w, r)
}
