package realm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rewarm/rewarm/internal/bus"
	"github.com/rewarm/rewarm/internal/client"
	"github.com/rewarm/rewarm/internal/ledger"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

var (
	_ Store   = (*ledger.Ledger)(nil)
	_ Manager = (*client.Manager)(nil)
)

// fleet is a manager that renders what its function says.
type fleet struct {
	mu      sync.Mutex
	heard   []wire.Report
	visits  []client.Call
	down    bool
	current client.Orders // what its answers name
	visited func(visit wire.VisitRequest, call client.Call) (client.VisitAnswer, error)
	reports chan wire.Report
	// module renders what it says; nil: nothing is expected to.
	module  func(ctx context.Context, visit wire.VisitRequest, call client.Call) (client.ModuleAnswer, error)
	modules int
}

func (f *fleet) Module(ctx context.Context, visit wire.VisitRequest, call client.Call) (client.ModuleAnswer, error) {
	f.mu.Lock()
	f.modules++
	render := f.module
	f.mu.Unlock()
	return render(ctx, visit, call)
}

func newFleet() *fleet { return &fleet{reports: make(chan wire.Report, 64)} }

func (f *fleet) Report(_ context.Context, report wire.Report) (client.Orders, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return client.Orders{}, errors.New("nobody there")
	}
	f.heard = append(f.heard, report)
	select {
	case f.reports <- report:
	default:
	}
	return f.current, nil
}

// promote has the answers to reports name another current release.
func (f *fleet) promote(sequence uint64, token words.Token) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.current = client.Orders{Sequence: sequence, Token: token}
}

func (f *fleet) Visit(_ context.Context, visit wire.VisitRequest, call client.Call) (client.VisitAnswer, error) {
	f.mu.Lock()
	f.visits = append(f.visits, call)
	render := f.visited
	f.mu.Unlock()
	if !slices.Equal(visit.Fields, wire.Fields{wire.FieldHTML}) {
		return client.VisitAnswer{}, fmt.Errorf("%s is asked for with fields %q", visit.URL, visit.Fields)
	}
	return render(visit, call)
}

func (f *fleet) setDown(down bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = down
}

func (f *fleet) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.visits)
}

// shows renders every page as its URL, in the document of the pinned shell.
func shows(visit wire.VisitRequest, call client.Call) (client.VisitAnswer, error) {
	return ready(call.Pin, "page "+visit.URL), nil
}

func ready(token words.Token, text string) client.VisitAnswer {
	return client.VisitAnswer{Token: token, Result: wire.VisitResult{Capture: words.Capture{
		Status: words.StatusReady, HTTPStatus: 200,
		HTML: `<!doctype html><html><head><title>` + text + `</title></head><body><div id="app"><p>` + text + `</p></div></body></html>`,
	}}}
}

// clock is the time of a test.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

func put(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}

func shellOf(release string) string {
	return `<!doctype html><html><head><title>` + release + `</title><script type="module" src="/assets/main-` + release + `.js"></script></head><body><div id="app"></div></body></html>`
}

// deploy replaces the host by a release: the old files are gone.
func deploy(t testing.TB, host, release string) {
	t.Helper()
	entries, err := os.ReadDir(host)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if err := os.RemoveAll(filepath.Join(host, entry.Name())); err != nil {
			t.Fatal(err)
		}
	}
	put(t, host, map[string]string{
		"assets/main-" + release + ".js":  "console.log('" + release + "')",
		"assets/lazy." + release + "1.js": "lazy " + release,
		"robots.txt":                      "robots of " + release,
		"index.html":                      shellOf(release),
	})
}

func openStore(t testing.TB) *ledger.Ledger {
	t.Helper()
	b, err := bus.Start(t.Context(), bus.Options{DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	l, err := ledger.Open(t.Context(), b.Conn(), ledger.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// options are those of a server on a host that has release aaaaaaa1.
func options(t testing.TB) Options {
	t.Helper()
	host := t.TempDir()
	deploy(t, host, "aaaaaaa1")
	return Options{
		Addr: "127.0.0.1:0", Host: host, DataDir: t.TempDir(), Name: "realm-1",
		Log: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
		PresenceInterval: 20 * time.Millisecond, RenderBudget: 5 * time.Second,
	}
}

// start runs a server until the test ends, or until stop is called.
func start(t testing.TB, o Options) (s *Server, stop func()) {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return s, stop
}

// only is the one realm of a server that has no more.
func only(s *Server) *site { return s.served.Load().all[0] }

type answer struct {
	code   int
	header http.Header
	body   string
}

func (a answer) state() string { return a.header.Get(wire.HeaderSnapshot) }

// ask sends a request whose target is exactly as given; headers are pairs.
func ask(t testing.TB, s *Server, method, target string, headers ...string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.Addr(), nil)
	if err != nil {
		t.Fatal(err)
	}
	r.URL.Opaque = "//" + s.Addr() + target
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return answerTo(t, r)
}

func answerTo(t testing.TB, r *http.Request) answer {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true, DisableCompression: true}
	response, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{response.StatusCode, response.Header, string(body)}
}

func get(t testing.TB, s *Server, target string, headers ...string) answer {
	t.Helper()
	return ask(t, s, http.MethodGet, target, headers...)
}

// until polls for a condition for at most ten seconds.
func until(t testing.TB, what string, met func() bool) {
	t.Helper()
	bound := time.NewTimer(10 * time.Second)
	defer bound.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !met() {
		select {
		case <-bound.C:
			t.Fatalf("waited in vain: %s", what)
		case <-tick.C:
		}
	}
}

func hook(t *testing.T, s *Server) Accepted {
	t.Helper()
	a, err := s.Accept(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func mustAccept(t *testing.T, s *Server) {
	t.Helper()
	if a := hook(t, s); !a.Accepted {
		t.Fatal(a.Reason)
	}
}

func contains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is missing in %q", part, text)
		}
	}
}
