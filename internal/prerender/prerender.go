// Package prerender is the prerender server: one Chrome, a pool of warm pages
// whose documents' tokens are known, and the renders they do. It moves its
// pages to a new release when the manager permits it, without failing a render.
package prerender

import (
	"cmp"
	"context"
	"crypto/rand"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rewarm/rewarm/internal/client"
	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/pool"
	"github.com/rewarm/rewarm/internal/web"
	"github.com/rewarm/rewarm/internal/wire"
)

// Options configure a prerender server.
type Options struct {
	Addr string // host:port to listen on
	// URL is where the manager reaches this server; default http://<bound address>.
	URL string
	// Realms are the base URLs this server renders; the first one's /_standby
	// gives the host shell. At least one. With a Manager those that it knows are
	// rendered too, as far as Permit, which is told all of them, returns them.
	Realms []string
	Permit func(realms []string) (permitted []string)
	// Manager is told what this server's pages are and gives the orders; nil
	// runs without one, rendering whatever release the realm serves.
	Manager *client.Manager
	Guard   web.Guard
	Pool    pool.Options
	// Launch starts a Chrome. Required.
	Launch func(ctx context.Context) (Browser, error)

	HeartbeatInterval time.Duration // default 10 s
	RenderTimeout     time.Duration // the longest any render may take; default 60 s
	WarmTimeout       time.Duration // the longest a warm-up may take; default 30 s: a host that needs longer is broken
	PingEvery         time.Duration // default [pingEvery]
	PingTimeout       time.Duration // default [pingTimeout]
	Wear              Wear          // when Chrome is replaced
	DrainMin          time.Duration // time in which peers get to read a 410
	DrainGrace        time.Duration // the longest that running renders are waited for; default 10 s

	Log      *slog.Logger         // default: discarded
	Registry *prometheus.Registry // default: one of its own
}

func (o *Options) validate() error {
	if len(o.Realms) == 0 {
		return fault.New(fault.Usage, "prerender-server: --realm-url is required: the base URL of the realm to render")
	}
	for i, realm := range o.Realms {
		normalized, ok := wire.NormalizeURL(realm)
		if !ok {
			return fault.New(fault.Usage, "prerender-server: --realm-url %q is no http or https URL", realm)
		}
		o.Realms[i] = normalized
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Log = o.Log.With("role", "prerender-server")
	if o.Registry == nil {
		o.Registry = prometheus.NewRegistry()
	}
	o.HeartbeatInterval = cmp.Or(o.HeartbeatInterval, 10*time.Second)
	o.RenderTimeout = cmp.Or(o.RenderTimeout, 60*time.Second)
	o.WarmTimeout = cmp.Or(o.WarmTimeout, 30*time.Second)
	o.PingEvery = cmp.Or(o.PingEvery, pingEvery)
	o.Wear = o.Wear.withDefaults()
	o.PingTimeout = cmp.Or(o.PingTimeout, pingTimeout)
	o.DrainGrace = cmp.Or(o.DrainGrace, 10*time.Second)
	return nil
}

// Server is a prerender server.
type Server struct {
	options  Options
	listener net.Listener
	url      string
	instance string // new for every process
	keeper   *keeper
	shells   *shells
	realms   *realms
	slot     *browserSlot
	lineage  *lineage
	drainer  *web.Drainer
	metrics  *metrics
	health   health
	// skews counts renders that found a file of the newest release gone.
	skews atomic.Uint64
}

// New checks the options and binds the listener; it starts nothing.
func New(o Options) (*Server, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	if err := o.Guard.CheckListen("prerender-server", "--addr", o.Addr); err != nil {
		return nil, err
	}
	listener, err := web.Listen("prerender-server", "--addr", o.Addr)
	if err != nil {
		return nil, err
	}
	s := &Server{
		options: o, listener: listener, instance: rand.Text(),
		realms: newRealms(o.Realms, o.Permit), slot: newBrowserSlot(), lineage: &lineage{running: map[*errand]bool{}}, drainer: web.NewDrainer(),
	}
	s.shells = &shells{realm: func() *client.Realm { return client.NewRealm(s.realms.all()[0]) }}
	s.url, _ = wire.NormalizeURL(cmp.Or(o.URL, "http://"+listener.Addr().String()))
	s.metrics = newMetrics(o.Registry, s)
	s.keeper = newKeeper(&o, s.metrics)
	s.keeper.open = s.openPage
	return s, nil
}

// Addr is the bound address.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Run serves until ctx ends, then drains: it tells the manager, refuses new
// work, lets renders finish, unregisters, and ends Chrome. Everything it
// started has ended when it returns.
func (s *Server) Run(ctx context.Context) error {
	alive, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()

	var browser, work, beats sync.WaitGroup
	beating, stopBeating := context.WithCancel(alive)
	keeping, stopKeeping := context.WithCancel(alive)
	supervising, stopSupervising := context.WithCancel(alive)
	serving, stopServing := context.WithCancel(alive)
	defer func() { // the order of teardown: pages before their browser
		stopBeating()
		beats.Wait()
		stopKeeping()
		work.Wait()
		stopSupervising()
		browser.Wait()
	}()
	browser.Go(func() { s.superviseBrowser(supervising, s.options.Log) })
	work.Go(func() { s.keeper.run(keeping) })
	work.Go(func() { s.probeReadiness(keeping) })
	work.Go(func() { s.tend(keeping) })
	work.Go(func() { s.keepRealms(keeping) })
	beats.Go(func() { s.beat(beating) })

	served := make(chan error, 1)
	go func() { served <- web.Serve(serving, s.listener, s.handler(), time.Second) }()
	s.options.Log.Info("prerender server listens", "addr", s.Addr().String(), "url", s.url, "realms", s.options.Realms)
	select {
	case err := <-served:
		stopServing()
		return err
	case <-ctx.Done():
	}
	s.options.Log.Info("prerender server drains")
	s.drainer.Begin()
	signal(s.keeper.changed) // a heartbeat says so
	s.drainer.Wait(alive, s.options.DrainMin, s.options.DrainGrace)
	stopBeating()
	beats.Wait()
	s.unregister(alive)
	stopServing()
	return <-served
}

func (s *Server) handler() http.Handler {
	log, guard := s.options.Log, s.options.Guard
	mux := http.NewServeMux()
	route := func(pattern string, h web.Handler) { mux.HandleFunc(pattern, web.Route(log, h)) }
	work := func(pattern string, h web.Handler) {
		route(pattern, guard.Protect(s.drainer.Work("Prerender server draining", h)))
	}
	route("GET /{$}", s.root)
	route("GET /livez", s.livez)
	route("GET /readyz", s.readyz)
	route("GET /metrics", guard.Metrics(s.options.Registry))
	for pattern, t := range tasks() {
		work(pattern, s.perform(t))
	}
	work("POST /takeover-check", s.takeoverCheck)
	route("POST /release-batch", guard.Protect(s.releaseBatch))
	route("/", web.NotFound)
	return web.Handle(log, mux)
}
