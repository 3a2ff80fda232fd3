package worker

import (
	"context"
	"net/url"
	"slices"
	"strings"

	"github.com/rewarm/rewarm/internal/index"
)

const (
	// maxSitemaps bounds the sitemap files read in one run.
	maxSitemaps = 100
	// maxListed bounds the pages that a run takes from sitemaps.
	maxListed = 100_000
	// maxDepth is how many links away from a listed page a page may be: a
	// calendar has no last month.
	maxDepth = 20
)

// seed finds a realm's pages and queues them: the routes that were named, then
// what its sitemaps list. Links are followed as pages are rendered. Done twice
// it does no harm; deliveries is how often the job was handed out.
func (w *Worker) seed(ctx context.Context, job index.Job, deliveries int) result {
	// Once: what failed since is of pages that are being rendered.
	if deliveries == 1 {
		if err := w.o.Store.ClearFailures(ctx, job.Realm, job.Token); err != nil {
			return refused(oneLine("%v", err))
		}
	}
	site, err := w.sites.of(ctx, job.Realm, w.o.Now())
	if err != nil {
		return held(oneLine("robots rules not known: %v", err))
	}
	seen := map[string]bool{}
	queued, err := w.queue(ctx, job, site, w.routes(job.Realm), seen)
	if err != nil {
		return refused(oneLine("%v", err))
	}
	sitemaps, listed := &sitemapList{realm: job.Realm}, 0
	sitemaps.add(job.Realm + "/sitemap.xml")
	sitemaps.add(site.robots.Sitemaps...)
	for i := 0; i < len(sitemaps.all) && listed < maxListed; i++ {
		address := sitemaps.all[i]
		got, err := w.sites.sitemap(ctx, address)
		if ctx.Err() != nil {
			return refused("the worker ends")
		}
		// One that cannot be read costs its own pages, not those of the others.
		if err != nil || got.Cut {
			w.log.Warn("sitemap read in part", "sitemap", address, "pages", len(got.Pages), "cut", got.Cut, "error", err)
		}
		sitemaps.add(got.Sitemaps...)
		listed += len(got.Pages)
		n, err := w.queue(ctx, job, site, got.Pages, seen)
		if err != nil {
			return refused(oneLine("%v", err))
		}
		queued += n
	}
	w.log.Info("pages queued", "realm", job.Realm, "run", job.Run, "sitemaps", len(sitemaps.all), "listed", listed, "queued", queued)
	return result{fresh: true}
}

// sitemapList are the sitemaps to read of a realm: of its own origin, each once,
// at most maxSitemaps, however many its files name.
type sitemapList struct {
	realm string
	all   []string
}

func (l *sitemapList) add(addresses ...string) {
	for _, address := range addresses {
		if len(l.all) >= maxSitemaps {
			return
		}
		if !slices.Contains(l.all, address) && sameOrigin(address, l.realm) {
			l.all = append(l.all, address)
		}
	}
}

// routes are the pages of a realm that are indexed whatever its sitemaps say.
func (w *Worker) routes(realm string) []string {
	routes := w.o.site(realm).Routes
	pages := make([]string, 0, len(routes)+1)
	for _, route := range append([]string{"/"}, routes...) {
		pages = append(pages, strings.TrimSuffix(realm, "/")+route)
	}
	return pages
}

// sameOrigin keeps the worker from being sent elsewhere by a realm's files.
func sameOrigin(address, realm string) bool {
	a, errA := url.Parse(address)
	b, errB := url.Parse(realm)
	return errA == nil && errB == nil && a.Scheme == b.Scheme && strings.EqualFold(a.Host, b.Host) && a.User == nil
}

// queue queues pages as listed ones of a job's run, but for those that were seen.
func (w *Worker) queue(ctx context.Context, job index.Job, site *site, listed []string, seen map[string]bool) (int, error) {
	jobs := make([]index.Job, 0, len(listed))
	allow := w.o.site(job.Realm).QueryAllow
	for _, address := range listed {
		u, err := url.Parse(address)
		if err != nil {
			continue
		}
		page, ok := index.PageURL(job.Realm, u, allow)
		if ok && !seen[page] && w.owner(job.Realm, page) == job.Realm && site.robots.Allow(page) {
			seen[page] = true
			jobs = append(jobs, w.jobFor(job, page, 0))
		}
	}
	// Before they are queued: some are done before the last of them is, and lead to
	// the others.
	site.queued.add(job.Run, jobs)
	queued, err := w.o.Store.QueueJobs(ctx, jobs...)
	if err != nil {
		site.queued.forget(job.Run, jobs) // the seed is done again, maybe by what it can read then
	}
	return queued, err
}

// follow queues the pages that a page leads to.
func (w *Worker) follow(ctx context.Context, job index.Job, site *site, links []string) error {
	if job.Depth >= maxDepth {
		return nil
	}
	var jobs []index.Job
	allow, seen := w.o.site(job.Realm).QueryAllow, map[string]bool{}
	for _, link := range links {
		if site.queued.has(job.Run, link) {
			continue // most links name their page as we do: the rest need not be asked of them
		}
		page, ok := index.Linked(job.Realm, link, allow)
		if ok && !seen[page] && w.owner(job.Realm, page) == job.Realm && site.robots.Allow(page) && !site.queued.has(job.Run, page) {
			seen[page] = true
			jobs = append(jobs, w.jobFor(job, page, job.Depth+1))
		}
	}
	if _, err := w.o.Store.QueueJobs(ctx, jobs...); err != nil {
		return err
	}
	site.queued.add(job.Run, jobs)
	return nil
}

func (w *Worker) jobFor(from index.Job, page string, depth int) index.Job {
	from.URL, from.Depth, from.QueuedAt = page, depth, w.o.Now()
	return from
}
