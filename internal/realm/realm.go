// Package realm is the realm server: the origin of a fleet's pages. It copies
// each accepted release of the host into its data directory, serves the shell,
// the assets and the app routes from that copy, knows the token because it
// hashes the very bytes it serves, and tells the manager. It asks for renders in
// the background, and lets a visitor wait for one only where it is told to.
package realm

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rewarm/rewarm/internal/client"
	"github.com/rewarm/rewarm/internal/coding"
	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/index"
	"github.com/rewarm/rewarm/internal/ledger"
	"github.com/rewarm/rewarm/internal/web"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// Store keeps snapshots and lets one of many realm servers win a render.
type Store interface {
	PutSnapshot(ctx context.Context, s words.Snapshot) error
	// PutUnpurged does, unless Purges is no longer before.
	PutUnpurged(ctx context.Context, s words.Snapshot, before uint64) error
	Purges(ctx context.Context, realm string) (uint64, error)
	Snapshot(ctx context.Context, realm string, token words.Token, url string) (words.Snapshot, bool, error)
	// Claim reports whether the caller is the first to claim key within ttl.
	Claim(ctx context.Context, key string, ttl time.Duration) (won bool, err error)
	Unclaim(ctx context.Context, key string) error
	// Ping asks for a sign of life.
	Ping(ctx context.Context) error
	// QueueJobs leaves pages to the workers.
	QueueJobs(ctx context.Context, jobs ...index.Job) (queued int, err error)
	WatchReleases(ctx context.Context) (*ledger.ReleaseWatch, error)
	ModuleStore
}

// ModuleStore keeps module results, and tells what is no longer true.
type ModuleStore interface {
	Module(ctx context.Context, realm string, token words.Token, url string) (m words.Module, revision uint64, found bool, err error)
	PutModule(ctx context.Context, m words.Module, revision uint64) error
	InvalidateModule(ctx context.Context, realm string, token words.Token, url string) ([]ledger.Invalidation, error)
	WatchInvalidations(ctx context.Context, realm string) (*ledger.InvalidationWatch, error)
}

// Manager is the way to the fleet; [*client.Manager] is one.
type Manager interface {
	Report(ctx context.Context, report wire.Report) (client.Orders, error)
	Visit(ctx context.Context, visit wire.VisitRequest, call client.Call) (client.VisitAnswer, error)
	Module(ctx context.Context, visit wire.VisitRequest, call client.Call) (client.ModuleAnswer, error)
}

// ProxyRule sends requests below Prefix to another server, the path unchanged.
type ProxyRule struct {
	Prefix string // "/api"
	Target *url.URL
}

// Options configure a realm server. Defaults are in parentheses.
type Options struct {
	Addr string
	// Host is the directory of built files, HostURL the URL of one, HostFS an
	// embedded one: the first that is set is served.
	Host    string
	HostURL string
	HostFS  fs.FS
	// Realms are the sites that the host is served as; without any RealmURL is
	// the one, the base URL that visitors and prerender servers use (http://<addr>).
	Realms   *Table
	RealmURL string
	Name     string // stable name in reports (host name and port)
	DataDir  string
	Store    Store   // nil: bare shells only
	Peers    Peers   // nil: what is not here is nowhere
	Manager  Manager // nil: no reports, no renders
	Guard    web.Guard
	// Promotion is when a release that was taken is served (PromoteImmediate).
	Promotion Promotion
	// MaxAge is how long a snapshot is fresh (10 min).
	MaxAge     time.Duration
	QueryAllow []string // query parameters that are part of a page's identity
	// OnMiss is what a visitor gets of a page that has no snapshot (MissShell).
	OnMiss Miss
	// WaitAtMost bounds a visitor's wait under MissWait (3 s).
	WaitAtMost time.Duration
	// PageHeaders may be set by pages on their own answers, beside those that
	// every page may; see [CheckPageHeaders].
	PageHeaders []string
	ProxyRules  []ProxyRule
	Log         *slog.Logger
	Registerer  prometheus.Registerer
	// PresenceInterval is the time between reports (5 s).
	PresenceInterval time.Duration
	// HostPoll is the time between looks at a host URL (5 s, ten per cent more
	// or less); NoPoll leaves changes to the hook.
	HostPoll time.Duration
	NoPoll   bool
	// HostSettle is the time between the two fetches that must agree (1 s).
	HostSettle time.Duration
	// DrainGrace bounds the end of running requests at shutdown (10 s).
	DrainGrace time.Duration
	// RenderBudget bounds one background render (60 s).
	RenderBudget time.Duration
	Now          func() time.Time // (time.Now)
}

// Miss is what a visitor gets of a page that has no snapshot yet.
type Miss string

