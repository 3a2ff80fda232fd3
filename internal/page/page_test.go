package page

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/target"
	"github.com/google/go-cmp/cmp"

	"github.com/rewarm/rewarm/internal/chrome"
	"github.com/rewarm/rewarm/internal/words"
)

func TestRoutes(t *testing.T) {
	h := newHost(t, nil)
	p := open(t, h, appShell)
	for _, c := range []struct {
		path string
		how  func(*words.Visit)
		by   words.SettledBy
		body string
	}{
		{"/one", nil, words.SettledByQuiet, "page /one"},
		{"/two?q=1", nil, words.SettledByQuiet, "page /two?q=1"},
		{"/one", navigating, words.SettledByQuiet, "page /one"},
		{"/one#fragment", navigating, words.SettledByQuiet, "page /one"},
		{"/later", nil, words.SettledByQuiet, "later data"},
		{"/later", navigating, words.SettledByQuiet, "later data"},
		{"/busy", nil, words.SettledByQuiet, "busy done"},
		{"/missing-data", nil, words.SettledByQuiet, "no data"},
		{"/signal", nil, words.SettledBySignal, "signalled"},
		{"/signal", navigating, words.SettledBySignal, "signalled"},
		{"/signal", nil, words.SettledBySignal, "signalled"},
		{"/one", nil, words.SettledByQuiet, "page /one"}, // the signal left behind says nothing
		{"/attribute", nil, words.SettledByAttribute, "attributed"},
		{"/attribute", nil, words.SettledByAttribute, "attributed"},
		{"/one", nil, words.SettledByQuiet, "page /one"},
		{"/attribute", navigating, words.SettledByAttribute, "attributed"},
		{"/selector", waitDone, words.SettledBySelector, "here"},
		{"/selector", navigateWait, words.SettledBySelector, "here"},
		{"/socket", navigating, words.SettledByQuiet, "streaming"},
		{"/dialogs", nil, words.SettledByQuiet, "dialogs"},
		{"/dialogs", navigating, words.SettledByQuiet, "dialogs"},
		{"/rejects", nil, words.SettledByQuiet, "page /rejects"},
		{"/reload", nil, words.SettledByQuiet, "reloaded"},
		{"/flags", nil, words.SettledByQuiet, `[{"prerender":true},true,"undefined"]`},
	} {
		got := h.render(t, p, c.path, c.how)
		if got.Status != words.StatusReady || got.SettledBy != c.by || !strings.Contains(got.Body, c.body) || got.Token != p.Token() {
			t.Errorf("%s: %s; want %q by %s", c.path, brief(got), c.body, c.by)
		}
		if !p.Reusable() {
			t.Fatalf("%s: the page is not reusable", c.path)
		}
	}
	if n := h.count("/_standby") + h.count("/one"); n != 0 {
		t.Errorf("%d documents were asked of the host; all come from the shell's bytes", n)
	}
}

func TestCaptureSaysWhatThePageSays(t *testing.T) {
	h := newHost(t, nil)
	p := open(t, h, appShell)
	c := h.render(t, p, "/meta", nil)
	want := words.Capture{
		Status: words.StatusReady, HTTPStatus: 404, FinalURL: h.URL + "/meta", Title: "Not found", SettledBy: words.SettledByQuiet,
		HTML: c.HTML, Head: c.Head, Body: c.Body, Token: p.Token(),
		Headers: map[string]string{"X-Reason": "none"}, Links: []string{h.URL + "/a", h.URL + "/b?c=1"},
		Console: []words.ConsoleLine{}, FailedRequests: []words.FailedRequest{},
	}
	if d := cmp.Diff(want, c); d != "" {
		t.Error(d)
	}
	if !strings.HasPrefix(c.HTML, "<!DOCTYPE html>\n<html lang=\"en\"><head><title>Not found") || !strings.HasSuffix(c.HTML, c.Body+"</body></html>") || !strings.Contains(c.HTML, c.Head+"</head><body>") {
		t.Errorf("document %q", c.HTML)
	}
	c = h.render(t, p, "/logs", nil)
	if d := cmp.Diff([]words.ConsoleLine{{Level: "log", Text: "hello 1 Object"}}, c.Console); d != "" {
		t.Error(d)
	}
	c = h.render(t, p, "/missing-data", nil)
	if d := cmp.Diff([]words.FailedRequest{{URL: h.URL + "/none", Type: "Fetch", Status: 404}}, c.FailedRequests); d != "" {
		t.Error(d)
	}
	c = h.render(t, p, "/one", nil)
	if len(c.Console)+len(c.FailedRequests) != 0 {
		t.Errorf("left from the route before: %v %v", c.Console, c.FailedRequests)
	}
}

