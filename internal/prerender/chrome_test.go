package prerender

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image/png"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"

	"github.com/rewarm/rewarm/internal/chrome"
	"github.com/rewarm/rewarm/internal/page"
	"github.com/rewarm/rewarm/internal/pool"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// realChrome is a real browser as the server uses it.
type realChrome struct {
	*chrome.Browser
	pages   *page.Browser
	serving *sync.WaitGroup
}

func launchChrome(dir string) func(ctx context.Context) (Browser, error) {
	return func(ctx context.Context) (Browser, error) {
		started, err := chrome.Start(ctx, chrome.Options{DataDir: dir})
		if err != nil {
			return nil, err
		}
		c := realChrome{Browser: started, pages: page.NewBrowser(started), serving: new(sync.WaitGroup)}
		c.serving.Go(func() { _ = c.pages.Run(context.Background()) })
		return c, nil
	}
}

func (c realChrome) Open(ctx context.Context, o page.OpenOptions) (Page, error) {
	opened, err := c.pages.Open(ctx, o)
	if err != nil {
		return nil, err
	}
	return opened, nil
}

func (c realChrome) Observe(ctx context.Context, o page.ObserveOptions) (page.Observation, error) {
	return c.pages.Observe(ctx, o)
}

func (c realChrome) Ping(ctx context.Context) error {
	_, err := chrome.Call(ctx, c.Root(), browser.GetVersion, cdp.Empty{})
	return err
}

func (c realChrome) Close() error {
	err := c.Browser.Close()
	c.serving.Wait()
	return err
}

const realShell = `<!DOCTYPE html><html><head><title>shell</title></head><body style="margin:0"><div id="app"></div><script>
const app = document.getElementById('app');
const show = path => {
  app.textContent = 'at ' + path;
  window.prerenderData = {path, deps: ['/dep.js']};
  if (path === '/store') localStorage.kept = sessionStorage.kept = document.cookie = 'kept=1';
  if (path === '/show') app.textContent = 'kept: ' + [localStorage.kept, sessionStorage.kept, document.cookie];
  if (path === '/tall') app.style.height = '1500px';
};
window.prerenderTransitionTo = async path => { history.pushState({}, '', path); show(path) };
window.prerenderCommands = {
  pay: async ({amount}) => (await (await fetch('/pay?amount=' + amount)).text()),
  hang: () => fetch('/hang'),
};
show(location.pathname);
</script></body></html>`

// realHost serves the shell, attested, and counts what commands did.
type realHost struct {
	*httptest.Server
	paid    atomic.Int32
	hanging chan struct{} // has an element for each /hang that came
}

func newRealHost(t *testing.T) *realHost {
	h := &realHost{hanging: make(chan struct{}, 10)}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/pay":
			fmt.Fprintf(w, "paid %s, %d times", r.URL.Query().Get("amount"), h.paid.Add(1))
		case "/hang":
			h.hanging <- struct{}{}
			<-r.Context().Done()
		case "/_standby":
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			w.Header().Set(wire.HeaderDocumentShell, string(words.TokenOf([]byte(realShell))))
			_, _ = io.WriteString(w, realShell)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(h.Close)
	t.Cleanup(h.CloseClientConnections)
	return h
}

// newRealWorld is a server with a real Chrome and no manager.
func newRealWorld(t *testing.T) (*world, *realHost) {
	t.Helper()
	h := newRealHost(t)
	return newRealWorldAt(t, h.Server), h
}

