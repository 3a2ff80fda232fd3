package page

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	_ "embed"

	"golang.org/x/net/websocket"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rewarm/rewarm/internal/chrome"
	"github.com/rewarm/rewarm/internal/egress"
	"github.com/rewarm/rewarm/internal/words"
)

// attackJS is an application whose routes try to reach a canary in every way
// that a page has.
//
//go:embed testdata/attack.js
var attackJS string

// canary is a server at a private address that no page may touch.
type canary struct {
	port    string
	udp     net.PacketConn
	mu      sync.Mutex
	touched map[string]bool // path of each request, "tcp" and "udp" for the rest
}

func newCanary(t *testing.T) *canary {
	t.Helper()
	c := &canary{touched: map[string]bool{}}
	site := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.touch(strings.TrimPrefix(r.URL.Path, "/"))
		w.Header().Set("Access-Control-Allow-Origin", "*")
		_, _ = io.WriteString(w, "canary")
	}))
	// All addresses of this machine, of both families.
	listener, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	_, c.port, _ = net.SplitHostPort(listener.Addr().String())
	site.Listener = listener
	site.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			c.touch("tcp")
		}
	}
	site.Start()
	t.Cleanup(site.Close)
	t.Cleanup(site.CloseClientConnections)
	if c.udp, err = net.ListenPacket("udp", ":"+c.port); err != nil {
		t.Fatal(err)
	}
	var reading sync.WaitGroup
	reading.Go(func() {
		for {
			if _, _, err := c.udp.ReadFrom(make([]byte, 1500)); err != nil {
				return
			}
			c.touch("udp")
		}
	})
	t.Cleanup(reading.Wait)
	t.Cleanup(func() { _ = c.udp.Close() })
	return c
}

func (c *canary) touch(how string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.touched[how] = true
}

func (c *canary) touches() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.touched))
}

// realm serves the attacking application, sends on to the canary, and has an
// event stream and a WebSocket of its own.
func newRealm(t *testing.T, c *canary) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/app.js", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/javascript")
		fmt.Fprintf(w, "const PORT = %q;\n%s", c.port, attackJS)
	})
	mux.HandleFunc("/worker.js", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/javascript")
		fmt.Fprintf(w, "const u = 'http://127.0.0.1:%s/%s';"+
			"self.oninstall = e => e.waitUntil(fetch(u + '-install', {mode: 'no-cors'}).catch(() => 0));"+
			"fetch(u, {mode: 'no-cors'}).catch(() => 0).then(() => self.postMessage && postMessage('done'));"+
			"if (self.DedicatedWorkerGlobalScope) try { importScripts(u + '-import') } catch {}", c.port, r.URL.RawQuery)
	})
	mux.HandleFunc("/redirect/", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://127.0.0.1:"+c.port+r.URL.Path, http.StatusFound)
	})
	mux.HandleFunc("/refresh", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, "<meta http-equiv=refresh content='0;url=http://127.0.0.1:%s/refresh'>", c.port)
	})
	mux.HandleFunc("/stream", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, "data: streamed\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	mux.HandleFunc("/data", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "data") })
	mux.Handle("/socket", websocket.Handler(func(conn *websocket.Conn) { _, _ = io.Copy(conn, conn) }))
	site := httptest.NewServer(mux)
	t.Cleanup(site.Close)
	t.Cleanup(site.CloseClientConnections)
	return site
}

// proxied is a browser behind an egress proxy that permits the origins.
func proxied(t *testing.T, o egress.Options) *Browser {
	t.Helper()
	proxy, err := egress.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := proxy.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(serving.Wait)
	t.Cleanup(stop)
	return startBrowser(t, chrome.Options{Proxy: proxy.URL()})
}

func startBrowser(t *testing.T, o chrome.Options) *Browser {
	t.Helper()
	o.DataDir = t.TempDir()
	started, err := chrome.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	b := NewBrowser(started)
	var serving sync.WaitGroup
	serving.Go(func() { _ = b.Run(context.Background()) })
	t.Cleanup(func() {
		if err := started.Close(); err != nil {
			t.Error(err)
		}
		serving.Wait()
	})
	return b
}

// attack opens a page of the realm and renders a route in it.
func attack(t *testing.T, b *Browser, realm, path string) words.Capture {
	t.Helper()
	return attackOn(t, b, appShell, realm, path)
}