func TestBadRoutesGiveTheirOutcome(t *testing.T) {
	elsewhere := newHost(t, map[string]string{"/": "<!DOCTYPE html><p>elsewhere"})
	for _, c := range []struct {
		path     string
		how      func(*words.Visit)
		status   words.Status
		kind     words.PageErrorKind
		message  string
		reusable bool
	}{
		{"/throws", nil, words.StatusError, words.PageErrorPage, "Error: boom", false},
		{"/throws", navigating, words.StatusError, words.PageErrorPage, "Error: boom", false},
		{"/says-error", nil, words.StatusError, words.PageErrorPage, "no such card", true},
		{"/chunk", nil, words.StatusError, words.PageErrorSkew, "/chunk-old.js", false},
		{"/chunk", navigating, words.StatusError, words.PageErrorSkew, "/chunk-old.js", false},
		{"/refused", nil, words.StatusError, words.PageErrorNavigation, "ERR_", false},
		{"/never", within2s, words.StatusPartial, words.PageErrorTimeout, "not settled", false},
		{"/loop", within2s, words.StatusUnusable, words.PageErrorTimeout, "", false},
		{"/loop", navigating2s, words.StatusUnusable, words.PageErrorTimeout, "", false},
		{"/circle", navigating2s, "", words.PageErrorTimeout, "", false},
		{"/big", nil, words.StatusUnusable, words.PageErrorPage, "16 MiB", false},
	} {
		t.Run(strings.TrimPrefix(c.path, "/"), func(t *testing.T) {
			t.Parallel()
			h := newHost(t, nil)
			p := open(t, h, appShell)
			got := h.render(t, p, c.path, c.how)
			if c.status != "" && got.Status != c.status || got.Error == nil || got.Error.Kind != c.kind || !strings.Contains(got.Error.Message, c.message) {
				t.Fatalf("%s", brief(got))
			}
			if p.Reusable() != c.reusable {
				t.Errorf("reusable: %t", p.Reusable())
			}
			if c.kind == words.PageErrorNavigation && got.HTML != "" {
				t.Errorf("the browser's own error page was captured: %q", got.HTML)
			}
		})
	}
	t.Run("away", func(t *testing.T) {
		h := newHost(t, map[string]string{"/app.js": "window.AWAY='" + elsewhere.URL + "/';" + appJS})
		p := open(t, h, appShell)
		got := h.render(t, p, "/away", nil)
		if got.Token != "" || !strings.Contains(got.Body, "elsewhere") {
			t.Errorf("a document that is not ours: %s", brief(got))
		}
		if got = h.render(t, p, "/one", nil); got.Token != p.Token() || !strings.Contains(got.Body, "page /one") {
			t.Errorf("afterwards: %s", brief(got))
		}
	})
}

func TestW01_TokenIsOfTheBytesGivenWhateverTheServerHasNow(t *testing.T) {
	h := newHost(t, nil)
	p := open(t, h, appShell)
	newer := strings.Replace(appShell, "shell", "newer shell", 1)
	for _, path := range []string{"/", "/one", "/_standby"} {
		h.set(path, newer)
	}
	for _, how := range []func(*words.Visit){nil, navigating, nil} {
		c := h.render(t, p, "/one", how)
		if c.Token != words.TokenOf([]byte(appShell)) || c.Title != "shell" || !strings.Contains(c.Body, "page /one") {
			t.Errorf("%s, title %q", brief(c), c.Title)
		}
	}
	fresh := open(t, h, newer)
	if c := h.render(t, fresh, "/one", nil); c.Token != words.TokenOf([]byte(newer)) || c.Title != "newer shell" {
		t.Errorf("%s, title %q", brief(c), c.Title)
	}
}

