// Package worker is the role that renders a realm's pages before anybody asks:
// it takes index jobs from the queue, renders them on the fleet, and stores
// what is of their release. Once a release's canary has passed it queues a
// re-index of every realm. Any number of workers work side by side; one that
// dies loses no job.
package worker

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rewarm/rewarm/internal/client"
	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/ledger"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// Options of a worker. Defaults are in parentheses.
type Options struct {
	Name    string           // tells workers apart, another at each start; required
	Manager *client.Manager  // required
	Store   *ledger.Ledger   // required; owned by the caller
	Log     *slog.Logger     // (discarded)
	Now     func() time.Time // (time.Now)
	// Registerer takes its metrics (none are kept).
	Registerer prometheus.Registerer
	// Concurrency is how many pages it renders at a time (2).
	Concurrency int
	// Rate bounds the pages rendered of one realm in a second, by this worker
	// (20). A realm's own Crawl-delay may make it less.
	Rate float64
	// Every is how long after a realm's last run a routine one begins (0: never).
	Every time.Duration
	// MaxAge is how old a snapshot of the release may be to save a render (10 min).
	MaxAge     time.Duration
	Routes     []string // paths of every realm that are indexed first, beside "/"
	QueryAllow []string // query parameters that are part of a page's identity
	// Site says what is different for one realm (nothing). It is asked for each
	// page, so it may change while the worker runs.
	Site func(realm string) Site
	// RenderBudget bounds one render (60 s).
	RenderBudget time.Duration
	// Poll is the time between looks at the rollout (1 s).
	Poll time.Duration
}

// Site is what is done for one realm; what is zero is as the options say.
type Site struct {
	Routes     []string // nil is as the options say, none is none
	QueryAllow []string // nil is as the options say, none is none
	MaxAge     time.Duration
	Rate       float64
}

// site is what is done for a realm, complete.
func (o *Options) site(realm string) (s Site) {
	if o.Site != nil {
		s = o.Site(realm)
	}
	s.MaxAge, s.Rate = cmp.Or(s.MaxAge, o.MaxAge), cmp.Or(s.Rate, o.Rate)
	if s.Routes == nil {
		s.Routes = o.Routes
	}
	if s.QueryAllow == nil {
		s.QueryAllow = o.QueryAllow
	}
	return s
}

func (o *Options) complete() error {
	if o.Store == nil {
		return fault.New(fault.Usage, "worker: no store; give the fleet's with --nats")
	}
	if o.Manager == nil {
		return fault.New(fault.Usage, "worker: no manager; give its URL with --manager-url")
	}
	for _, route := range o.Routes {
		if !strings.HasPrefix(route, "/") {
			return fault.New(fault.Usage, "worker: --route %q is no path such as /products", route)
		}
	}
	if o.Rate < 0 || o.Every < 0 || o.MaxAge < 0 || o.Concurrency < 0 {
		return fault.New(fault.Usage, "worker: a setting is negative")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Registerer == nil {
		o.Registerer = prometheus.NewRegistry()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Concurrency == 0 {
		o.Concurrency = 2
	}
	if o.Rate == 0 {
		o.Rate = 20
	}
	for _, d := range []struct {
		value     *time.Duration
		otherwise time.Duration
	}{{&o.MaxAge, 10 * time.Minute}, {&o.RenderBudget, wire.DefaultBudget}, {&o.Poll, time.Second}} {
		if *d.value <= 0 {
			*d.value = d.otherwise
		}
	}
	return nil
}

// Worker is a worker; Run makes it work.
type Worker struct {
	o       Options
	log     *slog.Logger
	current atomic.Pointer[words.Release] // whose canary has passed; nil: none, do nothing
	realms  atomic.Pointer[[]string]      // all that are reported; nil: not asked yet
	changed chan struct{}                 // holds one element after current has changed
	jobs    chan *ledger.QueuedJob
	renders chan struct{} // holds an element for each page being rendered
	alone   sync.RWMutex  // held for reading by each page being rendered, for writing by one that must be alone
	sites   *sites
	tally   *tally
	metrics *metrics
}

// New checks the options and registers the metrics; it starts nothing.
func New(o Options) (*Worker, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	w := &Worker{
		o: o, log: o.Log.With("role", "worker"),
		changed: make(chan struct{}, 1), jobs: make(chan *ledger.QueuedJob), renders: make(chan struct{}, o.Concurrency),
		tally: newTally(),
	}
	w.sites = newSites(func(realm string) float64 { return w.o.site(realm).Rate })
	var err error
	if w.metrics, err = newMetrics(w, w.o.Registerer); err != nil {
		return nil, err
	}
	return w, nil
}

// Run works until ctx ends, gives back what it has not done, and returns after
// every goroutine has.
func (w *Worker) Run(ctx context.Context) error {
	var owned sync.WaitGroup
	owned.Go(func() { w.watch(ctx) })
	owned.Go(func() { w.dispatch(ctx) })
	owned.Go(func() { w.tell(ctx) })
	// Beside those that render, as many ask the store or wait for it: it syncs
	// each write to disk, and a browser must not wait for that.
	for range 2 * w.o.Concurrency {
		owned.Go(func() { w.lane(ctx) })
	}
	owned.Wait()
	w.flush(context.WithoutCancel(ctx))
	return nil
}

// pause waits for d, and reports whether ctx lasted.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// oneLine makes what a page or a peer says fit for a log and a terminal.
func oneLine(format string, args ...any) string {
	text := strings.Join(strings.Fields(fmt.Sprintf(format, args...)), " ")
	return strings.ToValidUTF8(text[:min(len(text), 500)], "")
}
