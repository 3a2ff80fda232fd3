package app

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/rewarm/rewarm/internal/bus"
	"github.com/rewarm/rewarm/internal/client"
	"github.com/rewarm/rewarm/internal/egress"
	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/ledger"
	"github.com/rewarm/rewarm/internal/machine"
	"github.com/rewarm/rewarm/internal/manager"
	"github.com/rewarm/rewarm/internal/observe"
	"github.com/rewarm/rewarm/internal/pool"
	"github.com/rewarm/rewarm/internal/prerender"
	"github.com/rewarm/rewarm/internal/realm"
	"github.com/rewarm/rewarm/internal/web"
	"github.com/rewarm/rewarm/internal/worker"
)

// Fleet is what all roles of one fleet share.
type Fleet struct {
	Secrets  []string // the first is sent, all are accepted
	Guard    web.Guard
	NATS     []string // URLs of a cluster; empty embeds the store where there is one
	Replicas int      // of each bucket in a cluster
	DataDir  string
	Log      *slog.Logger
}

func (f *Fleet) secret() string {
	if len(f.Secrets) == 0 {
		return ""
	}
	return f.Secrets[0]
}

// ManagerOptions are a manager's own.
type ManagerOptions struct {
	Addr       string
	NATSListen string
	Settings   manager.Options // times and bounds; the rest is filled in
}

// RunManager runs a prerender manager until ctx ends.
func RunManager(ctx context.Context, fleet Fleet, o ManagerOptions) (err error) {
	var teardown stack
	defer func() { err = errors.Join(err, teardown.unwind()) }()
	store, err := openStore(ctx, bus.Options{
		URLs: fleet.NATS, Listen: o.NATSListen, DataDir: fleet.DataDir, Secret: fleet.secret(), Log: fleet.Log, Name: "prerender-manager",
	}, fleet.Replicas, &teardown)
	if err != nil {
		return err
	}
	m, err := newManager(fleet, o, store)
	if err != nil {
		return err
	}
	return m.Run(ctx)
}

func newManager(fleet Fleet, o ManagerOptions, store *ledger.Ledger) (*manager.Manager, error) {
	settings := o.Settings
	settings.Addr, settings.Guard, settings.Ledger, settings.Log = o.Addr, fleet.Guard, store, fleet.Log
	if settings.Registerer == nil {
		settings.Registerer = observe.NewRegistry()
	}
	return manager.New(settings)
}

// PrerenderOptions are a prerender server's own.
type PrerenderOptions struct {
	Addr       string
	URL        string
	ManagerURL string // "" runs without a manager
	Realms     []string
	Chrome     string
	Pool       pool.Options
	Settings   prerender.Options // times and bounds; the rest is filled in

	// AllowOrigins are what pages may reach beside the realms and public
	// addresses; Forbidden is what they may not even so, as host:port.
	AllowOrigins []string
	Forbidden    []string
}

// RunPrerender runs a prerender server until ctx ends.
func RunPrerender(ctx context.Context, fleet Fleet, o PrerenderOptions) (err error) {
	var teardown stack
	defer func() { err = errors.Join(err, teardown.unwind()) }()
	server, err := newPrerender(fleet, o, &teardown)
	if err != nil {
		return err
	}
	return server.Run(ctx)
}

func newPrerender(fleet Fleet, o PrerenderOptions, teardown *stack) (*prerender.Server, error) {
	dir, err := takeDir(fleet.DataDir, "prerender-server", fleet.Log, teardown)
	if err != nil {
		return nil, err
	}
	launch, err := chromeLauncher(o.Chrome, dir, fleet.Log)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "prerender-server: no Chrome")
	}
	var proxy *egress.Proxy // there when the server runs, which is when it launches
	settings := o.Settings
	settings.Addr, settings.URL, settings.Realms, settings.Guard = o.Addr, o.URL, o.Realms, fleet.Guard
	settings.Pool, settings.Log, settings.Registry = o.Pool, fleet.Log, observe.NewRegistry()
	settings.Launch = func(ctx context.Context) (prerender.Browser, error) { return launch(ctx, proxy.URL()) }
	// Half: pages differ, a page that a page's data asks for is not in the
	// budget, and over the limit the system kills.
	settings.Pool.Memory = machine.MemoryLimit(os.DirFS("/")) / 2
	if o.ManagerURL != "" {
		settings.Manager = client.NewManager(o.ManagerURL, fleet.secret())
	}
	settings.Permit = func(realms []string) []string { return proxy.SetRealms(realms) }
	server, err := prerender.New(settings)
	if err != nil {
		return nil, err
	}
	proxy, err = startEgress(egress.Options{
		Realms: o.Realms, AllowOrigins: o.AllowOrigins,
		Fleet:      slices.Concat([]string{server.Addr().String()}, addresses(slices.Concat(fleet.NATS, []string{o.URL, o.ManagerURL})...), o.Forbidden),
		Registerer: settings.Registry, Log: fleet.Log.With("role", "prerender-server"),
	}, teardown)
	if err != nil {
		return nil, err
	}
	return server, nil
}

