package page

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rewarm/rewarm/internal/chrome"
	"github.com/rewarm/rewarm/internal/words"
)

// shared is the browser of all tests that do not kill it: a start takes a
// second, and that pages do not see each other is part of what is tested.
var shared *Browser

// dataDir is that browser's: profile, temporary files, and what it might
// download.
var dataDir string

// testLimit bounds what a test waits for.
const testLimit = 20 * time.Second

// poll waits for a condition that nothing announces.
func poll(t *testing.T, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for ctx := limited(t, testLimit); !condition(); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s: not within %s", what, testLimit)
		}
	}
}

// downloads are the files that a download of file.bin would have left.
func downloads(t *testing.T) (found []string) {
	t.Helper()
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{dataDir, filepath.Join(home, "Downloads"), "."} {
		_ = filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
			if name := filepath.Base(path); err == nil && (strings.HasPrefix(name, "file.bin") || strings.HasSuffix(name, ".crdownload")) {
				found = append(found, path)
			}
			return nil
		})
	}
	return found
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	flag.Parse()
	if flag.Lookup("test.fuzz").Value.String() != "" {
		return m.Run() // no parser needs a browser, and each worker would start one
	}
	dir, err := os.MkdirTemp("", "pages")
	if err != nil {
		panic(err)
	}
	dataDir = dir
	defer func() { _ = os.RemoveAll(dir) }()
	b, err := chrome.Start(context.Background(), chrome.Options{DataDir: dir, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		panic(err)
	}
	shared = NewBrowser(b)
	var serving sync.WaitGroup
	serving.Go(func() { _ = shared.Run(context.Background()) })
	code := m.Run()
	if err := b.Close(); err != nil {
		panic(err)
	}
	serving.Wait()
	return code
}

// host is a tiny application: a shell and its files, which a test may change.
type host struct {
	*httptest.Server
	mu    sync.Mutex
	files map[string]string
	hits  map[string]int
}

const appShell = `<!DOCTYPE html><html lang="en"><head><title>shell</title></head><body><div id="app"></div><script src="/app.js"></script></body></html>`

// appJS is an application with a transition function and a few routes.
const appJS = `
const app = document.getElementById('app');
const routes = {
  '/': () => 'home', '/_standby': () => 'standby',
  '/later': () => { setTimeout(() => fetch('/data').then(r => r.text()).then(t => app.textContent = 'later ' + t), 5); return 'wait' },
  '/throws': () => { setTimeout(() => { throw new Error('boom') }, 0); return 'half' },
  '/logs': () => { console.log('hello', 1, {a: 1}); return 'logs' },
  '/dialogs': () => { alert('a'); confirm('b'); prompt('c'); return 'dialogs' },
  '/popup': () => { open('/'); const a = document.createElement('a'); a.href = '/'; a.target = '_blank'; a.rel = 'noopener'; document.body.append(a); a.click(); return 'popup' },
  '/loop': () => { for (;;); },
  '/busy': () => { setTimeout(() => { const end = Date.now() + 300; while (Date.now() < end); app.textContent = 'busy done' }, 0); return 'busy' },
  '/blocks': () => { const end = Date.now() + 2500; while (Date.now() < end); return 'blocked' },
  '/chunk': () => { import('/chunk-old.js').then(m => app.textContent = m.text, () => app.textContent = 'swallowed'); return 'chunk' },
  '/missing-data': () => { fetch('/none').then(() => app.textContent = 'no data'); return '' },
  '/circle': () => { location.href = '/circle?' + Math.random(); return 'circle' },
  '/away': () => { location.href = window.AWAY; return 'away' },
  '/refused': () => { location.href = 'http://127.0.0.1:1/'; return 'refused' },
  '/reload': () => { if (!sessionStorage.r) { sessionStorage.r = 1; location.reload() } return 'reloaded' },
  '/big': () => { const d = document.createElement('p'); d.hidden = true; d.textContent = 'x'.repeat(20 << 20); app.replaceChildren(d); return null },
  '/signal': () => { window.prerenderReady = false; setTimeout(() => { app.textContent = 'signalled'; window.prerenderReady = true }, 200); return 'not yet' },
  '/attribute': () => { app.setAttribute('data-prerender-status', 'loading'); setTimeout(() => { app.textContent = 'attributed'; app.setAttribute('data-prerender-status', 'ready') }, 200); return 'not yet' },
  '/says-error': () => { app.innerHTML = '<p data-prerender-status="error"><b data-prerender-error>no such card</b></p>'; return null },
  '/selector': () => { setTimeout(() => app.innerHTML = '<i class="done">here</i>', 200); return 'not yet' },
  '/socket': () => { new EventSource('/stream'); return 'streaming' },
  '/meta': () => { document.title = 'Not found'; document.head.insertAdjacentHTML('beforeend', '<meta name="prerender-status-code" content="404"><meta name="prerender-header" content="X-Reason: none"><meta name="prerender-header" content="bad header: x">');
    app.innerHTML = '<a href="/a#x">a</a><a href="/a">a</a><a href="http://elsewhere.example/">b</a><a href="b?c=1">c</a>'; return null },
  '/session': () => String(localStorage.getItem('boxel-session')),
  '/flags': () => JSON.stringify([window.__rewarm, window.__boxelRenderContext, typeof window.__rewarmSend]),
};
function show(path) {
  const route = routes[path.split('?')[0]];
  const text = route ? route() : 'page ' + path;
  if (text !== null) app.textContent = text;
}
window.prerenderTransitionTo = async path => {
  if (path === '/rejects') throw new Error('cannot go there');
  if (path === '/never') return new Promise(() => {});
  history.pushState({}, '', path);
  show(path);
};
window.loads = (window.loads || 0) + 1;
show(location.pathname + location.search);
`

