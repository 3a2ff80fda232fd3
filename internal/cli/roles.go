package cli

import (
	"fmt"
	"math"
	"net/url"
	"strings"
	"time"

	"github.com/rewarm/rewarm/internal/app"
	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/manager"
	"github.com/rewarm/rewarm/internal/pool"
	"github.com/rewarm/rewarm/internal/prerender"
	"github.com/rewarm/rewarm/internal/realm"
	"github.com/rewarm/rewarm/internal/wire"
)

type realmCommand struct {
	Host       string        `required:"" help:"Directory of the built application, with index.html in it, or its URL." placeholder:"DIR|URL"`
	Addr       string        `help:"Where visitors are served." default:"127.0.0.1:4201"`
	RealmURL   string        `name:"realm-url" help:"Base URL that visitors and prerender servers use; default: the address." placeholder:"PUBLIC-URL"`
	ManagerURL string        `name:"manager-url" help:"The prerender manager; without it pages are bare shells." env:"REWARM_MANAGER_URL,PRERENDER_MANAGER_URL" placeholder:"URL"`
	Proxy      []string      `help:"Send requests below a prefix to another server." placeholder:"/api=URL"`
	MaxAge     time.Duration `help:"How long a stored page is fresh." default:"10m"`
	Query      []string      `help:"Query parameters that make another page." placeholder:"NAME"`

	promotionFlags
	answerFlags
	dataFlags
	secretFlags
	storeFlags
}

// promotionFlags say when a new release is served.
type promotionFlags struct {
	Promotion realm.Promotion `help:"When a new release is served: immediate, at once, or gated, when the fleet has rendered it and checked that the application takes over on --canary-urls. Until then, and for good if they break, visitors get the release before." enum:"immediate,gated" default:"immediate"`
}

// answerFlags are how a realm server answers app routes.
type answerFlags struct {
	OnMiss     realm.Miss    `help:"What a visitor gets of a page that is not stored yet: shell, the bare shell at once, or wait, the page if it is rendered within --wait-at-most, else the bare shell. Each page is rendered once, however many ask." enum:"shell,wait" default:"shell"`
	WaitAtMost time.Duration `help:"How long a visitor waits with --on-miss=wait." default:"3s"`
	PageHeader []string      `help:"Header that pages may set on their own answers with <meta name=prerender-header>, beside Link, Content-Language, X-Robots-Tag, Retry-After, and Location of a redirect." placeholder:"NAME"`
}

// maxWait is longer than anybody looks at an empty window.
const maxWait = time.Minute

func (f answerFlags) answers() (app.Answers, error) {
	if f.WaitAtMost <= 0 || f.WaitAtMost > maxWait {
		return app.Answers{}, fault.New(fault.Usage, "--wait-at-most %s is not above 0 and at most %s; --on-miss shell does not wait at all", f.WaitAtMost, maxWait)
	}
	_, err := realm.CheckPageHeaders(f.PageHeader)
	return app.Answers{OnMiss: f.OnMiss, WaitAtMost: f.WaitAtMost, PageHeaders: f.PageHeader}, err
}

// Help is shown by rewarm realm-server --help.
func (realmCommand) Help() string {
	return `Serves the application's shell with prerendered pages in it: under --realm-url, or as several sites, by host name or below a path, which rewarm.yaml names:

  realm-server:
    host: ./dist
  realms:
    - url: https://a.example
    - url: https://example.com/shop
      max-age: 1m
      query: [page]

A realm has url, and what is to be other than its flag says: max-age, query, on-miss, wait-at-most, page-header; for the worker, route and rate. A changed file is taken while it runs; rewarm doctor checks it.`
}

func (c *realmCommand) Run(r *run) error {
	fleet, err := newFleet(r, c.secretFlags, c.storeFlags, c.dir())
	if err != nil {
		return err
	}
	dir, hostURL, err := parseHost(c.Host)
	if err != nil {
		return err
	}
	proxy, err := parseProxy(c.Proxy)
	if err != nil {
		return err
	}
	answers, err := c.answers()
	if err != nil {
		return err
	}
	watcher, err := r.watch(c.RealmURL)
	if err != nil {
		return err
	}
	return app.RunRealm(r.ctx, fleet, app.RealmOptions{
		Realms: r.realms(watcher),
		Addr:   c.Addr, Host: dir, HostURL: hostURL, RealmURL: c.RealmURL, ManagerURL: c.ManagerURL, Promotion: c.Promotion, MaxAge: c.MaxAge, QueryAllow: c.Query, Answers: answers, Proxy: proxy,
	})
}