// An application that loads its document again in the middle of a transition
// gets whatever the server has by now; such a document is not believed.
func TestW01_DocumentThatTheApplicationLoadsIsReplacedByItsOwn(t *testing.T) {
	h := newHost(t, nil)
	p := open(t, h, appShell)
	h.set("/reload", strings.Replace(appShell, "shell", "newer shell", 1))
	c := h.render(t, p, "/reload", nil)
	if c.Status != words.StatusReady || c.Token != p.Token() || c.Title != "shell" || !strings.Contains(c.Body, "reloaded") {
		t.Errorf("%s, title %q", brief(c), c.Title)
	}
	if h.count("/reload") == 0 {
		t.Error("the application did not reload: the test proves nothing")
	}
}

func TestServiceWorkerOfAnOldReleaseIsBypassed(t *testing.T) {
	const worker = `self.oninstall = e => self.skipWaiting(); self.onactivate = e => e.waitUntil(clients.claim());
self.onfetch = e => { if (e.request.mode === 'navigate') e.respondWith(new Response('<!DOCTYPE html><p>stale', {headers: {'Content-Type': 'text/html'}})) };`
	h := newHost(t, map[string]string{"/sw.js": worker, "/app.js": `navigator.serviceWorker.register('/sw.js');
if (location.pathname === '/_standby') navigator.serviceWorker.ready.then(() => { const d = document.createElement('i'); d.id = 'standby-ready'; document.body.append(d) });
window.prerenderReady = location.pathname !== '/_standby';` + appJS})
	p := open(t, h, appShell)
	if h.count("/sw.js") == 0 {
		t.Fatal("no service worker was registered: the test proves nothing")
	}
	for range 2 {
		if c := h.render(t, p, "/one", navigating); c.Token != p.Token() || !strings.Contains(c.Body, "page /one") {
			t.Errorf("%s", brief(c))
		}
	}
}

func TestW18_PageWhoseShellDidNotLoadIsNotWarm(t *testing.T) {
	h := newHost(t, map[string]string{"/html.js": "<!DOCTYPE html>the shell as 200"})
	for shell, want := range map[string]string{
		`<script src="/gone.js"></script>`:                    "script " + h.URL + "/gone.js: 404",
		`<script type=module src="/gone.js"></script>`:        "script " + h.URL + "/gone.js: 404",
		`<link rel=stylesheet href="gone.css">`:               "stylesheet " + h.URL + "/gone.css: ",
		`<script type=module src="/html.js"></script>`:        "script " + h.URL + "/html.js: answered with HTML",
		`<script src="http://127.0.0.1:1/entry.js"></script>`: "script http://127.0.0.1:1/entry.js: net::ERR_",
	} {
		_, err := shared.Open(limited(t, 20*time.Second), h.options("<!DOCTYPE html><body>x"+shell))
		if !errors.Is(err, ErrNotWarm) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q", shell, err, want)
		}
	}
	never := h.options("<!DOCTYPE html><body>x<script>window.prerenderReady=false</script>")
	if _, err := shared.Open(limited(t, time.Second), never); !errors.Is(err, ErrNotWarm) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a host that is never ready: %v", err)
	}
	wantPages(t, 0)
}