func newHost(t *testing.T, files map[string]string) *host {
	t.Helper()
	h := &host{files: map[string]string{"/app.js": appJS, "/data": "data"}, hits: map[string]int{}}
	maps.Copy(h.files, files)
	startHost(t, h)
	return h
}

func startHost(t testing.TB, h *host) {
	h.Server = httptest.NewServer(http.HandlerFunc(h.serve))
	t.Cleanup(h.Close)
	t.Cleanup(h.CloseClientConnections)
}

func (h *host) serve(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	text, ok := h.files[r.URL.Path]
	h.hits[r.URL.Path]++
	h.mu.Unlock()
	switch {
	case r.URL.Path == "/stream":
		w.Header().Set("Content-Type", "text/event-stream")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	case !ok:
		http.NotFound(w, r)
	case strings.HasPrefix(text, "<"):
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, text)
	case strings.HasSuffix(r.URL.Path, ".js"):
		w.Header().Set("Content-Type", "text/javascript")
		_, _ = io.WriteString(w, text)
	case strings.HasSuffix(r.URL.Path, ".css"):
		w.Header().Set("Content-Type", "text/css")
		_, _ = io.WriteString(w, text)
	default:
		_, _ = io.WriteString(w, text)
	}
}

func (h *host) set(name, text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.files[name] = text
}

func (h *host) count(name string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.hits[name]
}

func (h *host) options(shell string) OpenOptions {
	return OpenOptions{
		Shell:      words.Shell{Token: words.TokenOf([]byte(shell)), Bytes: []byte(shell), Header: map[string]string{"Content-Type": "text/html; charset=utf-8"}},
		StandbyURL: h.URL + "/_standby", Realms: []string{h.URL + "/"},
	}
}

func limited(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func open(t *testing.T, h *host, shell string) *Page {
	t.Helper()
	return openWith(t, h.options(shell))
}

func openWith(t *testing.T, o OpenOptions) *Page {
	t.Helper()
	p, err := shared.Open(limited(t, 20*time.Second), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// render renders path; budget is generous unless the test is about it.
func (h *host) render(t *testing.T, p *Page, path string, change func(*words.Visit)) words.Capture {
	t.Helper()
	v := words.Visit{URL: h.URL + path}
	v.Options.TimeoutMs = 20_000
	if change != nil {
		change(&v)
	}
	c, err := p.Render(t.Context(), v)
	if err != nil {
		t.Fatalf("rendering %s: %v", path, err)
	}
	return c
}

func navigating(v *words.Visit)   { v.Options.Mode = words.ModeNavigate }
func within2s(v *words.Visit)     { v.Options.TimeoutMs = 2000 }
func navigating2s(v *words.Visit) { navigating(v); within2s(v) }
func waitDone(v *words.Visit)     { v.Options.WaitFor = "i.done" }
func navigateWait(v *words.Visit) { navigating(v); waitDone(v) }
func brief(c words.Capture) string {
	return fmt.Sprintf("%s by %s, error %+v, token %q, body %.200q", c.Status, c.SettledBy, c.Error, c.Token, c.Body)
}
