package e2e

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rewarm/rewarm/internal/app"
	"github.com/rewarm/rewarm/internal/realm"
	"github.com/rewarm/rewarm/internal/words"
)

const hostileShell = `<!doctype html>
<html><head><title>hostile</title></head>
<body><main id="app"></main><script src="/app.js"></script></body></html>
`

// hostileApp has a bad habit on each route; prerenderTransitionTo leads to the
// same ones as a navigation. The circle goes by queries: of an address without
// one the realm server would have a page rendered for the visitors, who are the
// circle itself, and both pages of the pool would turn in it for a minute.
const hostileApp = `
const app = document.getElementById('app');
const show = text => { app.innerHTML = '<h1>' + text + '</h1>'; };
const habits = {
  good: () => show('good page'),
  slow: async () => { await fetch('/api/slow'); show('slow page'); },
  loop: () => { show('half'); for (;;); },
  poison: () => {
    show('poison page'); window.prerenderReady = true;
    fetch('/api/hold').then(() => { navigator.sendBeacon('/api/held'); for (;;); });
  },
  never: () => { window.prerenderReady = false; show('half'); },
  waits: () => { show('half'); fetch('/api/hold'); },
  throws: () => { show('half'); setTimeout(() => { throw new Error('thrown on purpose'); }, 0); },
  dialogs: () => { alert('a'); confirm('b'); prompt('c'); onbeforeunload = e => { e.preventDefault(); return 'stay'; }; show('dialogs page'); },
  windows: () => {
    for (let n = 0; n < 20; n++) window.open('/good', 'w' + n);
    const a = document.createElement('a'); a.href = '/good'; a.target = '_blank'; document.body.append(a);
    for (let n = 0; n < 20; n++) a.click();
    a.remove(); show('windows page');
  },
  download: () => {
    const a = document.createElement('a');
    a.href = '/archive.zip'; a.download = 'archive.zip'; document.body.append(a);
    a.click(); a.remove(); show('download page');
  },
  circle: () => location.replace('/circle?' + (location.search === '?a' ? 'b' : 'a')),
  worker: async () => { await navigator.serviceWorker.register('/sw.js'); await navigator.serviceWorker.ready; show('worker page'); },
  huge: () => { app.innerHTML = '<p>' + 'x'.repeat(1000) + '</p>'; app.innerHTML = app.innerHTML.repeat(20000); },
  refused: () => { location.href = 'http://CLOSED/'; },
};
const go = path => (habits[path.split('/')[1]] || habits.good)();
window.prerenderTransitionTo = async path => { history.pushState({}, '', path); await go(path); };
if (location.pathname === '/_standby') show('standby'); else go(location.pathname);
`

// hostileWorker answers every page with something else, if it is asked.
const hostileWorker = `
self.addEventListener('install', () => self.skipWaiting());
self.addEventListener('activate', e => e.waitUntil(self.clients.claim()));
self.addEventListener('fetch', e => { if (e.request.mode === 'navigate') e.respondWith(new Response('<h1>from the worker</h1>', {headers: {'Content-Type': 'text/html'}})); });
`

// slowAnswer is how long the routes below /slow take.
const slowAnswer = 500 * time.Millisecond

// poison ends the wait of the pages at /poison: each then holds its thread for
// ever, and says so first.
type poison struct{ let, held chan struct{} }

func (p poison) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/api/slow", func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(slowAnswer):
		case <-r.Context().Done():
		}
	})
	mux.HandleFunc("/api/hold", func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-p.let:
		case <-r.Context().Done():
		}
	})
	mux.HandleFunc("/api/held", func(http.ResponseWriter, *http.Request) { p.held <- struct{}{} })
	return mux
}

// act lets one page hold its thread, and returns when it does.
func (p poison) act(t *testing.T) {
	t.Helper()
	limit := time.After(eventually)
	select {
	case p.let <- struct{}{}:
	case <-limit:
		t.Fatalf("no page asked to hold its thread within %s", eventually)
	}
	select {
	case <-p.held:
	case <-limit:
		t.Fatalf("no page held its thread within %s", eventually)
	}
}

// startHostile runs a fleet whose application misbehaves.
func startHostile(t *testing.T, change func(*app.UpOptions)) (*fleet, poison) {
	t.Helper()
	poison := poison{let: make(chan struct{}), held: make(chan struct{}, 16)}
	slow := httptest.NewServer(poison.handler())
	t.Cleanup(slow.Close)
	target, err := url.Parse(slow.URL)
	if err != nil {
		t.Fatal(err)
	}
	closed := httptest.NewServer(nil)
	closed.Close()
	dir := t.TempDir()
	for name, content := range map[string]string{
		"index.html": hostileShell, "app.js": strings.Replace(hostileApp, "CLOSED", closed.Listener.Addr().String(), 1), "sw.js": hostileWorker, "archive.zip": "PK\x05\x06" + strings.Repeat("\x00", 18),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	f := startFleet(t, func(o *app.UpOptions) {
		o.Host = dir
		o.Proxy = []realm.ProxyRule{{Prefix: "/api", Target: target}}
		change(o)
	})
	return f, poison
}

// good asks for the page that always behaves; it must be ready.
func (f *fleet) good(after string) {
	f.t.Helper()
	for _, mode := range []words.Mode{words.ModeTransition, words.ModeNavigate} {
		answer, err := f.visit(f.t.Context(), "/good", mode)
		if got := answer.Data.Attributes; err != nil || answer.Status != http.StatusCreated || got.Status != words.StatusReady || !strings.Contains(got.HTML, "good page") {
			f.t.Errorf("%s, a good page by %s: %d %v %.400s", after, mode, answer.Status, err, answer.Body)
		}
	}
}
