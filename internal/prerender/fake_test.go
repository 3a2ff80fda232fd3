package prerender

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rewarm/rewarm/internal/client"
	"github.com/rewarm/rewarm/internal/page"
	"github.com/rewarm/rewarm/internal/pool"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

const eventually = 30 * time.Second

// world is a prerender server between a realm that serves shells, a manager
// that gives orders, and a browser that does what a test says.
type world struct {
	t       *testing.T
	server  *Server
	realm   *httptest.Server
	manager *httptest.Server
	pages   []*fakePage
	starts  atomic.Int32

	mu          sync.Mutex
	shell       string // what the realm serves
	candidate   string // what it holds beside
	lie         string // the token its header names, when not the true one
	realmDown   bool
	release     words.Release // what the manager says
	permitted   words.Token
	beats       []wire.Heartbeat
	openError   error
	launchError error
	onClose     func()
	residue     []string // what every render reports
	browser     *fakeBrowser
	render      func(ctx context.Context, p *fakePage, visit words.Visit) (words.Capture, error)
	observe     func(ctx context.Context, o page.ObserveOptions) (page.Observation, error)
	stop        context.CancelFunc
	ended       chan error
}

func newWorld(t *testing.T, change func(*Options)) *world {
	t.Helper()
	w := &world{t: t, shell: "<html>r1</html>", ended: make(chan error, 1)}
	w.render = func(_ context.Context, p *fakePage, visit words.Visit) (words.Capture, error) {
		return words.Capture{Status: words.StatusReady, HTTPStatus: 200, HTML: p.shell + visit.URL, Token: p.token, SettledBy: words.SettledByQuiet}, nil
	}
	w.realm = httptest.NewServer(http.HandlerFunc(w.serveStandby))
	w.manager = httptest.NewServer(http.HandlerFunc(w.serveManager))
	w.orders(1, "<html>r1</html>")
	options := Options{
		Addr: "127.0.0.1:0", Realms: []string{w.realm.URL}, Manager: client.NewManager(w.manager.URL, ""),
		Pool: pool.Options{Size: 2}, Launch: w.launch, HeartbeatInterval: 200 * time.Millisecond,
		DrainMin: time.Millisecond, DrainGrace: 5 * time.Second,
	}
	if change != nil {
		change(&options)
	}
	server, err := New(options)
	if err != nil {
		t.Fatal(err)
	}
	w.server = server
	ctx, stop := context.WithCancel(context.Background())
	w.stop = stop
	go func() { w.ended <- server.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-w.ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		w.ended <- nil
		w.realm.Close()
		w.manager.CloseClientConnections()
		w.manager.Close()
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, p := range w.pages {
			if !p.closed.Load() {
				t.Errorf("a page of %s was never closed", p.token)
			}
		}
	})
	return w
}

func (w *world) serveStandby(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if wanted := r.URL.Query().Get("release"); wanted != "" {
		if wanted != string(words.TokenOf([]byte(w.candidate))) && w.lie == "" {
			rw.WriteHeader(http.StatusNotFound)
			return
		}
		rw.Header().Set(wire.HeaderDocumentShell, wanted)
		_, _ = io.WriteString(rw, w.candidate)
		return
	}
	if w.realmDown {
		rw.WriteHeader(http.StatusBadGateway)
		return
	}
	token := w.lie
	if token == "" {
		token = string(words.TokenOf([]byte(w.shell)))
	}
	if token != "none" {
		rw.Header().Set(wire.HeaderDocumentShell, token)
	}
	_, _ = io.WriteString(rw, w.shell)
}

func (w *world) serveManager(rw http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		body, _ := io.ReadAll(r.Body)
		beat, err := wire.ParseHeartbeat(body)
		if err != nil {
			w.t.Errorf("heartbeat: %v", err)
		}
		w.mu.Lock()
		w.beats = append(w.beats, beat)
		rw.Header().Set(wire.HeaderRelease, wire.FormatRelease(w.release))
		rw.Header().Set(wire.HeaderShellHash, string(w.permitted))
		w.mu.Unlock()
	}
	rw.WriteHeader(http.StatusNoContent)
}

// orders is what the manager says from now on: the release made of the shell,
// permitted to all.
func (w *world) orders(sequence uint64, shell string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.permitted = words.TokenOf([]byte(shell))
	w.release = words.Release{Sequence: sequence, Token: w.permitted}
}

func (w *world) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

func (w *world) launch(context.Context) (Browser, error) {
	w.starts.Add(1)
	w.mu.Lock()
	fail := w.launchError
	w.mu.Unlock()
	if fail != nil {
		return nil, fail
	}
	b := &fakeBrowser{world: w, pid: int(w.starts.Load()), done: make(chan struct{})}
	w.set(func() { w.browser = b })
	return b, nil
}

