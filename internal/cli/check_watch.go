package cli

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rewarm/rewarm/internal/observe"
	"github.com/rewarm/rewarm/internal/web"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// watch checks on a schedule until it is stopped. A round that takes longer
// than the schedule delays the next.
func (c *checkCommand) watch(r *run, viewport *words.Viewport) error {
	registry := observe.NewRegistry()
	metrics := newCheckMetrics(registry)
	var guard web.Guard
	if c.Secret != "" {
		guard.Secrets = []string{c.Secret}
	}
	server, err := web.NewMetricsServer(web.MetricsOptions{Command: "check", Addr: c.MetricsAddr, Guard: guard, Gatherer: registry, Log: r.log})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(r.ctx)
	var serving sync.WaitGroup
	served := make(chan error, 1)
	serving.Go(func() { served <- server.Run(ctx) })
	defer func() {
		stop()
		serving.Wait()
	}()
	tick := time.NewTicker(c.Every)
	defer tick.Stop()
	for {
		checked, err := c.round(r, viewport)
		if ctx.Err() != nil {
			return nil // stopped, which is how it ends
		}
		metrics.note(checked, err, time.Now())
		if err != nil {
			r.log.Error("round of checks not done", "error", err)
		}
		if err := c.report(r.streams.Out, checked); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-served:
			return err
		case <-tick.C:
		}
	}
}

// checkMetrics are about each page's last check.
type checkMetrics struct {
	failed                           prometheus.Counter
	broken, shift, takeover, checked *prometheus.GaugeVec
	findings                         *prometheus.GaugeVec
}

func newCheckMetrics(r prometheus.Registerer) *checkMetrics {
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "rewarm", Subsystem: "check", Name: name, Help: help}, labels)
		r.MustRegister(g)
		return g
	}
	m := &checkMetrics{
		failed: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "rewarm", Subsystem: "check", Name: "rounds_failed_total", Help: "Rounds in which a page could not be checked.",
		}),
		broken:   gauge("broken", "Whether the page breaks when the application takes over.", "url"),
		shift:    gauge("layout_shift", "Cumulative layout shift of the page.", "url"),
		takeover: gauge("takeover_seconds", "Time until the application took over; 0 if it did not.", "url"),
		checked:  gauge("last_timestamp_seconds", "When the page was checked last.", "url"),
		findings: gauge("findings", "Findings of the page's last check, by kind.", "url", "kind", "severity"),
	}
	r.MustRegister(m.failed)
	return m
}

// note keeps what came of a round. A page that could not be checked keeps what
// was known of it, and the time of that.
func (m *checkMetrics) note(checked []wire.TakeoverResult, err error, now time.Time) {
	if err != nil {
		m.failed.Inc()
	}
	for _, v := range checked {
		m.findings.DeletePartialMatch(prometheus.Labels{"url": v.URL})
		broken := 0.0
		if v.Verdict.Verdict != words.VerdictOK {
			broken = 1
		}
		m.broken.WithLabelValues(v.URL).Set(broken)
		m.shift.WithLabelValues(v.URL).Set(v.CLS)
		m.takeover.WithLabelValues(v.URL).Set(float64(v.Timings.TakeoverMs) / 1000)
		m.checked.WithLabelValues(v.URL).Set(float64(now.Unix()))
		for _, f := range v.Findings {
			m.findings.WithLabelValues(v.URL, string(f.Kind), string(f.Severity)).Inc()
		}
	}
}
