package bench

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/rewarm/rewarm/examples"
	"github.com/rewarm/rewarm/internal/client"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// The sizes of the realm that is indexed, in pages.
const (
	indexSmall = 1_000
	indexLarge = 10_000
)

// indexTurns is how often the small one is indexed: a machine that is shared
// becomes faster and slower by a tenth within seconds, and so does a turn.
const indexTurns = 15

// indexCallers render at a time: the worker, and who is compared with it.
const indexCallers = 4

// catalogue is a host with as many pages as one asks for, each of which fetches
// its data and shows a list. The sitemap lists n of them, below a base URL.
func catalogue(release, base string, n int) fs.FS {
	var sitemap strings.Builder
	sitemap.WriteString(`<?xml version="1.0" encoding="UTF-8"?><urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">`)
	for i := range n {
		fmt.Fprintf(&sitemap, "<url><loc>%s/page/%d</loc></url>", base, i)
	}
	sitemap.WriteString("</urlset>")
	app := `const show = async path => {
	  const things = await (await fetch('/data/things.json')).json();
	  history.replaceState(null, '', path);
	  document.title = path;
	  const list = things.map(t => '<li><a href="/page/' + t.id + '"><b>' + t.name + '</b><span>' + t.text + '</span></a></li>').join('');
	  document.querySelector('main').innerHTML = '<div data-prerender-status="ready"><h1>Page ' + path + '</h1><ul>' + list + '</ul><p id="standby-ready">` + release + `</p></div>';
	};
	window.prerenderTransitionTo = show;
	show(location.pathname);`
	var things []string
	for i := range 40 {
		things = append(things, fmt.Sprintf(`{"id":%d,"name":"Thing %d","text":"%s"}`, i, i, strings.Repeat("What there is to say of it. ", 6)))
	}
	return fstest.MapFS{
		"index.html": {Data: []byte(`<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Catalogue</title>` +
			`<script type="module" src="/assets/app-` + release + `.js"></script></head><body><main></main></body></html>`)},
		"assets/app-" + release + ".js": {Data: []byte(app)},
		"data/things.json":              {Data: []byte("[" + strings.Join(things, ",") + "]")},
		"sitemap.xml":                   {Data: []byte(sitemap.String())},
	}
}

// part is what was rendered or indexed in one go, or in several.
type part struct {
	pages, failed int
	took          time.Duration
	used, own     usage // of the fleet, and of that Rewarm's process
}

func (p *part) add(q part) {
	p.pages, p.failed, p.took = p.pages+q.pages, p.failed+q.failed, p.took+q.took
	p.used.cpu, p.own.cpu = p.used.cpu+q.used.cpu, p.own.cpu+q.own.cpu
}

// share is what Rewarm's process spent, in shares of what Chrome did.
func (p *part) share() float64 { return p.own.cpu.Seconds() / (p.used.cpu - p.own.cpu).Seconds() }

// measureIndex has a worker render a realm's pages, beside callers that ask for
// the same ones as fast as they are answered.
func measureIndex(b *testing.B, rewarm string, r *report) {
	f := startFleet(b, rewarm, example{release: func() (fs.FS, error) { return catalogue("r0", "", 0), nil }}, indexCallers,
		"--concurrency", fmt.Sprint(indexCallers), "--rate", "100000", "--every", "0")
	if _, err := f.indexed(b.Context(), 0, 0); err != nil {
		b.Fatal(err)
	}
	table := r.table(fmt.Sprintf("A realm kept indexed, %d pages at a time", indexCallers), "", "pages", "pages/s", "CPU ms a page", "of it Rewarm's", "RSS MB", "failed")
	row := func(what string, p part) {
		table.row(what, fmt.Sprint(p.pages), fmt.Sprintf("%.1f", float64(p.pages)/p.took.Seconds()), fmt.Sprintf("%.1f", ms(p.used.cpu)/float64(p.pages)),
			fmt.Sprintf("%.1f", ms(p.own.cpu)/float64(p.pages)), fmt.Sprintf("%.0f", float64(f.usage().rss)/1e6), fmt.Sprint(p.failed))
	}
	f.renderPages(b, 100) // the pages' first renders
	// Half as many are rendered before, between and after the turns: what is
	// rendered around a turn is as much as is indexed in it, for a page is replaced
	// after so many renders, and the next one is slow until its code is compiled.
	const half = indexSmall / 2
	before := f.renderPages(b, half)
	rendered, indexed, rates := before, part{}, []float64{}
	for range indexTurns {
		turn := f.indexPages(b, onDemand, "r0", indexSmall)
		after := f.renderPages(b, half)
		rates = append(rates, (before.took+after.took).Seconds()/turn.took.Seconds())
		indexed.add(turn)
		rendered.add(after)
		before = after
	}
	row(onDemand, indexed)
	row(asked, rendered)
	large := f.indexPages(b, onDemand, "r0", indexLarge)
	row(onDemand+", 10,000 of them", large)
	around := f.renderPages(b, half)
	deployed := f.indexPages(b, onDeploy, "r1", indexSmall)
	around.add(f.renderPages(b, half))
	row(onDeploy, deployed)
	row(asked+", around it", around)
	r.bar("indexing 1,000 pages, of the rate of rendering them", median(rates), 0.9, atLeast)
	// Of what Chrome spends at the same time: minutes lie between the two.
	r.bar("Rewarm's CPU, in times of Chrome's, indexing 10,000 pages against 1,000", large.share()/indexed.share(), 1.1, atMost)
	r.bar("indexing 1,000 pages of a new release, with 11,000 stored", around.took.Seconds()/deployed.took.Seconds(), 0.5, atLeast)
	r.note("Indexing 1,000 pages, of the rate of rendering them: %.2f to %.2f in %d turns.", slices.Min(rates), slices.Max(rates), indexTurns)
	r.note("Beside each second that Chrome computes, Rewarm does for %.2f s while pages are rendered, for %.2f s while they are indexed, and for %.2f s when there are 10,000.",
		rendered.share(), indexed.share(), large.share())
}

