package cli

import (
	"fmt"
	"os"
	"time"

	"github.com/rewarm/rewarm/examples"
	"github.com/rewarm/rewarm/internal/app"
	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/prerender"
)

type upCommand struct {
	Host          string        `help:"Directory of the built application, with index.html in it, or its URL; default: an example." placeholder:"DIR|URL"`
	RealmAddr     string        `help:"Where visitors are served." default:"127.0.0.1:4201"`
	RealmURL      string        `name:"realm-url" help:"Base URL that visitors use, when it is not the address." placeholder:"URL"`
	ManagerAddr   string        `help:"Where the manager listens." default:"127.0.0.1:4222"`
	PrerenderAddr string        `help:"Where the prerender server listens." default:"127.0.0.1:4221"`
	AllowOrigin   []string      `help:"Origin that pages may reach though its address is private, an API on this machine for example. Of private addresses they otherwise reach the realm's alone." placeholder:"http://127.0.0.1:3000"`
	Pages         int           `help:"Pages kept warm, at the most." default:"4" env:"REWARM_PAGES,PRERENDER_PAGE_POOL_MAX"`
	MinPages      int           `help:"Pages kept warm in quiet times; default: as many as --pages." env:"REWARM_MIN_PAGES,PRERENDER_PAGE_POOL_MIN" placeholder:"N"`
	Chrome        string        `help:"Chrome's executable; default: the first found on PATH." placeholder:"PATH"`
	NoWatch       bool          `help:"Do not take a new release when the host changes, only on POST /_post-deployment."`
	MaxAge        time.Duration `help:"How long a stored page is fresh." default:"10m"`
	Query         []string      `name:"query" help:"Query parameters that make another page." placeholder:"NAME"`
	Concurrency   int           `help:"Pages that the worker renders at a time, before anybody asks for them; 0: none, they are rendered when visitors ask." default:"1"`
	Proxy         []string      `help:"Send requests below a prefix to another server." placeholder:"/api=URL"`

	canaryFlags
	promotionFlags
	answerFlags
	workerFlags
	dataFlags
	secretFlags
	storeFlags
}

// Help is shown by rewarm up --help.
func (upCommand) Help() string {
	return `Runs realm server, prerender manager, prerender server and worker, with the store embedded, until interrupted.

Try it:
  rewarm up
  curl -s http://127.0.0.1:4201/products    twice: the second answer has the prerendered page in it
  rewarm up --host ./dist                   your own application; a new build in ./dist is taken as a release`
}

func (c *upCommand) Run(r *run) error {
	if err := checkPages(c.MinPages, c.Pages); err != nil {
		return err
	}
	fleet, err := newFleet(r, c.secretFlags, c.storeFlags, c.dir())
	if err != nil {
		return err
	}
	dir, hostURL, err := parseHost(c.Host)
	if err != nil {
		return err
	}
	// Of a directory that is away for a moment the kept release could be served;
	// but whoever starts `up` by hand has more likely mistyped its name.
	if info, err := os.Stat(dir); dir != "" && (err != nil || !info.IsDir()) {
		return fault.New(fault.Usage, "--host %s: no such directory; give the one that your build makes, with index.html in it, or the application's URL", dir)
	}
	proxy, err := parseProxy(c.Proxy)
	if err != nil {
		return err
	}
	answers, err := c.answers()
	if err != nil {
		return err
	}
	canary, err := c.canary()
	if err != nil {
		return err
	}
	watcher, err := r.watch(c.RealmURL)
	if err != nil {
		return err
	}
	o := app.UpOptions{
		Realms:     r.realms(watcher),
		CanaryURLs: canary, CanaryAllow: c.CanaryAllowDifference, Promotion: c.Promotion,
		Host: dir, HostURL: hostURL, RealmAddr: c.RealmAddr, RealmURL: c.RealmURL, ManagerAddr: c.ManagerAddr, PrerenderAddr: c.PrerenderAddr,
		AllowOrigins: c.AllowOrigin, Pages: c.Pages, MinPages: c.MinPages, Chrome: c.Chrome, Watch: !c.NoWatch, MaxAge: c.MaxAge, QueryAllow: c.Query, Answers: answers, Proxy: proxy,
		Prerender: prerender.Options{DrainMin: time.Millisecond},
	}
	if c.Concurrency > 0 {
		options := c.options(c.Concurrency, c.Query, c.MaxAge)
		if watcher != nil {
			options.Site = watcher.Site
		}
		o.Worker = &options
	}
	if o.Host == "" && o.HostURL == "" {
		if o.Example, err = examples.Vanilla("v1"); err != nil {
			return err
		}
	}
	up, err := app.NewUp(r.ctx, fleet, o)
	if err != nil {
		return err
	}
	for _, url := range up.RealmURLs() {
		fmt.Fprintf(r.streams.Out, "Pages    %s/\n", url)
	}
	fmt.Fprintf(r.streams.Out, "Fleet    %s/\nStop     Ctrl-C\n", up.ManagerURL())
	return up.Run(r.ctx)
}
