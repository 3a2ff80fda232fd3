package e2e

import (
	"context"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/rewarm/rewarm/examples"
	"github.com/rewarm/rewarm/internal/app"
	"github.com/rewarm/rewarm/internal/realm"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
	"github.com/rewarm/rewarm/internal/worker"
)

// An application that is served as several sites. It learns its base once, when
// it starts, as a router with a basename does, and shows a path outside of it as
// not found; each page is a chunk of its own.
const (
	sitesShell = `<!doctype html><html><head><title>r</title><script type="module" src="/assets/app-RELEASE.js"></script></head><body><div id="app"></div></body></html>`
	sitesApp   = `
const basename = ['/shop', '/blog'].find(b => location.pathname === b || location.pathname.startsWith(b + '/')) ?? '';
const app = document.getElementById('app');
const below = path => path === basename || path.startsWith(basename + '/') ? path.slice(basename.length) || '/' : '/not-found';
const show = async path => {
  const page = await import('./page-RELEASE.js');
  app.innerHTML = page.default(location.host + basename, below(path), basename);
};
window.prerenderTransitionTo = async to => { history.pushState(null, '', to); await show(location.pathname); };
await show(location.pathname);
`
	sitesPage = `export default (site, path, base) =>
  '<h1>release RELEASE</h1><p>site ' + site + ' path ' + path + '</p><a href="' + base + '/linked">more</a>' +
  (path === '/_standby' ? '<i id="standby-ready"></i>' : '');`
)

func sitesHost(release string) fstest.MapFS {
	host := fstest.MapFS{}
	for name, content := range map[string]string{
		"index.html": sitesShell, "assets/app-" + release + ".js": sitesApp, "assets/page-" + release + ".js": sitesPage,
	} {
		host[name] = &fstest.MapFile{Data: []byte(strings.ReplaceAll(content, "RELEASE", release))}
	}
	return host
}

// realmsFleet is a fleet whose realms a test may change.
type realmsFleet struct {
	*fleet
	set func(urls ...string)
}