// RealmOptions are a realm server's own.
type RealmOptions struct {
	Addr       string
	Host       string // directory; "" serves HostURL, else Example
	HostURL    string
	NoPoll     bool // leaves changes of a host URL to the hook
	Example    fs.FS
	RealmURL   string
	Realms     Realms
	ManagerURL string // "" : no reports and no renders
	Promotion  realm.Promotion
	MaxAge     time.Duration
	QueryAllow []string
	Answers    Answers
	Proxy      []realm.ProxyRule
	DrainGrace time.Duration
}

// Realms are those that one host is served as; the zero value is the one of the
// realm URL.
type Realms struct {
	Table *realm.Table
	// Follow sets other ones while the fleet runs, until ctx ends; a nil table says
	// that there was one which could not be taken. nil: they stay.
	Follow func(ctx context.Context, set func(*realm.Table) error)
}

// realmServer is a realm server that follows its realms.
type realmServer struct {
	*realm.Server
	follow func(ctx context.Context, set func(*realm.Table) error)
}

// Run serves until ctx ends.
func (s *realmServer) Run(ctx context.Context) error {
	following, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if s.follow != nil {
			s.follow(following, s.SetRealms)
		}
	}()
	defer func() {
		stop()
		<-ended
	}()
	return s.Server.Run(ctx)
}

// Answers are how a realm server answers app routes.
type Answers struct {
	OnMiss      realm.Miss
	WaitAtMost  time.Duration
	PageHeaders []string
}

// RunRealm runs a realm server until ctx ends.
func RunRealm(ctx context.Context, fleet Fleet, o RealmOptions) (err error) {
	var teardown stack
	defer func() { err = errors.Join(err, teardown.unwind()) }()
	var store *ledger.Ledger
	if len(fleet.NATS) > 0 {
		store, err = openStore(ctx, bus.Options{
			URLs: fleet.NATS, Secret: fleet.secret(), Log: fleet.Log, Name: "realm-server", Lazy: true,
		}, fleet.Replicas, &teardown)
		if err != nil {
			return err
		}
	}
	server, err := newRealm(fleet, o, store, &teardown)
	if err != nil {
		return err
	}
	return server.Run(ctx)
}

func newRealm(fleet Fleet, o RealmOptions, store *ledger.Ledger, teardown *stack) (*realmServer, error) {
	dir, err := takeDir(fleet.DataDir, "realm-server", fleet.Log, teardown)
	if err != nil {
		return nil, err
	}
	options := realm.Options{
		Addr: o.Addr, Host: o.Host, HostURL: o.HostURL, NoPoll: o.NoPoll, HostFS: o.Example, RealmURL: o.RealmURL, Realms: o.Realms.Table, DataDir: dir, Guard: fleet.Guard,
		Promotion: o.Promotion, MaxAge: o.MaxAge, QueryAllow: o.QueryAllow, ProxyRules: o.Proxy, DrainGrace: o.DrainGrace,
		OnMiss: o.Answers.OnMiss, WaitAtMost: o.Answers.WaitAtMost, PageHeaders: o.Answers.PageHeaders,
		Log: fleet.Log.With("role", "realm-server"), Registerer: observe.NewRegistry(),
	}
	if store != nil {
		options.Store, options.Peers = store, store
	}
	if o.ManagerURL != "" {
		options.Manager = client.NewManager(o.ManagerURL, fleet.secret())
	}
	server, err := realm.New(options)
	if err != nil {
		return nil, err
	}
	return &realmServer{server, o.Realms.Follow}, nil
}

// WorkerOptions are a worker's own.
type WorkerOptions struct {
	ManagerURL  string
	MetricsAddr string         // "": metrics are not served
	Settings    worker.Options // what is indexed and how fast; the rest is filled in
}

// RunWorker runs a worker until ctx ends. It needs the fleet's store.
func RunWorker(ctx context.Context, fleet Fleet, o WorkerOptions) (err error) {
	if len(fleet.NATS) == 0 {
		return fault.New(fault.Usage, "worker: no store; give the fleet's with --nats, for example nats://127.0.0.1:4223 (the manager's --nats-listen)")
	}
	var teardown stack
	defer func() { err = errors.Join(err, teardown.unwind()) }()
	registry := observe.NewRegistry()
	metrics, err := web.NewMetricsServer(web.MetricsOptions{
		Command: "worker", Addr: o.MetricsAddr, Guard: fleet.Guard, Gatherer: registry, Log: fleet.Log.With("role", "worker"),
	})
	if err != nil {
		return err
	}
	teardown.push(metrics.Close)
	store, err := openStore(ctx, bus.Options{URLs: fleet.NATS, Secret: fleet.secret(), Log: fleet.Log, Name: "worker"}, fleet.Replicas, &teardown)
	if err != nil {
		return err
	}
	o.Settings.Registerer = registry
	w, err := newWorker(fleet, o, store)
	if err != nil {
		return err
	}
	return runAll(ctx, w, metrics)
}

func newWorker(fleet Fleet, o WorkerOptions, store *ledger.Ledger) (*worker.Worker, error) {
	settings := o.Settings
	settings.Manager, settings.Store, settings.Log = client.NewManager(o.ManagerURL, fleet.secret()), store, fleet.Log
	if settings.Name == "" {
		settings.Name = rand.Text() // one that starts again counts anew
	}
	return worker.New(settings)
}