// The ways to answer a miss. Either way one render is made, and the next
// visitor gets it.
const (
	MissShell Miss = "shell" // the bare shell, at once
	MissWait  Miss = "wait"  // the page, or the bare shell when it took too long
)

func (o *Options) validate() (err error) {
	switch {
	case o.Host == "" && o.HostURL == "" && o.HostFS == nil:
		return fault.New(fault.Usage, "realm server: no host; --host takes the directory of built files with index.html in it, or its URL")
	case o.DataDir == "":
		return fault.New(fault.Usage, "realm server: no data directory; set --data")
	case o.Addr == "":
		return fault.New(fault.Usage, "realm server: no address; set --realm-addr")
	case o.OnMiss != "" && o.OnMiss != MissShell && o.OnMiss != MissWait:
		return fault.New(fault.Usage, "realm server: --on-miss takes %s or %s, not %q", MissShell, MissWait, o.OnMiss)
	}
	switch o.Promotion {
	case "", PromoteImmediate:
	case PromoteGated:
		if o.Manager == nil {
			return fault.New(fault.Usage, "realm server: --promotion gated needs a manager, which promotes; set --manager-url")
		}
	default:
		return fault.New(fault.Usage, "realm server: --promotion takes %s or %s, not %q", PromoteImmediate, PromoteGated, o.Promotion)
	}
	if o.PageHeaders, err = CheckPageHeaders(o.PageHeaders); err != nil {
		return err
	}
	for _, rule := range o.ProxyRules {
		if !strings.HasPrefix(rule.Prefix, "/") || rule.Target == nil || rule.Target.Host == "" {
			return fault.New(fault.Usage, "realm server: --proxy takes /prefix=http://host, not %q", rule.Prefix)
		}
	}
	o.MaxAge = orDefault(o.MaxAge, 10*time.Minute)
	o.WaitAtMost = orDefault(o.WaitAtMost, 3*time.Second)
	o.PresenceInterval = orDefault(o.PresenceInterval, 5*time.Second)
	o.HostPoll = orDefault(o.HostPoll, 5*time.Second)
	o.HostSettle = orDefault(o.HostSettle, time.Second)
	o.DrainGrace = orDefault(o.DrainGrace, 10*time.Second)
	o.RenderBudget = orDefault(o.RenderBudget, wire.DefaultBudget)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Registerer == nil {
		o.Registerer = prometheus.NewRegistry()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Guard.AllowRaw = true // as Boxel sends it to /_post-deployment
	return nil
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return otherwise
}

// Server is a realm server.
type Server struct {
	o        Options
	listener net.Listener
	// served are the realms, set by who holds settingRealms.
	served        atomic.Pointer[sites]
	settingRealms sync.Mutex
	realmsRefused atomic.Bool   // others than those that are served were to be
	sitesChanged  chan struct{} // holds one element after served has changed
	depot         *depot
	source        source
	origin        *origin // of a host URL; nil for a directory
	// releases is what is served, switched as a whole by who holds switching.
	releases  atomic.Pointer[releaseSet]
	switching sync.Mutex
	promoted  promoted // guarded by switching
	// deployment is that of the host's newest release.
	deployment atomic.Pointer[deployment]
	accepting  chan struct{} // holds one element while a release is being accepted
	demands    *demands      // of a host URL
	borrowed   *borrowed
	reports    chan hookReport
	pages      *cache[pageKey, *page]
	encodings  *cache[encodedKey, *body]
	encoder    *coding.Encoder
	encoding   chan struct{} // holds an element for each body being encoded
	waiting    chan struct{} // holds an element for each visitor who waits for a render
	metrics    *metrics
	handler    http.Handler
	hostNote   atomic.Pointer[string] // why the host is not what is served; nil when it is
	hostUnseen atomic.Pointer[string] // which of the host's files are not; nil when all are
}

// New binds the listener, and accepts the host's release or, when the host is
// broken, loads the last one kept. It starts nothing.
func New(o Options) (_ *Server, err error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	if err := o.Guard.CheckListen("realm server", "--realm-addr", o.Addr); err != nil {
		return nil, err
	}
	s := &Server{
		o:            o,
		accepting:    make(chan struct{}, 1),
		demands:      newDemands(maxDemands, 0),
		borrowed:     newBorrowed(),
		reports:      make(chan hookReport, 1),
		sitesChanged: make(chan struct{}, 1),
		pages:        newCache[pageKey, *page](maxPageBytes),
		encodings:    newCache[encodedKey, *body](maxEncodedBytes),
		encoding:     make(chan struct{}, runtime.GOMAXPROCS(0)),
		waiting:      make(chan struct{}, maxWaiting),
	}
	if s.encoder, err = coding.NewEncoder(); err != nil {
		return nil, fmt.Errorf("realm server: %w", err)
	}
	if s.metrics, err = newMetrics(o.Registerer, s.realmsRefused.Load); err != nil {
		return nil, fmt.Errorf("realm server: metrics: %w", err)
	}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if s.depot, err = openDepot(o.DataDir); err != nil {
		return nil, err
	}
	if s.listener, err = web.Listen("realm server", "--realm-addr", o.Addr); err != nil {
		return nil, err
	}
	if err = s.identify(); err != nil {
		return nil, err
	}
	if err = s.openSource(); err != nil {
		return nil, err
	}
	if err = s.boot(); err != nil {
		return nil, err
	}
	s.handler = web.Handle(o.Log, web.Route(o.Log, s.serve))
	return s, nil
}

// Close frees the address and the data directory of a server whose Run is
// never called; Run does so itself.
func (s *Server) Close() {
	s.metrics.unregister(s.o.Registerer)
	if s.depot != nil {
		_ = s.depot.close()
	}
	if s.listener != nil {
		_ = s.listener.Close() // closed already after Run
	}
}

// identify settles the realms and the reporter's name.
func (s *Server) identify() error {
	addr := s.Addr()
	s.o.RealmURL = cmp.Or(s.o.RealmURL, "http://"+addr)
	if err := s.SetRealms(cmp.Or(s.o.Realms, &Table{})); err != nil {
		return err
	}
	if s.o.Name == "" {
		name, err := os.Hostname()
		if err != nil {
			name = "realm"
		}
		_, port, _ := net.SplitHostPort(addr)
		s.o.Name = name + ":" + port
	}
	return nil
}

// openSource settles where releases come from.
func (s *Server) openSource() (err error) {
	if s.o.HostURL == "" || s.o.Host != "" {
		s.source = &directory{dir: s.o.Host, embedded: s.o.HostFS, realmURL: s.URL(), depot: s.depot}
		return nil
	}
	if s.origin, err = newOrigin(s.o.HostURL); err != nil {
		return err
	}
	if host := s.origin.base.Host; slices.Contains(s.URLs(), "http://"+host) || slices.Contains(s.URLs(), "https://"+host) || host == s.Addr() {
		return fault.New(fault.Usage, "realm server: --host %s is this realm server; give the URL of the built files", s.o.HostURL)
	}
	s.source = &hostURL{origin: s.origin, depot: s.depot, realmURL: s.URL(), settle: s.o.HostSettle, proxied: s.proxied}
	return nil
}

// boot decides what is served first.
func (s *Server) boot() error {
	kept, problems := s.depot.load()
	for _, problem := range problems {
		s.o.Log.Warn("kept release dropped", "error", problem)
	}
	if len(kept) > 0 {
		s.releases.Store(newReleaseSet(kept, nil))
	}
	outcome, err := s.accept(context.Background())
	switch {
	case err != nil:
		return err
	case outcome.accepted:
		if s.gated() && len(kept) == 0 {
			s.o.Log.Info("no release of before is kept here: the host's is the only one to serve, and /readyz says no until it is promoted", "token", outcome.current)
		}
		return nil
	case s.hostUnseen.Load() != nil:
		return nil // its release is served, and what is not was told
	case len(kept) == 0 && s.origin != nil:
		return fault.New(fault.Invalid, "realm server: the host cannot be served: %s; check that it answers from this machine, and point --host at the URL of the directory that has index.html", outcome.reason)
	case len(kept) == 0:
		return fault.New(fault.Invalid, "realm server: the host cannot be served: %s; build the application and point --host at the directory that has its index.html", outcome.reason)
	}
	s.o.Log.Error("the host cannot be served; serving the last release that was accepted", "token", kept[0].token, "reason", outcome.reason)
	return nil
}

// Addr is the address that the listener has.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Token is that of the shell served now.
func (s *Server) Token() words.Token { return s.releases.Load().current().token }

// Run serves until ctx ends and returns after every goroutine has.
func (s *Server) Run(ctx context.Context) error {
	var owned sync.WaitGroup
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	if s.origin != nil && !s.o.NoPoll {
		owned.Go(func() { s.poll(inner) })
	}
	if s.o.Manager != nil {
		owned.Go(func() { s.report(inner) })
	}
	if s.o.Store != nil && s.gated() {
		owned.Go(func() { s.hearPromotions(inner) })
	}
	if s.o.Peers != nil {
		owned.Go(func() {
			if err := s.o.Peers.Lend(inner, s.lend); err != nil && inner.Err() == nil {
				s.o.Log.Error("no files are lent to other realm servers", "error", err)
			}
		})
	}
	owned.Go(func() { s.keepSites(inner) })
	err := web.Serve(ctx, s.listener, s.handler, s.o.DrainGrace)
	cancel()
	owned.Wait()
	s.Close()
	return err
}