// A counter whose server is gone keeps nobody from warming: it is loaded beside
// the application, and the application does without it.
func TestAStrangersScriptMayBeGone(t *testing.T) {
	h, elsewhere := newHost(t, nil), newHost(t, nil)
	for _, counter := range []string{elsewhere.URL + "/gone.js", "http://127.0.0.1:1/gone.js"} {
		p := open(t, h, strings.Replace(appShell, "</body>", `<script async src="`+counter+`"></script></body>`, 1))
		if c := h.render(t, p, "/one", navigating); c.Status != words.StatusReady || len(c.FailedRequests) == 0 {
			t.Errorf("%s: %s, failed requests %v", counter, brief(c), c.FailedRequests)
		}
	}
}

// wantPages counts the browser's contexts that hold a page.
func wantPages(t *testing.T, want int) {
	t.Helper()
	r, err := chrome.Call(t.Context(), shared.chrome.Root(), target.GetBrowserContexts, cdp.Empty{})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.BrowserContextIDs) != want {
		t.Errorf("%d browser contexts, want %d", len(r.BrowserContextIDs), want)
	}
}

func TestStaticShell(t *testing.T) {
	h := newHost(t, nil)
	p := open(t, h, `<!DOCTYPE html><title>t</title><p>static`)
	c := h.render(t, p, "/any", nil)
	if c.Status != words.StatusReady || !strings.Contains(c.Body, "static") || p.Report().Mode != words.ModeNavigate {
		t.Errorf("%s %+v", brief(c), p.Report())
	}
}

func TestStandbyReadyIsWaitedForOnlyWhenItComes(t *testing.T) {
	h := newHost(t, map[string]string{"/app.js": `window.prerenderReady=false; setTimeout(()=>{document.body.insertAdjacentHTML('beforeend','<i id=standby-ready></i>')},50)`})
	open(t, h, appShell)
}

func TestF03_WedgedPageIsFoundAndOthersGoOn(t *testing.T) {
	h := newHost(t, nil)
	wedged, other := open(t, h, appShell), open(t, h, appShell)
	if c := h.render(t, wedged, "/loop", func(v *words.Visit) { v.Options.TimeoutMs = 500 }); c.Status != words.StatusUnusable {
		t.Errorf("%s", brief(c))
	}
	if err := wedged.Probe(limited(t, 200*time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("probe of a wedged page: %v", err)
	}
	// Whoever gets it next is told of the page, and nothing of their own URL.
	for _, limit := range []int{400, 5000} {
		visit := words.Visit{URL: h.URL + "/", Options: words.RenderOptions{TimeoutMs: limit}}
		if r, err := wedged.Do(t.Context(), Task{Visit: visit, Sign: 2 * time.Second}); !errors.Is(err, errNoSign) {
			t.Errorf("a render within %d ms on a wedged page: %+v, %v", limit, r.Error, err)
		}
	}
	if err := other.Probe(limited(t, 5*time.Second)); err != nil {
		t.Errorf("probe of the other page: %v", err)
	}
	if c := h.render(t, other, "/one", nil); c.Status != words.StatusReady {
		t.Errorf("the other page: %s", brief(c))
	}
	if err := wedged.Close(); err != nil {
		t.Error(err)
	}
	if err := wedged.Close(); err != nil {
		t.Error(err)
	}
}

// An application that blocks its thread when it goes to a route has given its
// sign by starting.
func TestF03_ASlowStartIsASignOfLife(t *testing.T) {
	h := newHost(t, nil)
	p := open(t, h, appShell)
	r, err := p.Do(t.Context(), Task{Visit: words.Visit{URL: h.URL + "/blocks"}, Sign: 2 * time.Second})
	if err != nil || r.Status != words.StatusReady || p.Report().Mode != words.ModeTransition || !strings.Contains(r.Body, "blocked") {
		t.Errorf("%s, %v, by %s", brief(r.Capture), err, p.Report().Mode)
	}
}

func TestF06_CancelledRenderReturnsAndSpoilsThePage(t *testing.T) {
	h := newHost(t, nil)
	p := open(t, h, appShell)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := p.Render(ctx, words.Visit{URL: h.URL + "/never"})
		done <- err
	}()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if p.Reusable() {
		t.Error("the page is reusable")
	}
}

