// Package manager is the prerender manager: the fleet's front door. It keeps
// the registry of prerender servers, records releases, rolls them out, and
// routes renders. It keeps nothing for good that the store does not, so any
// number of managers work side by side.
package manager

import (
	"context"
	"errors"
	"html/template"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/ledger"
	"github.com/rewarm/rewarm/internal/web"
)

// Options of a manager. Zero settings take the protocol's defaults.
type Options struct {
	Addr     string       // default 127.0.0.1:4222
	Listener net.Listener // used instead of Addr when set
	// Guard says who may call; its first secret is what the manager sends to
	// prerender servers in place of the caller's Authorization.
	Guard      web.Guard
	Ledger     *ledger.Ledger // required; owned by the caller
	Log        *slog.Logger
	Registerer prometheus.Registerer // when it gathers too, /metrics shows all of it

	// CanaryURLs are what is checked of a release on the first server that has
	// only its pages, before any other follows: paths of each realm, or URLs of
	// one. Empty checks nothing.
	CanaryURLs []string
	// CanaryAllow are CSS selectors of what may differ there before and after the
	// takeover.
	CanaryAllow []string

	MultiplexPerAffinity int           // servers an affinity is assigned to; default 1
	HeartbeatTimeout     time.Duration // default 30 s
	SweepInterval        time.Duration // default 5 s
	DiscoveryWait        time.Duration // for a first server; default 10 s
	DiscoveryPoll        time.Duration // default 100 ms
	ServerTimeout        time.Duration // for one attempt at one server; default 120 s
	DrainMin             time.Duration // 410s are given for at least this; default 5 s
	DrainGrace           time.Duration // running requests have at most this; default 10 s
}

// DefaultAddr is where a manager listens.
const DefaultAddr = "127.0.0.1:4222"

func (o *Options) complete() error {
	if o.Ledger == nil {
		return errors.New("manager: Options.Ledger is missing")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Addr == "" {
		o.Addr = DefaultAddr
	}
	o.MultiplexPerAffinity = max(1, o.MultiplexPerAffinity)
	for _, d := range []struct {
		value   *time.Duration
		initial time.Duration
	}{
		{&o.HeartbeatTimeout, 30 * time.Second},
		{&o.SweepInterval, 5 * time.Second},
		{&o.DiscoveryWait, 10 * time.Second},
		{&o.DiscoveryPoll, 100 * time.Millisecond},
		{&o.ServerTimeout, 2 * time.Minute},
		{&o.DrainMin, 5 * time.Second},
		{&o.DrainGrace, 10 * time.Second},
	} {
		if *d.value < 0 {
			return errors.New("manager: a setting is a negative time")
		}
		if *d.value == 0 {
			*d.value = d.initial
		}
	}
	o.DrainMin = min(o.DrainMin, o.DrainGrace)
	return nil
}

// Manager is a prerender manager that listens; Run makes it answer.
type Manager struct {
	options   Options
	log       *slog.Logger
	listener  net.Listener
	store     *ledger.Ledger
	fleet     *fleet
	releases  *releases
	flights   *flights
	asker     *asker
	checker   *http.Client // for the canary; contexts bound it
	upstream  *upstream
	metrics   *metrics
	page      *template.Template // statusPage
	draining  atomic.Bool
	storeAway atomic.Bool   // as the last tick found
	drained   chan struct{} // closed when draining begins
	working   atomic.Int64  // proxied requests that run
	tasks     sync.WaitGroup
}

// New binds the listener and starts nothing. A refused address is an error
// that says what to do.
func New(o Options) (*Manager, error) {
	if err := o.complete(); err != nil {
		return nil, fault.Wrap(fault.Internal, err, "prerender-manager: wrong options")
	}
	m := &Manager{
		options: o,
		log:     o.Log.With("role", "prerender-manager"),
		store:   o.Ledger,
		fleet:   newFleet(o.MultiplexPerAffinity, o.HeartbeatTimeout),
		drained: make(chan struct{}),
	}
	m.fleet.checked = len(o.CanaryURLs) > 0
	registered, err := newMetrics(o.Registerer, m.fleet)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "prerender-manager: cannot register metrics")
	}
	m.metrics = registered
	if m.page, err = template.New("status").Parse(statusPage); err != nil {
		return nil, fault.Wrap(fault.Internal, err, "prerender-manager: the status page")
	}
	m.releases = &releases{store: m.store, fleet: m.fleet, log: m.log, metrics: m.metrics, gate: make(chan struct{}, 1)}
	m.asker = newAsker(m.log, m.fleet, m.releases)
	m.checker = &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	m.flights = newFlights(&m.tasks)
	m.upstream = newUpstream(o.Guard.Secrets, o.ServerTimeout)
	if m.listener = o.Listener; m.listener == nil {
		if err := o.Guard.CheckListen("prerender-manager", "--addr", o.Addr); err != nil {
			return nil, err
		}
		if m.listener, err = web.Listen("prerender-manager", "--addr", o.Addr); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// Addr is where the manager listens.
func (m *Manager) Addr() net.Addr { return m.listener.Addr() }

// Run answers until ctx ends, then drains: new work gets 410 for at least
// DrainMin, running work has until DrainGrace. It returns after every goroutine
// of the manager has ended.
func (m *Manager) Run(ctx context.Context) error {
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	m.load(working)
	var loops sync.WaitGroup
	for _, loop := range []func(context.Context){m.watchReleases, m.watchServers, m.writeServers, m.tick, m.asker.run, m.watchCanary, m.watchCandidate} {
		loops.Go(func() { loop(working) })
	}
	serving, stopServing := context.WithCancel(working)
	defer stopServing()
	loops.Go(func() {
		m.drain(ctx, serving)
		stopServing()
	})
	err := web.Serve(serving, m.listener, m.handler(), cutOffGrace)
	stop()
	loops.Wait()
	m.tasks.Wait()
	m.upstream.close()
	return err
}

// Handler is what the listener answers with: for tests and for roles that
// share a process. It works only while Run runs.
func (m *Manager) handler() http.Handler {
	return web.Handle(m.log, m.announce(m.routes()))
}