// milliseconds is a time in the settings that keep Boxel's names.
type milliseconds int

func (m milliseconds) duration() time.Duration { return time.Duration(m) * time.Millisecond }

// Validate keeps a time from being none, or from overflowing into one.
func (m milliseconds) Validate() error {
	if m < 0 || m > math.MaxInt32 {
		return fmt.Errorf("%d is no number of milliseconds between 0 and %d", int(m), math.MaxInt32)
	}
	return nil
}

// canaryFlags say what is checked of a release before the fleet follows.
type canaryFlags struct {
	CanaryURLs            []string `name:"canary-urls" help:"Pages whose takeover is checked on the first server of each release; a break pauses the rollout. Paths of each realm, or URLs; none checks nothing." default:"/" placeholder:"PATH"`
	CanaryAllowDifference []string `help:"What may differ there before and after the takeover: a clock, an advertisement." placeholder:"CSS"`
}

func (c canaryFlags) canary() ([]string, error) {
	if err := wire.CheckTakeover(wire.TakeoverRequest{AllowDifference: c.CanaryAllowDifference}); err != nil {
		return nil, fault.Wrap(fault.Usage, err, "--canary-allow-difference")
	}
	if len(c.CanaryURLs) == 1 && c.CanaryURLs[0] == "none" {
		return nil, nil
	}
	for _, u := range c.CanaryURLs {
		if _, ok := wire.NormalizeURL(u); !ok && !strings.HasPrefix(u, "/") {
			return nil, fault.New(fault.Usage, "--canary-urls %s: neither a path, like /products, nor a URL", u)
		}
	}
	return c.CanaryURLs, nil
}

type managerCommand struct {
	Addr       string `help:"Where callers, prerender servers and realm servers reach the manager." default:"127.0.0.1:4222"`
	NATSListen string `name:"nats-listen" help:"Let roles on other machines join the embedded store, at 4223 for example." placeholder:"ADDR"`

	canaryFlags

	Multiplex        int          `hidden:"" default:"1" env:"PRERENDER_MULTIPLEX"`
	HeartbeatTimeout milliseconds `hidden:"" default:"30000" env:"PRERENDER_HEARTBEAT_TIMEOUT_MS"`
	SweepInterval    milliseconds `hidden:"" default:"5000" env:"PRERENDER_HEARTBEAT_SWEEP_INTERVAL_MS"`
	DiscoveryWait    milliseconds `hidden:"" default:"10000" env:"PRERENDER_SERVER_DISCOVERY_WAIT_MS"`
	DiscoveryPoll    milliseconds `hidden:"" default:"100" env:"PRERENDER_SERVER_DISCOVERY_POLL_MS"`
	ServerTimeout    milliseconds `hidden:"" default:"120000" env:"PRERENDER_SERVER_TIMEOUT_MS"`
	ShutdownGrace    milliseconds `hidden:"" default:"10000" env:"PRERENDER_SHUTDOWN_GRACE_MS"`

	dataFlags
	secretFlags
	storeFlags
}

func (c *managerCommand) Run(r *run) error {
	fleet, err := newFleet(r, c.secretFlags, c.storeFlags, c.dir())
	if err != nil {
		return err
	}
	canary, err := c.canary()
	if err != nil {
		return err
	}
	return app.RunManager(r.ctx, fleet, app.ManagerOptions{Addr: c.Addr, NATSListen: c.NATSListen, Settings: manager.Options{
		CanaryURLs:           canary,
		CanaryAllow:          c.CanaryAllowDifference,
		MultiplexPerAffinity: c.Multiplex, HeartbeatTimeout: c.HeartbeatTimeout.duration(), SweepInterval: c.SweepInterval.duration(),
		DiscoveryWait: c.DiscoveryWait.duration(), DiscoveryPoll: c.DiscoveryPoll.duration(),
		ServerTimeout: c.ServerTimeout.duration(), DrainGrace: c.ShutdownGrace.duration(),
	}})
}

