package prerender

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rewarm/rewarm/internal/observe"
)

// metrics of one prerender server. The counters named violations must stay 0.
type metrics struct {
	renders          *prometheus.CounterVec
	again            *prometheus.CounterVec
	refused          *prometheus.CounterVec
	residue          *prometheus.CounterVec
	renderSeconds    *prometheus.HistogramVec
	warmUps          *prometheus.CounterVec
	warmSeconds      prometheus.Histogram
	closed           *prometheus.CounterVec
	browserStarts    *prometheus.CounterVec
	browsersReplaced *prometheus.CounterVec
	violations       *prometheus.CounterVec
	checks           *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer, s *Server) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "rewarm", Subsystem: "prerender", Name: name, Help: help}, labels)
		r.MustRegister(c)
		return c
	}
	m := &metrics{
		renders:          counter("renders_total", "Renders answered, by outcome.", "status", "settled_by"),
		again:            counter("renders_again_total", "Renders done again before the caller heard of it, by reason.", "reason"),
		refused:          counter("refused_total", "Renders refused with 503, by reason.", "reason"),
		residue:          counter("residue_total", "What applications left behind of one route for another, by kind.", "kind"),
		warmUps:          counter("warm_ups_total", "Warm-ups, by outcome.", "outcome"),
		browserStarts:    counter("browser_starts_total", "Starts of Chrome, by outcome.", "outcome"),
		browsersReplaced: counter("browsers_replaced_total", "Chromes that were worn out and replaced, by reason.", "reason"),
		violations:       counter("invariant_violations_total", "Breaches of an invariant that were caught; must stay 0.", "invariant"),
		checks:           counter("takeover_checks_total", "Takeover checks answered, by verdict.", "verdict"),
		closed:           counter("pages_closed_total", "Pages closed, by reason; release, uses, age, memory and browser are replacements.", "reason"),
		renderSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "rewarm", Subsystem: "prerender", Name: "render_seconds", Help: "Time from request to answer.", Buckets: observe.SecondsBuckets(),
		}, []string{"status"}),
		warmSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "rewarm", Subsystem: "prerender", Name: "warm_seconds", Help: "Time to warm a page.", Buckets: observe.SecondsBuckets(),
		}),
	}
	m.violations.WithLabelValues("never_stale") // present from the start, so that an alert on it works
	r.MustRegister(m.renderSeconds, m.warmSeconds,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: "rewarm", Subsystem: "prerender", Name: "browser_pid", Help: "Process id of Chrome; 0 without one.",
		}, func() float64 { return float64(s.slot.pid()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: "rewarm", Subsystem: "prerender", Name: "pages", Help: "Pages that can take or are doing work.",
		}, func() float64 { return float64(s.keeper.status().Capacity) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: "rewarm", Subsystem: "prerender", Name: "pages_target", Help: "Pages that are to be kept warm now.",
		}, func() float64 { return float64(s.keeper.status().Size) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: "rewarm", Subsystem: "prerender", Name: "stale_pages", Help: "Pages that are not of the newest release heard of.",
		}, func() float64 { return stalePages(s.keeper.status()) }))
	return m
}
