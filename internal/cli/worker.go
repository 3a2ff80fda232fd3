package cli

import (
	"time"

	"github.com/rewarm/rewarm/internal/app"
	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/worker"
)

// workerFlags say what is indexed, and how fast.
type workerFlags struct {
	Rate  float64       `help:"Pages of one realm that a worker renders in a second, at the most; a Crawl-delay in the realm's robots.txt may make it less." default:"20"`
	Every time.Duration `help:"Index each realm again when so much time has passed since the last time; 0: after a deploy, and when asked to." default:"12h"`
	Route []string      `help:"Path to index first, beside / and before what the sitemaps list. Repeatable." placeholder:"/products"`
}

func (f workerFlags) options(concurrency int, query []string, maxAge time.Duration) worker.Options {
	return worker.Options{Concurrency: concurrency, Rate: f.Rate, Every: f.Every, Routes: f.Route, QueryAllow: query, MaxAge: maxAge}
}

type workerCommand struct {
	ManagerURL  string        `name:"manager-url" required:"" help:"The prerender manager." env:"REWARM_MANAGER_URL,PRERENDER_MANAGER_URL" placeholder:"URL"`
	Concurrency int           `help:"Pages rendered at a time." default:"2"`
	MaxAge      time.Duration `help:"How long a stored page is fresh." default:"10m"`
	Query       []string      `help:"Query parameters that make another page: those of the realm servers." placeholder:"NAME"`
	MetricsAddr string        `help:"Where Prometheus finds /metrics, and whoever asks /livez; without it the worker listens nowhere." placeholder:"127.0.0.1:9465"`

	workerFlags
	secretFlags
	storeFlags
}

// Help is shown by rewarm worker --help.
func (workerCommand) Help() string {
	return `Renders pages before anybody asks for them. When a deploy has reached the first prerender server, each realm's pages are looked up (the named routes, its sitemap.xml and those in its robots.txt, then the links of every page rendered) and rendered on the new release.

Any number of workers share the queue, which is in the fleet's store: one that is killed loses no page. See how far it is:
  rewarm index --wait`
}

func (c *workerCommand) Run(r *run) error {
	if c.Concurrency < 1 {
		return fault.New(fault.Usage, "--concurrency %d: a worker renders one page at a time at least", c.Concurrency)
	}
	fleet, err := newFleet(r, c.secretFlags, c.storeFlags, "")
	if err != nil {
		return err
	}
	watcher, err := r.watch("")
	if err != nil {
		return err
	}
	options := c.options(c.Concurrency, c.Query, c.MaxAge)
	if watcher != nil {
		options.Site = watcher.Site
	}
	return alongside(r.ctx, watcher, func() error {
		return app.RunWorker(r.ctx, fleet, app.WorkerOptions{ManagerURL: c.ManagerURL, MetricsAddr: c.MetricsAddr, Settings: options})
	})
}