type prerenderCommand struct {
	Addr       string   `help:"Where the manager reaches this server." default:"127.0.0.1:4221"`
	URL        string   `help:"This server's URL as the manager sees it; default: the address." placeholder:"REACHABLE-AT"`
	ManagerURL string   `name:"manager-url" help:"The prerender manager." env:"REWARM_MANAGER_URL,PRERENDER_MANAGER_URL" placeholder:"URL"`
	RealmURL   []string `name:"realm-url" help:"Base URL of a realm to render, several if they share one host; default: those of the configuration file. Realms that realm servers report to the manager are rendered too." placeholder:"URL"`
	Pages      int      `help:"Pages kept warm, at the most." default:"4" env:"REWARM_PAGES,PRERENDER_PAGE_POOL_MAX"`
	MinPages   int      `help:"Pages kept warm in quiet times; default: as many as --pages." env:"REWARM_MIN_PAGES,PRERENDER_PAGE_POOL_MIN" placeholder:"N"`
	Chrome     string   `help:"Chrome's executable; default: the first found on PATH." placeholder:"PATH"`

	AllowOrigin []string `help:"Origin that pages may reach though its address is private, an API in the same network for example. Of private addresses they otherwise reach the realms' alone." placeholder:"http://10.0.0.7:3000"`

	HeartbeatInterval milliseconds `hidden:"" default:"10000" env:"PRERENDER_HEARTBEAT_INTERVAL_MS"`
	RenderTimeout     milliseconds `hidden:"" default:"60000" env:"RENDER_TIMEOUT_MS"`
	StandbyTimeout    milliseconds `hidden:"" default:"30000" env:"PRERENDER_STANDBY_TIMEOUT_MS"`
	AffinityTabMax    int          `hidden:"" default:"0" env:"PRERENDER_AFFINITY_TAB_MAX"`
	ShutdownGrace     milliseconds `hidden:"" default:"10000" env:"PRERENDER_SHUTDOWN_GRACE_MS"`

	dataFlags
	secretFlags
}

// drainMin is how long a draining server answers 410 before it leaves, so that
// callers read that rather than a reset (protocol, "Settings").
const drainMin = 5 * time.Second

func (c *prerenderCommand) Run(r *run) error {
	if err := checkPages(c.MinPages, c.Pages); err != nil {
		return err
	}
	if len(c.RealmURL) == 0 && r.config.file != nil {
		for _, realm := range r.config.file.Table().Realms() {
			c.RealmURL = append(c.RealmURL, realm.URL)
		}
	}
	if len(c.RealmURL) == 0 {
		return fault.New(fault.Usage, "--realm-url is missing: the base URL of a realm to render, for example http://127.0.0.1:4201")
	}
	fleet, err := newFleet(r, c.secretFlags, storeFlags{}, c.dir())
	if err != nil {
		return err
	}
	return app.RunPrerender(r.ctx, fleet, app.PrerenderOptions{
		Addr: c.Addr, URL: c.URL, ManagerURL: c.ManagerURL, Realms: c.RealmURL, AllowOrigins: c.AllowOrigin, Chrome: c.Chrome,
		Pool: pool.Options{Size: c.Pages, Min: c.MinPages, PerOwner: c.AffinityTabMax},
		Settings: prerender.Options{
			WarmTimeout:       c.StandbyTimeout.duration(),
			HeartbeatInterval: c.HeartbeatInterval.duration(), RenderTimeout: c.RenderTimeout.duration(),
			DrainMin: min(drainMin, c.ShutdownGrace.duration()), DrainGrace: c.ShutdownGrace.duration(),
		},
	})
}

// checkPages refuses a pool whose least is more than its most.
func checkPages(least, most int) error {
	if least > most {
		return fault.New(fault.Usage, "--min-pages %d is more than --pages %d", least, most)
	}
	return nil
}

// parseHost tells a directory from a URL, and checks the URL before anything
// starts. Both are empty when there is no host.
func parseHost(host string) (dir, hostURL string, err error) {
	if !strings.Contains(host, "://") {
		return host, "", nil
	}
	return "", host, realm.CheckHostURL(host)
}

func parseProxy(rules []string) ([]realm.ProxyRule, error) {
	var parsed []realm.ProxyRule
	for _, rule := range rules {
		prefix, target, ok := strings.Cut(rule, "=")
		u, err := url.Parse(target)
		if !ok || err != nil || !strings.HasPrefix(prefix, "/") || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return nil, fault.New(fault.Usage, "--proxy %q is not of the form /api=http://127.0.0.1:8080", rule)
		}
		parsed = append(parsed, realm.ProxyRule{Prefix: prefix, Target: u})
	}
	return parsed, nil
}
