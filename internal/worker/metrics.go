package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rewarm/rewarm/internal/client"
	"github.com/rewarm/rewarm/internal/index"
	"github.com/rewarm/rewarm/internal/observe"
)

// countTimeout bounds how long who asks for the metrics waits for the store:
// Prometheus gives up after ten seconds, and would have none of them.
const countTimeout = 2 * time.Second

// metrics are what this worker did.
type metrics struct {
	pages   *prometheus.CounterVec
	seconds *prometheus.HistogramVec
}

// What comes of a page's tries; what else there is is in word.
const (
	outcomeStored = "stored"
	outcomeFresh  = "fresh"
	outcomeDead   = "dead"
)

// newMetrics registers them, and what is read of the worker and its store.
func newMetrics(w *Worker, r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		pages: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "rewarm", Subsystem: "worker", Name: "pages_total",
			Help: "Tries at pages, by what came of them; stored, fresh, skipped and dead are a page's last.",
		}, []string{"class", "outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "rewarm", Subsystem: "worker", Name: "render_seconds",
			Help: "Time that the fleet took to answer, by what it answered.", Buckets: observe.SecondsBuckets(),
		}, []string{"outcome"}),
	}
	for _, class := range index.Classes() { // present from the start, so that an alert on the first one works
		for _, outcome := range []string{outcomeStored, outcomeFresh, outcomeDead, word(index.Skipped), word(index.Failed), word(index.Refused), word(index.Overtaken), word(index.Held)} {
			m.pages.WithLabelValues(class.String(), outcome)
		}
	}
	for _, c := range []prometheus.Collector{
		m.pages, m.seconds, newPendingJobs(w),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: "rewarm", Subsystem: "worker", Name: "release_sequence", Help: "Sequence of the release that is indexed; 0: none is now.",
		}, func() float64 {
			if current := w.current.Load(); current != nil {
				return float64(current.Sequence)
			}
			return 0
		}),
	} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register a metric: %w", err)
		}
	}
	return m, nil
}

// word is what came of one try, or of its render.
func word(outcome index.Outcome) string {
	switch outcome {
	case index.Done:
		return "rendered"
	case index.Skipped:
		return "skipped"
	case index.Failed:
		return "failed"
	case index.Hopeless:
		return "hopeless"
	case index.Overtaken:
		return "overtaken"
	case index.Held:
		return "held"
	}
	return "refused"
}

// tried counts a try at a page.
func (m *metrics) tried(job index.Job, got result, verdict index.Verdict) {
	if job.Seeds() {
		return
	}
	outcome := word(got.outcome)
	switch {
	case verdict.Dead:
		outcome = outcomeDead
	case got.outcome == index.Done && got.fresh:
		outcome = outcomeFresh
	case got.outcome == index.Done:
		outcome = outcomeStored
	}
	m.pages.WithLabelValues(job.Class.String(), outcome).Inc()
}

// timed renders, and keeps how long that took.
func (w *Worker) timed(ctx context.Context, job index.Job) (result, client.VisitAnswer) {
	began := w.o.Now()
	got, answer := w.render(ctx, job)
	if ctx.Err() == nil || got.outcome == index.Done { // else it is how long this worker still ran
		w.metrics.seconds.WithLabelValues(word(got.outcome)).Observe(w.o.Now().Sub(began).Seconds())
	}
	return got, answer
}

// pendingJobs are the fleet's, counted in the store when they are asked for.
type pendingJobs struct {
	worker *Worker
	desc   *prometheus.Desc
}

func newPendingJobs(w *Worker) pendingJobs {
	return pendingJobs{w, prometheus.NewDesc("rewarm_worker_jobs_pending", "Jobs of the fleet that are queued or being done; absent while the store is away.", []string{"class"}, nil)}
}

// Describe implements [prometheus.Collector].
func (p pendingJobs) Describe(all chan<- *prometheus.Desc) { all <- p.desc }

// Collect implements [prometheus.Collector]. A store that is away costs this
// metric, and no other.
func (p pendingJobs) Collect(all chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeoutCause(context.Background(), countTimeout, errors.New("count budget"))
	defer cancel()
	pending, err := p.worker.o.Store.PendingByClass(ctx)
	if err != nil {
		p.worker.log.Debug("jobs not counted", "error", err)
	}
	for class, n := range pending {
		all <- prometheus.MustNewConstMetric(p.desc, prometheus.GaugeValue, float64(n), class.String())
	}
}