func TestCredentials(t *testing.T) {
	h := newHost(t, nil)
	p := open(t, h, appShell)
	as := func(auth string) func(*words.Visit) { return func(v *words.Visit) { v.Auth = auth } }
	if c := h.render(t, p, "/session", nil); !strings.Contains(c.Body, "null") {
		t.Errorf("%s", brief(c))
	}
	for range 2 {
		if c := h.render(t, p, "/session", as("alice")); !strings.Contains(c.Body, "alice") {
			t.Errorf("%s", brief(c))
		}
	}
	for _, auth := range []string{"", "bob"} {
		if _, err := p.Render(t.Context(), words.Visit{URL: h.URL + "/session", Auth: auth}); !errors.Is(err, ErrCredentials) {
			t.Errorf("auth %q on alice's page: %v", auth, err)
		}
	}
	o := h.options(appShell)
	o.Auth = "carol"
	q := openWith(t, o)
	if c := h.render(t, q, "/session", as("carol")); !strings.Contains(c.Body, "carol") || q.Report().Mode != words.ModeTransition {
		t.Errorf("%s %+v", brief(c), q.Report())
	}
}

func TestPopupsAreClosed(t *testing.T) {
	h := newHost(t, nil)
	p := open(t, h, appShell)
	if c := h.render(t, p, "/popup", nil); c.Status != words.StatusReady {
		t.Errorf("%s", brief(c))
	}
	for ctx := limited(t, 10*time.Second); ; {
		r, err := chrome.Call(ctx, shared.chrome.Root(), target.GetTargets, target.GetTargetsParams{})
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, info := range r.TargetInfos {
			if info.BrowserContextID == p.context && info.Type == "page" {
				n++
			}
		}
		if n == 1 {
			return
		}
	}
}

func TestCrashedRendererIsGone(t *testing.T) {
	h := newHost(t, nil)
	p, other := open(t, h, appShell), open(t, newHost(t, nil), appShell)
	done := make(chan error, 1)
	go func() {
		_, err := p.Render(t.Context(), words.Visit{URL: h.URL + "/never"})
		done <- err
	}()
	_ = p.session.Post("Page.crash", nil)
	select {
	case <-p.Gone():
	case <-time.After(10 * time.Second):
		t.Fatal("the crash was not noticed")
	}
	if err := <-done; !errors.Is(err, chrome.ErrGone) {
		t.Errorf("render on a crashed page: %v", err)
	}
	if p.Reusable() {
		t.Error("reusable")
	}
	if err := other.Probe(limited(t, 5*time.Second)); err != nil {
		t.Error(err)
	}
}

func TestVisitOutsideTheRealmIsRefused(t *testing.T) {
	h := newHost(t, nil)
	p := open(t, h, appShell)
	for _, u := range []string{"", "http://elsewhere.example/", h.URL + "0/", "file:///etc/passwd", "javascript:1", "about:blank"} {
		if _, err := p.Render(t.Context(), words.Visit{URL: u}); err == nil {
			t.Errorf("%q was rendered", u)
		}
	}
	if !p.Reusable() {
		t.Error("a refused visit spoiled the page")
	}
}

func BenchmarkTransition(b *testing.B) { benchmark(b, words.ModeTransition) }
func BenchmarkNavigate(b *testing.B)   { benchmark(b, words.ModeNavigate) }

func benchmark(b *testing.B, mode words.Mode) {
	h := &host{files: map[string]string{"/app.js": appJS}, hits: map[string]int{}}
	startHost(b, h)
	p, err := shared.Open(b.Context(), h.options(appShell))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = p.Close() }()
	for b.Loop() {
		if c, err := p.Render(b.Context(), words.Visit{URL: h.URL + "/one", Options: words.RenderOptions{Mode: mode}}); err != nil || c.Status != words.StatusReady {
			b.Fatal(brief(c), err)
		}
	}
	b.ReportMetric(float64(p.Report().Go.Milliseconds()), "go-ms")
	b.ReportMetric(float64(p.Report().Capture.Milliseconds()), "capture-ms")
}