func newRealWorldAt(t *testing.T, realm *httptest.Server) *world {
	t.Helper()
	server, err := New(Options{
		Addr: "127.0.0.1:0", Realms: []string{realm.URL}, Pool: pool.Options{Size: 1}, Launch: launchChrome(t.TempDir()), DrainGrace: 10 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	w := &world{t: t, server: server, realm: realm, stop: stop}
	w.until("a page is warm", func() bool { return server.keeper.status().Capacity == 1 })
	return w
}

func decode[A any](t *testing.T, body string) wire.Document[A] {
	t.Helper()
	var doc wire.Document[A]
	if err := json.Unmarshal([]byte(body), &doc); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return doc
}

func TestTasksOnARealPage(t *testing.T) {
	w, h := newRealWorld(t)
	at := func(path, options string) string {
		return fmt.Sprintf(`{"url":"%s%s","renderOptions":{%s}}`, h.URL, path, options)
	}
	status, header, body := w.call(t.Context(), "/prerender-screenshot", at("/tall", `"format":"png","fullPage":true,"viewport":{"width":320,"height":240}`), nil)
	shot := decode[wire.ScreenshotResult](t, body).Data.Attributes
	picture, err := png.DecodeConfig(bytes.NewReader(shot.Base64))
	if status != 201 || err != nil || picture.Width != 320 || picture.Height != 1500 || shot.Width != 320 || shot.Height != 1500 || shot.ContentType != "image/png" {
		t.Errorf("%d %v %+v, picture %+v", status, err, shot.Error, picture)
	}
	if header.Get(wire.HeaderShellHash) != string(words.TokenOf([]byte(realShell))) {
		t.Errorf("token %q", header.Get(wire.HeaderShellHash))
	}
	status, _, body = w.call(t.Context(), "/prerender-screenshot", at("/tall", `"format":"pdf"`), nil)
	shot = decode[wire.ScreenshotResult](t, body).Data.Attributes
	if d := shot.Meta.Diagnostics; status != 201 || !bytes.HasPrefix(shot.Base64, []byte("%PDF-")) || shot.ContentType != "application/pdf" || shot.Width+shot.Height != 0 ||
		d == nil || d.Mode == "" || d.SettledBy == "" {
		t.Errorf("%d %+v %s %dx%d %+v", status, shot.Error, shot.ContentType, shot.Width, shot.Height, d)
	}
	status, _, body = w.call(t.Context(), "/prerender-screenshot", at("/tall", `"selector":"#nobody"`), nil)
	shot = decode[wire.ScreenshotResult](t, body).Data.Attributes
	if status != 201 || shot.Status != words.StatusError || len(shot.Base64) != 0 || shot.Error == nil || !strings.Contains(shot.Error.Message, "#nobody") {
		t.Errorf("%d %s", status, body)
	}
	for _, wrong := range []string{`"selector":">"`, `"selector":"p","fullPage":true`, `"selector":"p","format":"pdf"`, `"format":"gif"`} {
		if status, _, body = w.call(t.Context(), "/prerender-screenshot", at("/tall", wrong), nil); status != 400 {
			t.Errorf("%s: %d %s", wrong, status, body)
		}
	}
	status, _, body = w.call(t.Context(), "/prerender-module", at("/m", ""), nil)
	module := decode[wire.ModuleResult](t, body).Data.Attributes
	if status != 201 || module.Status != words.StatusReady || string(module.Result) != `{"path":"/m","deps":["/dep.js"]}` || strings.Join(module.Deps, " ") != "/dep.js" {
		t.Errorf("%d %s", status, body)
	}
	status, _, body = w.call(t.Context(), "/run-command", fmt.Sprintf(`{"command":"pay","commandInput":{"amount":7},"affinityType":"realm","affinityValue":"%s/"}`, h.URL), nil)
	command := decode[wire.CommandResult](t, body).Data.Attributes
	if status != 201 || command.Status != words.StatusReady || string(command.Result) != `"paid 7, 1 times"` || command.CardResultString == nil || *command.CardResultString != "paid 7, 1 times" {
		t.Errorf("%d %s", status, body)
	}
	status, _, body = w.call(t.Context(), "/prerender-visit", at("/v", `"timezone":"Nowhere"`), nil)
	if status != 400 {
		t.Errorf("%d %s", status, body)
	}
	status, _, body = w.call(t.Context(), "/prerender-visit", at("/v", ""), nil)
	if visit := decode[wire.VisitResult](t, body).Data.Attributes; status != 201 || !strings.Contains(visit.Body, "at /v") {
		t.Errorf("%d %s", status, body)
	}
	if n := h.paid.Load(); n != 1 {
		t.Errorf("paid %d times", n)
	}
}

func TestF02_KilledChromeInTheMiddleOfACommandIsAnUnknownOutcome(t *testing.T) {
	w, h := newRealWorld(t)
	type told struct {
		status int
		body   string
	}
	answered := make(chan told, 1)
	go func() {
		status, _, body := w.call(t.Context(), "/run-command", `{"command":"hang","affinityType":"user","affinityValue":"u","auth":"a"}`, nil)
		answered <- told{status, body}
	}()
	select {
	case <-h.hanging:
	case <-time.After(eventually):
		t.Fatal("the command was never started")
	}
	current, err := w.server.slot.get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := current.Browser.(realChrome).Kill(); err != nil {
		t.Error(err)
	}
	if a := <-answered; a.status != http.StatusBadGateway || !strings.Contains(a.body, "command outcome unknown") {
		t.Errorf("%d %s", a.status, a.body)
	}
	w.until("a page is warm again", func() bool { return w.server.keeper.status().Capacity == 1 && len(w.server.keeper.status().Pages) == 1 })
	if n := len(h.hanging); n != 0 {
		t.Errorf("the command was started %d times more", n)
	}
}