func attackOn(t *testing.T, b *Browser, shell, realm, path string) words.Capture {
	t.Helper()
	p, err := b.Open(limited(t, testLimit), OpenOptions{
		Shell:      words.Shell{Bytes: []byte(shell), Header: map[string]string{"Content-Type": "text/html"}},
		StandbyURL: realm + "/_standby", Realms: []string{realm},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}()
	c, err := p.Render(t.Context(), words.Visit{URL: realm + path, Options: words.RenderOptions{TimeoutMs: 20_000, Mode: words.ModeNavigate}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// reachable are the ways that lead a page to a canary when nothing is in the
// way: one that leads nowhere even then would prove nothing.
var reachable = []string{
	"beacon", "css", "eventsource", "fetch", "form", "frame", "image", "import", "module", "object", "ping", "prefetch", "preload",
	"redirect/fetch", "redirect/frame", "redirect/image", "refresh", "script", "service", "service-install", "speculation", "srcdoc",
	"style", "svg", "tcp", "udp", "video", "websocket", "worker", "worker-import", "xhr",
}

func TestF13_EveryWayLeadsToTheCanaryWithoutTheProxy(t *testing.T) {
	c := newCanary(t)
	realm := newRealm(t, c)
	// Chrome itself asks a person before a page reaches this machine, of some
	// pages and in some ways; that is none of what is tested.
	open := startBrowser(t, chrome.Options{ExtraFlags: []string{"--disable-features=LocalNetworkAccessChecks,Prerender2"}})
	attack(t, open, realm.URL, "/ways")
	poll(t, "every way leads to the canary", func() bool {
		touched := c.touches()
		return !slices.ContainsFunc(reachable, func(way string) bool { return !slices.Contains(touched, way) })
	})
}

func TestF13_NoWayLeadsToAPrivateAddress(t *testing.T) {
	c := newCanary(t)
	realm := newRealm(t, c)
	registry := prometheus.NewRegistry()
	b := proxied(t, egress.Options{Realms: []string{realm.URL}, Registerer: registry})
	for _, path := range []string{"/ways", "/spellings"} {
		before := refusals(t, registry)
		got := attack(t, b, realm.URL, path)
		if got.Status != words.StatusReady || !strings.Contains(got.Body, "tried") || refusals(t, registry) < before+20 {
			t.Errorf("%s: %s; %d refusals before, %d after", path, brief(got), before, refusals(t, registry))
		}
	}
	// A document in the main frame is the page; the proxy's answer is none.
	for _, path := range []string{"/navigate", "/meta"} {
		got := attack(t, b, realm.URL, path)
		if got.Error == nil || got.Error.Kind != words.PageErrorNavigation || !strings.Contains(got.Error.Message, "refused") || got.HTML != "" {
			t.Errorf("%s: %s", path, brief(got))
		}
	}
	if touched := c.touches(); len(touched) > 0 {
		t.Errorf("the canary was touched: %v", touched)
	}
}

func TestF13_RealmAndPermittedOriginsWorkThroughTheProxy(t *testing.T) {
	c := newCanary(t)
	realm := newRealm(t, c)
	b := proxied(t, egress.Options{Realms: []string{realm.URL}, AllowOrigins: []string{"http://127.0.0.1:" + c.port}})
	if got := attack(t, b, realm.URL, "/realm"); got.Status != words.StatusReady || !strings.Contains(got.Body, "data streamed echoed") {
		t.Error(brief(got))
	}
	if got := attack(t, b, realm.URL, "/permitted"); got.Status != words.StatusReady || !strings.Contains(got.Body, "canary") {
		t.Error(brief(got))
	}
}

func TestRefusedVisitCounterIsNoFailure(t *testing.T) {
	realm := newRealm(t, newCanary(t))
	b := proxied(t, egress.Options{Realms: []string{realm.URL}})
	// The usual ways to put a counter into a shell: it warms without.
	shell := strings.Replace(appShell, "<head>", `<head><script async src="https://plausible.io/js/script.js"></script><script src="http://www.google-analytics.com/analytics.js"></script>`, 1)
	got := attackOn(t, b, shell, realm.URL, "/counted")
	if got.Status != words.StatusReady || !strings.Contains(got.Body, "not counted") || len(got.FailedRequests) > 0 {
		t.Errorf("%s, failed %v", brief(got), got.FailedRequests)
	}
}

// refusals is how many requests the proxy has refused.
func refusals(t *testing.T, registry *prometheus.Registry) (n int) {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			n += int(m.GetCounter().GetValue())
		}
	}
	return n
}