type fakeBrowser struct {
	world *world
	pid   int
	done  chan struct{}
	once  sync.Once
}

func (b *fakeBrowser) Open(ctx context.Context, o page.OpenOptions) (Page, error) {
	w := b.world
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.openError != nil {
		return nil, w.openError
	}
	p := &fakePage{world: w, browser: b, token: o.Shell.Token, shell: string(o.Shell.Bytes), gone: make(chan struct{})}
	w.pages = append(w.pages, p)
	return p, nil
}

// Observe is a visit without findings, or one that waits as a render does.
func (b *fakeBrowser) Observe(ctx context.Context, o page.ObserveOptions) (page.Observation, error) {
	b.world.mu.Lock()
	observe := b.world.observe
	b.world.mu.Unlock()
	if observe == nil {
		return page.Observation{}, errors.New("nothing is observed here")
	}
	return observe(ctx, o)
}

func (b *fakeBrowser) Ping(context.Context) error { return nil }
func (b *fakeBrowser) PID() int                   { return b.pid }
func (b *fakeBrowser) Done() <-chan struct{}      { return b.done }
func (b *fakeBrowser) Close() error               { b.die(); return nil }

// die ends the browser with all its pages.
func (b *fakeBrowser) die() {
	b.once.Do(func() {
		close(b.done)
		b.world.mu.Lock()
		pages := append([]*fakePage(nil), b.world.pages...)
		b.world.mu.Unlock()
		for _, p := range pages {
			if p.browser == b {
				_ = p.Close()
			}
		}
	})
}

type fakePage struct {
	world   *world
	browser *fakeBrowser
	token   words.Token
	shell   string
	gone    chan struct{}
	once    sync.Once
	closed  atomic.Bool
	wedged  atomic.Bool
	memory  atomic.Uint64
	frozen  atomic.Bool
}

func (p *fakePage) Token() words.Token { return p.token }
func (p *fakePage) Reusable() bool     { return true }
func (p *fakePage) Memory(context.Context) (uint64, error) {
	return p.memory.Load(), nil
}

func (p *fakePage) Freeze() { p.frozen.Store(true) }

func (p *fakePage) Thaw(ctx context.Context) error {
	p.frozen.Store(false)
	return p.Probe(ctx)
}

func (p *fakePage) Gone() <-chan struct{} { return p.gone }

func (p *fakePage) Probe(ctx context.Context) error {
	if p.wedged.Load() {
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

func (p *fakePage) Render(ctx context.Context, visit words.Visit) (words.Capture, error) {
	p.world.mu.Lock()
	render := p.world.render
	p.world.mu.Unlock()
	type result struct {
		capture words.Capture
		err     error
	}
	done := make(chan result, 1)
	go func() {
		c, err := render(ctx, p, visit)
		done <- result{c, err}
	}()
	select {
	case r := <-done:
		return r.capture, r.err
	case <-p.gone:
		return words.Capture{}, errors.New("the page died")
	case <-ctx.Done():
		return words.Capture{}, ctx.Err()
	}
}

func (p *fakePage) Close() error {
	p.once.Do(func() {
		p.closed.Store(true)
		close(p.gone)
		p.world.mu.Lock()
		wait := p.world.onClose
		p.world.mu.Unlock()
		if wait != nil {
			wait()
		}
	})
	return nil
}

// until polls a condition that nothing announces.
func (w *world) until(what string, condition func() bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), eventually)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-ctx.Done():
			w.t.Fatalf("not within %s: %s; %+v", eventually, what, w.server.keeper.status())
		case <-tick.C:
		}
	}
}

func (w *world) untilFresh(shell string) {
	w.t.Helper()
	token := words.TokenOf([]byte(shell))
	w.until("every page is of "+shell, func() bool {
		s := w.server.keeper.status()
		return s.Phase == words.PhaseFresh && s.Current == token && s.Pages[token] == 2 && len(s.Pages) == 1
	})
}

// answer is what a caller gets.
type answer struct {
	status int
	header http.Header
	body   string
	doc    wire.Document[wire.VisitResult]
}

func (w *world) post(ctx context.Context, body string, header map[string]string) (answer, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+w.server.Addr().String()+"/prerender-visit", strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	for k, v := range header {
		request.Header.Set(k, v)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	a := answer{status: response.StatusCode, header: response.Header, body: string(raw)}
	_ = json.Unmarshal(raw, &a.doc)
	return a, err
}

func (w *world) visit(header map[string]string) answer {
	w.t.Helper()
	a, err := w.post(w.t.Context(), fmt.Sprintf(`{"data":{"attributes":{"url":"%s/x"}}}`, w.realm.URL), header)
	if err != nil {
		w.t.Fatal(err)
	}
	return a
}