// renderPages asks the manager for n pages.
func (f *fleet) renderPages(b *testing.B, n int) part {
	before, own := f.usage(), f.own()
	m := load{callers: indexCallers, atLeast: n / indexCallers, do: func(ctx context.Context, caller, n int) error {
		return f.renderPage(ctx, caller*indexLarge/indexCallers+n)
	}}.run(b.Context())
	if len(m.all) == 0 {
		b.Fatal(m.failed)
	}
	return part{len(m.all), len(m.failed), m.elapsed, f.usage().minus(before), f.own().minus(own)}
}

// indexPages has n pages indexed, after a deploy of a release or, without one,
// because somebody asks for it.
func (f *fleet) indexPages(b *testing.B, what, release string, n int) part {
	ctx := b.Context()
	if err := examples.Deploy(f.host, catalogue(release, f.realm, n)); err != nil {
		b.Fatal(err)
	}
	last, err := f.asks.IndexStatus(ctx, f.realm)
	if err != nil {
		b.Fatal(err)
	}
	before, own, began := f.usage(), f.own(), time.Now()
	if _, err = f.accept(ctx); err == nil && what == onDemand {
		_, err = f.asks.Index(ctx, wire.IndexRequest{Realm: f.realm})
	}
	if err != nil {
		b.Fatal(err)
	}
	status, err := f.indexed(ctx, last.Run.ID, n)
	if err != nil {
		b.Fatal(err)
	}
	took := time.Since(began)
	return part{status.Stored, status.Failed, took, f.usage().minus(before), f.own().minus(own)}
}

const (
	asked    = "asked of the manager, as the worker asks"
	onDemand = "indexed by the worker"
	onDeploy = "indexed by the worker after a deploy, its recycle and canary included"
)

// indexed waits until n pages have been indexed by another run than the last.
func (f *fleet) indexed(ctx context.Context, last uint64, n int) (status wire.IndexStatus, err error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Minute)
	defer cancel()
	for ctx.Err() == nil {
		status, err = f.asks.IndexStatus(ctx, f.realm)
		if err != nil {
			return status, errors.Join(err, f.ended())
		}
		if status.Run != nil && status.Run.ID > last && status.Pending == 0 && status.Stored+status.Failed >= n {
			return status, nil
		}
		// It counts the queue, job by job. Rewarm does less than 200 a second.
		pause(ctx, 10*time.Millisecond+time.Duration(status.Pending)*2*time.Millisecond)
	}
	return status, fmt.Errorf("not indexed in time: %+v", status)
}

func (f *fleet) renderPage(ctx context.Context, n int) error {
	kind, path := string(words.AffinityRealm), fmt.Sprintf("/page/%d", n)
	answer, err := f.asks.Visit(ctx, wire.VisitRequest{URL: f.realm + path, Realm: f.realm, AffinityType: &kind, AffinityValue: &f.realm, Fields: wire.Fields{wire.FieldHTML}}, client.Call{})
	if err == nil && !strings.Contains(answer.Result.HTML, "<h1>Page "+path+"</h1>") {
		err = fmt.Errorf("%s: not the page: %.300s", path, answer.Result.HTML)
	}
	return err
}