// startRealms runs a fleet of one realm server with several realms.
func startRealms(t *testing.T, realmAddr string, host fs.FS, release string, urls ...string) *realmsFleet {
	t.Helper()
	type change struct {
		table *realm.Table
		done  chan error
	}
	changes := make(chan change)
	f := &realmsFleet{}
	f.fleet = startFleetOn(t, host, release, func(o *app.UpOptions) {
		o.RealmAddr, o.Pages = realmAddr, 4
		o.Worker = &worker.Options{Rate: 10_000, Concurrency: 2}
		o.Realms = app.Realms{Table: tableOf(t, urls...), Follow: func(ctx context.Context, set func(*realm.Table) error) {
			for {
				select {
				case c := <-changes:
					c.done <- set(c.table)
				case <-ctx.Done():
					return
				}
			}
		}}
	})
	f.set = func(urls ...string) {
		t.Helper()
		c := change{tableOf(t, urls...), make(chan error, 1)}
		changes <- c
		if err := <-c.done; err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func tableOf(t *testing.T, urls ...string) *realm.Table {
	t.Helper()
	table := &realm.Table{}
	for _, u := range urls {
		if err := table.Add(realm.Realm{URL: u}); err != nil {
			t.Fatal(err)
		}
	}
	return table
}

// page is what a visitor gets at a URL.
func (f *realmsFleet) page(address string) (status int, state, body string) {
	f.t.Helper()
	answer, err := f.http.Get(address)
	if err != nil {
		f.t.Fatal(err)
	}
	defer answer.Body.Close()
	raw, err := io.ReadAll(answer.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return answer.StatusCode, answer.Header.Get(wire.HeaderSnapshot), string(raw)
}

// shows waits until a page of a realm is prerendered on a release, as that
// realm's application would show it, and holds what is stored to that.
func (f *realmsFleet) shows(site, path, release string, token words.Token) {
	f.t.Helper()
	want := "<h1>release " + release + "</h1><p>site " + strings.TrimPrefix(site, "http://") + " path " + path + "</p>"
	f.until(site+path+" shows "+release, func() bool {
		status, state, body := f.page(site + path)
		if state == "hit" && !strings.Contains(body, want) || status != http.StatusOK {
			f.t.Fatalf("%s%s: %d %s %q, want %q", site, path, status, state, body, want)
		}
		return state == "hit"
	})
	if snapshot, found, err := f.store.Snapshot(f.t.Context(), site, token, site+path); !found || !strings.Contains(snapshot.HTML, want) {
		f.t.Errorf("%s%s is not stored under its realm (%t, %v)", site, path, found, err)
	}
}

// TestSeveralRealmsOverOneHost: by name and below a path, before and after a
// deploy, on pages that are shared by no two of them.
func TestSeveralRealmsOverOneHost(t *testing.T) {
	at := freeAddr(t)
	_, port, err := net.SplitHostPort(at)
	if err != nil {
		t.Fatal(err)
	}
	one, two := "http://127.0.0.1:"+port, "http://localhost:"+port
	shop, blog := two+"/shop", two+"/blog"
	f := startRealms(t, at, sitesHost("r0"), "r0", one, two, shop)
	everywhere := func(release string, token words.Token, sites ...string) {
		t.Helper()
		for _, site := range sites {
			for _, path := range []string{"/", "/x", "/linked"} {
				f.shows(site, path, release, token)
			}
		}
	}
	everywhere("r0", f.token(), one, two, shop)

	if err := examples.Deploy(f.host, sitesHost("r1")); err != nil {
		t.Fatal(err)
	}
	r1 := f.accept("r1")
	f.completeOn(r1)
	everywhere("r1", r1, one, two, shop)

	// Both pages of /linked were indexed, each in its realm alone: the outer realm
	// has none of the inner one's pages.
	stored, err := f.store.Snapshots(t.Context(), two, r1)
	if err != nil {
		t.Fatal(err)
	}
	for _, snapshot := range stored {
		if strings.HasPrefix(snapshot.URL, shop) {
			t.Errorf("%s is stored in %s", snapshot.URL, two)
		}
	}

	purged, err := f.asks().Purge(t.Context(), url.Values{"realm": {one}, "all": {"true"}})
	if err != nil || purged.Pages == 0 {
		t.Fatalf("purge: %+v, %v", purged, err)
	}
	for _, site := range []string{two, shop} {
		if _, found, err := f.store.Snapshot(t.Context(), site, r1, site+"/x"); !found {
			t.Errorf("the purge of %s took %s/x (%v)", one, site, err)
		}
	}

	// While it runs: a realm goes, another comes, and both are known everywhere.
	f.set(one, two, blog)
	everywhere("r1", r1, blog)
	f.until("the manager knows the realms that are served", func() bool {
		releases, err := f.asks().Releases(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return len(releases.Reporters) == 1 && slices.Equal(releases.Reporters[0].Realms, []string{one, two, blog})
	})
	if err := examples.Deploy(f.host, sitesHost("r2")); err != nil {
		t.Fatal(err)
	}
	r2 := f.accept("r2")
	f.completeOn(r2)
	everywhere("r2", r2, one, two, blog)
	if violations := f.metric(`rewarm_prerender_invariant_violations_total{invariant="never_stale"}`); violations > 0 {
		t.Errorf("%v violations", violations)
	}

	// The realm that the fleet warmed its pages in goes, which nobody notices.
	f.set(two, blog)
	if err := examples.Deploy(f.host, sitesHost("r3")); err != nil {
		t.Fatal(err)
	}
	f.origin = two
	r3 := f.accept("r3")
	f.completeOn(r3)
	everywhere("r3", r3, two, blog)
	if status, _, body := f.page(one + "/x"); status != http.StatusMisdirectedRequest {
		t.Errorf("a realm that is gone answers %d %q", status, body)
	}
}
