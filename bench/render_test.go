package bench

import (
	"context"
	"fmt"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rewarm/rewarm/internal/chrome"
	"github.com/rewarm/rewarm/internal/words"
)

// rounds is how often each candidate has its turn: A B C, A B C, ...
const rounds = 5

// turn is how long one turn of a render lasts.
const turn = 1500 * time.Millisecond

// candidate is something that renders the example's pages, or the limit.
type candidate struct {
	name   string
	paths  []string // asked for in turn
	render func(ctx context.Context, path string) error
	usage  func() usage
}

// The candidates that bars are about.
const (
	transition   = "rewarm, transition"
	navigate     = "rewarm, navigate"
	onReact      = ", React example"
	peer         = "prerender " + prerenderVersion
	tunedPeer    = peer + ", polls of 20 ms"
	script       = "puppeteer-core " + puppeteerVersion + " script"
	chromeItself = "Chrome itself, the same page"
	chromeTuned  = chromeItself + ", Rewarm's flags"
	chromeLimit  = "Chrome's own limit, an empty page"
)

// turns is what a candidate did in its rounds.
type turns struct {
	candidate
	p50s, rates, cpus []float64 // of each round: ms, renders a second, ms of CPU a render
	all               []time.Duration
	failed            []error
}

// candidates starts all that can be started; the others are noted by name.
func candidates(b *testing.B, f, onReactToo *fleet, r *report) (all []*turns) {
	add := func(c candidate) { all = append(all, &turns{candidate: c}) }
	ours := func(name string, f *fleet, mode words.Mode) {
		add(candidate{name, f.paths, func(ctx context.Context, path string) error {
			return f.visit(ctx, f.prerender, path, mode)
		}, f.usage})
	}
	ours(transition, f, words.ModeTransition)
	ours(navigate, f, words.ModeNavigate)
	ours(transition+onReact, onReactToo, words.ModeTransition)
	ours(navigate+onReact, onReactToo, words.ModeNavigate)
	origin, err := startOrigin(b)
	if err != nil {
		b.Fatal(err)
	}
	browser, err := chrome.Find("")
	if err != nil {
		b.Fatal(err)
	}
	for _, p := range []struct {
		name string
		npmPeer
		env []string
	}{
		{peer, prerenderPeer, nil},
		{tunedPeer, prerenderPeer, []string{"PAGE_DONE_CHECK_INTERVAL=20", "WAIT_AFTER_LAST_REQUEST=100"}}, // 500 ms as it comes
		{script, scriptPeer, nil},
	} {
		base, groups, err := p.start(b, browser, p.env...)
		if err != nil {
			r.skip(p.name, err)
			continue
		}
		client := newHTTPClient(b)
		add(candidate{p.name, f.paths, func(ctx context.Context, path string) error {
			html, err := fetch(ctx, client, base+"/render?url="+url.QueryEscape(origin+path))
			if err != nil {
				return err
			}
			return f.check(path, html)
		}, func() usage { return usageOf(groups...) }})
	}
	barely := func(name, how string, check func(path, html string) error, flags ...string) {
		bare, err := startBareChrome(b, 4, flags...)
		if err != nil {
			b.Fatal(err)
		}
		if v := strings.Replace(bare.Version(), "/", " ", 1); !slices.Contains(r.versions, v) {
			r.versions = append(r.versions, v)
		}
		add(candidate{name, f.paths, func(ctx context.Context, path string) error {
			if how == serialise {
				path = "/empty"
			}
			html, err := bare.render(ctx, origin+path, how)
			if err != nil {
				return err
			}
			return check(path, html)
		}, func() usage { return usageOf(bare.PID()) }})
	}
	barely(chromeItself, serialiseReady, f.check, asItComes)
	barely(chromeTuned, serialiseReady, f.check)
	barely(chromeLimit, serialise, func(_, html string) error {
		if !strings.Contains(html, "empty") {
			return fmt.Errorf("not the empty page: %.200s", html)
		}
		return nil
	})
	return all
}

// take runs one turn of a candidate.
func (t *turns) take(ctx context.Context, callers int, lasts time.Duration) {
	before, ways := t.usage(), t.paths
	m := load{callers: callers, lasts: lasts, atLeast: 2, do: func(ctx context.Context, caller, n int) error {
		return t.render(ctx, ways[(caller+n)%len(ways)])
	}}.run(ctx)
	used := t.usage().minus(before)
	t.failed = append(t.failed, m.failed...)
	if len(m.all) == 0 {
		return
	}
	t.all = append(t.all, m.took()...)
	t.p50s = append(t.p50s, ms(median(m.took())))
	t.rates = append(t.rates, m.rate())
	t.cpus = append(t.cpus, ms(used.cpu)/float64(len(m.all)))
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// measureRenders is the table of warm renders, and the bars about them.
func measureRenders(b *testing.B, f, onReactToo *fleet, r *report) {
	cores := float64(runtime.NumCPU())
	all := candidates(b, f, onReactToo, r)
	for _, callers := range []int{1, 4} {
		for _, t := range all { // warmed up: caches, code, pages for the affinity
			t.take(b.Context(), callers, turn/2)
			*t = turns{candidate: t.candidate, failed: t.failed}
		}
		for range rounds {
			for _, t := range all {
				t.take(b.Context(), callers, turn)
			}
		}
		table := r.table(fmt.Sprintf("Warm renders, %d caller(s)", callers),
			"", "p50 ms", "p99 ms", "renders/s per core", "CPU ms a render", "renders", "failed")
		p50, rate := map[string]float64{}, map[string]float64{}
		for _, t := range all {
			p50[t.name], rate[t.name] = median(t.p50s), median(t.rates)
			perCore := make([]float64, len(t.rates))
			for i, rate := range t.rates {
				perCore[i] = rate / cores
			}
			table.row(t.name, spread(t.p50s), fmt.Sprintf("%.0f", ms(quantile(t.all, 0.99))), fineSpread(perCore), spread(t.cpus),
				fmt.Sprint(len(t.all)), fmt.Sprint(len(t.failed)))
			for _, err := range t.failed[:min(1, len(t.failed))] {
				r.note("%s failed %d times, first: %v", t.name, len(t.failed), err)
			}
		}
		if callers == 1 {
			r.bar("warm navigate against prerender, p50", ratio(p50[peer], p50[navigate]), 10, atLeast)
			r.bar("warm navigate against prerender, renders/s per core", ratio(rate[navigate], rate[peer]), 5, atLeast)
			r.bar("warm navigate against the script, p50", ratio(p50[script], p50[navigate]), 1, atLeast)
			r.bar("warm navigate, p50, in times of what Chrome itself takes", ratio(p50[navigate], p50[chromeItself]), 1.15, atMost)
			r.bar("transition against navigate, p50", ratio(p50[navigate], p50[transition]), 3, atLeast)
			r.bar("transition against navigate, p50, React example", ratio(p50[navigate+onReact], p50[transition+onReact]), 5, atLeast)
		}
		r.note("%d caller(s): navigate is %.1f times as fast as prerender with polls of 20 ms, p50; transition %.1f times as fast as Chrome's own limit.",
			callers, ratio(p50[tunedPeer], p50[navigate]), ratio(p50[chromeLimit], p50[transition]))
		r.note("%d caller(s): navigate takes %.2f times what a Chrome with Rewarm's flags takes by itself for the same page, p50.", callers, ratio(p50[navigate], p50[chromeTuned]))
		for _, t := range all {
			*t = turns{candidate: t.candidate}
		}
	}
}

func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}
