package page

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"image"
	"image/png"
	"strings"
	"testing"

	"github.com/rewarm/rewarm/internal/chrome"
	"github.com/rewarm/rewarm/internal/words"
)

// taskJS is an application that offers modules, commands and things to see.
const taskJS = `
const app = document.getElementById('app');
const boot = [innerWidth, devicePixelRatio, navigator.userAgent, navigator.language, new Intl.DateTimeFormat().resolvedOptions().locale, Intl.DateTimeFormat().resolvedOptions().timeZone].join('|');
const routes = {
  '/data': () => { window.prerenderData = {id: 1, deps: ['/a.js', '/b.js'], text: '\ud800 </script>'}; return 'data' },
  '/late-data': () => { setTimeout(() => fetch('/data').then(r => r.text()).then(t => { window.prerenderData = {t}; app.textContent = 'late' }), 5); return 'wait' },
  '/pre': () => { app.innerHTML = '<div data-prerender-module><pre>{"from":\n"pre"}</pre></div>'; return null },
  '/bad-pre': () => { app.innerHTML = '<div data-prerender-module><pre>{nope</pre></div>'; return null },
  '/cycle': () => { const o = {}; o.o = o; window.prerenderData = o; return 'cycle' },
  '/tall': () => { app.innerHTML = '<div style="height:3000px;width:100px;background:#f00">tall</div>'; document.body.style.margin = 0; return null },
  '/boot': () => boot,
  '/blocks': () => { app.innerHTML = '<img src="/i.png"><img src="/ads/a.js?x=1"><p id=styled>styled</p>'; const l = document.createElement('link'); l.rel = 'stylesheet'; l.href = '/s.css'; l.onload = () => app.append(' css'); l.onerror = () => app.append(' nocss'); document.head.append(l);
    fetch('/ads/q?x=1').then(() => app.append(' ad'), () => app.append(' noad')); return null },
  '/mutates': () => { let n = 0; setInterval(() => { app.textContent = 'tick ' + n++ }, 5); return 'ticks' },
  '/grows': () => { setInterval(() => app.append(document.createElement('i')), 5); return 'grows' },
  '/hangs': () => { fetch('/stream'); return 'hangs' },
  '/frames': () => { let n = 0; const frame = () => { app.textContent = 'tick ' + n++; requestAnimationFrame(frame) }; frame(); return null },
  '/starved': () => { let n = 0; setInterval(() => { app.textContent = 'tick ' + n++; if (n % 2) { const end = performance.now() + 120; while (performance.now() < end); } }, 5); return 'ticks' },
  '/download': () => { const a = document.createElement('a'); a.href = '/file.bin'; a.download = 'file.bin'; document.body.append(a); a.click(); return 'download' },
};
function show(path) {
  const route = routes[path.split('?')[0]];
  const text = route ? route() : 'page ' + path;
  if (text !== null) app.textContent = text;
}
window.calls = 0;
window.prerenderCommands = {
  add: async ({a, b}) => { await fetch('/ran'); return {sum: a + b, calls: ++window.calls} },
  text: input => String(input),
  nothing: () => {},
  throws: () => { throw new TypeError('cannot') },
  rejects: async () => { throw 'just text' },
  cycle: async () => { await fetch('/ran'); const o = {}; o.o = o; return o },
  never: () => { fetch('/ran'); return new Promise(() => {}) },
  session: () => localStorage.getItem('boxel-session'),
  leave: () => { fetch('/ran', {keepalive: true}); location.href = '/elsewhere'; return new Promise(() => {}) },
  boot: () => boot,
};
window.prerenderTransitionTo = async path => { history.pushState({}, '', path); show(path) };
show(location.pathname + location.search);
`

func taskHost(t *testing.T) *host {
	return newHost(t, map[string]string{
		"/app.js": taskJS, "/ran": "ran", "/s.css": "#styled{color:red}", "/ads/q": "ad", "/file.bin": "bytes",
		"/i.png": "\x89PNG\r\n\x1a\n",
	})
}

func (h *host) do(t *testing.T, p *Page, task Task, path string) Result {
	t.Helper()
	task.Visit.URL = h.URL + path
	if task.Visit.Options.TimeoutMs == 0 {
		task.Visit.Options.TimeoutMs = 20_000
	}
	r, err := p.Do(t.Context(), task)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return r
}

func TestModules(t *testing.T) {
	h := taskHost(t)
	p := open(t, h, appShell)
	for _, c := range []struct {
		path, want, fault string
		mode              words.Mode
	}{
		{path: "/data", want: `{"id":1,"deps":["/a.js","/b.js"],"text":"\ud800 </script>"}`},
		{path: "/plain", fault: "prerenderData"}, // the data of the last route is not this one's
		{path: "/data", want: `{"id":1,"deps":["/a.js","/b.js"],"text":"\ud800 </script>"}`, mode: words.ModeNavigate},
		{path: "/plain", fault: "prerenderData", mode: words.ModeNavigate},
		{path: "/late-data", want: `{"t":"data"}`},
		{path: "/pre", want: `{"from":"pre"}`},
		{path: "/bad-pre", fault: "is no JSON"},
		{path: "/cycle", fault: "is no JSON"},
		{path: "/pre", want: `{"from":"pre"}`, mode: words.ModeNavigate},
	} {
		if c.path == "/data" || c.path == "/late-data" {
			h.set("/data", "data")
		}
		task := Task{Kind: Module}
		task.Visit.Options.Mode = c.mode
		r := h.do(t, p, task, c.path)
		if r.Token != p.Token() || !p.Reusable() || r.HTML != "" {
			t.Errorf("%s: token %q, reusable %t, html %q", c.path, r.Token, p.Reusable(), r.HTML)
		}
		if c.want != "" && (r.Status != words.StatusReady || string(r.JSON) != c.want) {
			t.Errorf("%s: %s %s, %+v; want %s", c.path, r.Status, r.JSON, r.Error, c.want)
		}
		if c.fault != "" && (r.Status != words.StatusError || r.JSON != nil || !strings.Contains(r.Error.Message, c.fault)) {
			t.Errorf("%s: %s %s, %+v; want %s", c.path, r.Status, r.JSON, r.Error, c.fault)
		}
	}
}

func TestScreenshots(t *testing.T) {
	h := taskHost(t)
	p := open(t, h, appShell)
	for _, c := range []struct {
		options     words.RenderOptions
		contentType string
		w, h        int
	}{
		{words.RenderOptions{Viewport: &words.Viewport{Width: 400, Height: 300}}, "image/png", 400, 300},
		{words.RenderOptions{Viewport: &words.Viewport{Width: 400, Height: 300, DeviceScaleFactor: 2}, Format: "png"}, "image/png", 800, 600},
		{words.RenderOptions{Viewport: &words.Viewport{Width: 400, Height: 300}, Format: "jpeg", FullPage: true}, "image/jpeg", 400, 3000},
		{words.RenderOptions{Viewport: &words.Viewport{Width: 400, Height: 300}, Format: "webp"}, "image/webp", 400, 300},
		{words.RenderOptions{Viewport: &words.Viewport{Width: 400, Height: 300}, Format: "webp", FullPage: true}, "image/webp", 400, 3000},
	} {
		r := h.do(t, p, Task{Kind: Screenshot, Visit: words.Visit{Options: c.options}}, "/tall")
		if r.Status != words.StatusReady || r.ContentType != c.contentType || r.Width != c.w || r.Height != c.h || r.Token != p.Token() || !p.Reusable() {
			t.Errorf("%+v: %s %s %dx%d, %+v, %q", c.options, r.Status, r.ContentType, r.Width, r.Height, r.Error, r.Token)
		}
		if c.contentType == "image/webp" {
			continue // no decoder here; the size was read from its header
		}
		picture, _, err := image.Decode(bytes.NewReader(r.Data))
		if err != nil {
			t.Fatal(err)
		}
		if red, green, _, _ := picture.At(50, c.h/2).RGBA(); red < 0xf000 || green > 0x0fff {
			t.Errorf("%+v: the picture does not show the page: %v", c.options, picture.At(50, c.h/2))
		}
	}
	r := h.do(t, p, Task{Kind: Screenshot}, "/plain")
	if r.Status != words.StatusReady || r.Width == 400 || r.Width == 0 || p.Report().Mode != words.ModeNavigate {
		t.Errorf("after the viewports: %s, %dx%d by %s", r.Status, r.Width, r.Height, p.Report().Mode)
	}
	r = h.do(t, p, Task{Kind: PDF}, "/tall")
	if r.Status != words.StatusReady || !bytes.HasPrefix(r.Data, []byte("%PDF-")) || r.ContentType != "application/pdf" {
		t.Errorf("pdf: %s %+v %.20q", r.Status, r.Error, r.Data)
	}
	if p.Report().Mode != words.ModeTransition {
		t.Errorf("the render after one without overrides is done by %s", p.Report().Mode)
	}
}

func TestPictureOfOneElement(t *testing.T) {
	h := newHost(t, map[string]string{"/app.js": `
document.body.innerHTML = '<div style="height:2000px"></div><div id=a style="width:120px;height:80px;background:#f00;margin-left:900px"></div><div style="height:2000px"></div>' +
	'<div id=tall style="width:50px;height:3000px;background:#f00"></div><div id=huge style="width:20000px;height:20000px;background:#f00"></div><p id=none hidden></p>' +
	'<div style="overflow:auto;width:200px;height:100px"><div style="height:900px"></div><div id=in style="width:60px;height:30px;background:#f00"></div></div>';
window.prerenderTransitionTo = async path => { history.pushState({}, '', path); window.at = scrollY }`})
	p := open(t, h, appShell)
	shoot := func(options words.RenderOptions) Result {
		t.Helper()
		return h.do(t, p, Task{Kind: Screenshot, Visit: words.Visit{Options: options}}, "/x")
	}
	for selector, want := range map[string]image.Point{
		"#a": {120, 80}, "div#tall": {50, 3000}, "#in": {60, 30}, "#huge": {16384, 4096},
	} {
		r := shoot(words.RenderOptions{Selector: selector})
		picture, err := png.Decode(bytes.NewReader(r.Data))
		if err != nil || picture.Bounds().Size() != want || r.Width != want.X || r.Height != want.Y || !p.Reusable() {
			t.Errorf("%s: %s %+v %dx%d, %v", selector, r.Status, r.Error, r.Width, r.Height, err)
			continue
		}
		for _, at := range []image.Point{{1, 1}, {want.X / 2, want.Y / 2}, {want.X - 2, want.Y - 2}} {
			if red, green, _, _ := picture.At(at.X, at.Y).RGBA(); red < 0xf000 || green > 0x0fff {
				t.Errorf("%s shows something else at %v: %v", selector, at, picture.At(at.X, at.Y))
			}
		}
	}
	if r := h.do(t, p, Task{}, "/y"); r.Report.Mode != words.ModeNavigate || !p.Reusable() {
		t.Errorf("the page that was scrolled was not loaded anew: %+v", r.Report)
	}
	twice := &words.Viewport{Width: 300, Height: 200, DeviceScaleFactor: 2}
	if r := shoot(words.RenderOptions{Selector: "#a", Viewport: twice, Format: "webp"}); r.Width != 240 || r.Height != 160 || r.ContentType != "image/webp" {
		t.Errorf("at twice the size: %dx%d %s %+v", r.Width, r.Height, r.ContentType, r.Error)
	}
	for selector, want := range map[string]string{"#nobody": `no element matches "#nobody"`, "#none": `matches "#none" is not shown`} {
		if r := shoot(words.RenderOptions{Selector: selector}); r.Status != words.StatusError || r.Data != nil || r.Error.Kind != words.PageErrorPage ||
			!strings.Contains(r.Error.Message, want) || !p.Reusable() {
			t.Errorf("%s: %s %+v, reusable %t", selector, r.Status, r.Error, p.Reusable())
		}
	}
	for _, viewport := range []*words.Viewport{nil, {Width: 300, Height: 200}} {
		_, err := p.Do(t.Context(), Task{Kind: Screenshot, Visit: words.Visit{URL: h.URL + "/x", Options: words.RenderOptions{Selector: "p >> q", Viewport: viewport}}})
		if _, refused := errors.AsType[*OptionsError](err); !refused || !p.Reusable() {
			t.Errorf("no selector: %v, reusable %t", err, p.Reusable())
		}
	}
	if r := shoot(words.RenderOptions{}); r.Width <= 300 {
		t.Errorf("the viewport of a refused render is still there: %dx%d", r.Width, r.Height)
	}
}

func TestScreenshotOfAWedgedPageIsUnusable(t *testing.T) {
	h := newHost(t, nil)
	p := open(t, h, appShell)
	r := h.do(t, p, Task{Kind: Screenshot, Visit: words.Visit{Options: words.RenderOptions{TimeoutMs: 1500}}}, "/loop")
	if r.Status != words.StatusUnusable || r.Data != nil || r.Error.Kind != words.PageErrorTimeout || p.Reusable() {
		t.Errorf("%s %+v, %d bytes", r.Status, r.Error, len(r.Data))
	}
}

func TestCommands(t *testing.T) {
	h := taskHost(t)
	p := open(t, h, appShell)
	run := func(name, input string) Result {
		t.Helper()
		r := h.do(t, p, Task{Kind: Command, Command: name, Input: json.RawMessage(input)}, "/_standby")
		if r.Token != p.Token() {
			t.Errorf("%s: token %q", name, r.Token)
		}
		return r
	}
	for _, c := range []struct{ name, input, want string }{
		{"add", `{"a":1,"b":2}`, `{"sum":3,"calls":1}`},
		{"add", `{"a":1,"b":3}`, `{"sum":4,"calls":2}`},
		{"text", `"<\u2028'"`, `"<` + "\u2028" + `'"`},
		{"text", ``, `"undefined"`},
		{"nothing", `null`, `null`},
	} {
		if r := run(c.name, c.input); r.Status != words.StatusReady || string(r.JSON) != c.want || !p.Reusable() {
			t.Errorf("%s(%s): %s %s %+v, reusable %t", c.name, c.input, r.Status, r.JSON, r.Error, p.Reusable())
		}
	}
	for _, name := range []string{"none", "toString", "constructor", ""} {
		if r := run(name, "1"); r.Status != words.StatusError || r.Error.Title != "No such command" || !p.Reusable() {
			t.Errorf("%s: %s %+v, reusable %t", name, r.Status, r.Error, p.Reusable())
		}
	}
	for name, want := range map[string]string{"throws": "cannot", "rejects": "just text", "cycle": "is no JSON"} {
		p = open(t, h, appShell)
		if r := run(name, "1"); r.Status != words.StatusError || !strings.Contains(r.Error.Message, want) || r.JSON != nil || p.Reusable() {
			t.Errorf("%s: %s %+v, reusable %t", name, r.Status, r.Error, p.Reusable())
		}
	}
}

func TestCommandWithCredentialsOrOverridesStartsTheApplicationWithThem(t *testing.T) {
	h := taskHost(t)
	p := open(t, h, appShell)
	visit := words.Visit{Auth: "alice"}
	for range 2 {
		if r := h.do(t, p, Task{Kind: Command, Command: "session", Visit: visit}, "/_standby"); string(r.JSON) != `"alice"` {
			t.Errorf("%s %s %+v", r.Status, r.JSON, r.Error)
		}
	}
	visit.Options = words.RenderOptions{Locale: "de-DE", Timezone: "Asia/Tokyo"}
	if r := h.do(t, p, Task{Kind: Command, Command: "boot", Visit: visit}, "/_standby"); !strings.Contains(string(r.JSON), "de-DE|de-DE|Asia/Tokyo") {
		t.Errorf("%s %s %+v", r.Status, r.JSON, r.Error)
	}
	visit.Options = words.RenderOptions{}
	if r := h.do(t, p, Task{Kind: Command, Command: "boot", Visit: visit}, "/_standby"); strings.Contains(string(r.JSON), "Tokyo") {
		t.Errorf("%s %s %+v", r.Status, r.JSON, r.Error)
	}
}

func TestF02_StartedCommandIsNeverCalledNotStarted(t *testing.T) {
	t.Run("its promise never ends", func(t *testing.T) {
		h := taskHost(t)
		p := open(t, h, appShell)
		r := h.do(t, p, Task{Kind: Command, Command: "never", Visit: words.Visit{Options: words.RenderOptions{TimeoutMs: 700}}}, "/_standby")
		if r.Status != words.StatusUnusable || r.Error.Kind != words.PageErrorTimeout || !strings.Contains(r.Error.Message, "was started") || p.Reusable() {
			t.Errorf("%s %+v", r.Status, r.Error)
		}
	})
	for name, c := range map[string]struct {
		command string
		during  func(p *Page, cancel func())
	}{
		"its document is left":  {"leave", func(*Page, func()) {}},
		"its page crashes":      {"never", func(p *Page, _ func()) { _ = p.session.Post("Page.crash", nil) }},
		"its page is closed":    {"never", func(p *Page, _ func()) { _ = p.Close() }},
		"its caller goes away":  {"never", func(_ *Page, cancel func()) { cancel() }},
		"its session is failed": {"never", func(p *Page, _ func()) { p.session.Abandon(chrome.ErrGone) }},
	} {
		t.Run(name, func(t *testing.T) {
			h := taskHost(t)
			p := open(t, h, appShell)
			ctx, cancel := context.WithCancel(limited(t, testLimit))
			defer cancel()
			failed := make(chan error, 1)
			go func() {
				_, err := p.Do(ctx, Task{Kind: Command, Command: c.command, Visit: words.Visit{URL: h.URL + "/_standby"}})
				failed <- err
			}()
			poll(t, "the command's effect", func() bool { return h.count("/ran") > 0 })
			c.during(p, cancel)
			if err := <-failed; !errors.Is(err, ErrUnknown) {
				t.Errorf("got %v", err)
			}
			if n := h.count("/ran"); n != 1 || p.Reusable() {
				t.Errorf("ran %d times, reusable %t", n, p.Reusable())
			}
		})
	}
	t.Run("a page that is gone has not started it", func(t *testing.T) {
		h := taskHost(t)
		p := open(t, h, appShell)
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		_, err := p.Do(limited(t, testLimit), Task{Kind: Command, Command: "never", Visit: words.Visit{URL: h.URL + "/_standby"}})
		if errors.Is(err, ErrUnknown) || !errors.Is(err, chrome.ErrGone) || h.count("/ran") != 0 {
			t.Errorf("got %v", err)
		}
	})
}

func TestOverridesAreAppliedAndTakenBack(t *testing.T) {
	h := taskHost(t)
	p := open(t, h, appShell)
	plain := h.render(t, p, "/boot", nil).Body
	for want, o := range map[string]words.RenderOptions{
		"411|2|":      {Viewport: &words.Viewport{Width: 411, Height: 700, DeviceScaleFactor: 2}},
		"|Test/1|":    {UserAgent: "Test/1"},
		"|fr-CA|":     {Locale: "fr-CA"},
		"Asia/Tokyo":  {Timezone: "Asia/Tokyo"},
		"|Bot/2|de|d": {UserAgent: "Bot/2", Locale: "de", Mode: words.ModeTransition},
	} {
		c := h.render(t, p, "/boot", func(v *words.Visit) { v.Options = o; v.Options.TimeoutMs = 20_000 })
		if c.Status != words.StatusReady || !strings.Contains(c.Body, want) || p.Report().Mode != words.ModeNavigate {
			t.Errorf("%+v: %s by %s; want %s", o, brief(c), p.Report().Mode, want)
		}
		if c = h.render(t, p, "/boot", nil); c.Body != plain || !p.Reusable() {
			t.Errorf("after %+v: %s; want %s", o, brief(c), plain)
		}
		if h.render(t, p, "/boot", nil); p.Report().Mode != words.ModeTransition {
			t.Errorf("after that: %s", p.Report().Mode)
		}
	}
	for _, o := range []words.RenderOptions{{Timezone: "Nowhere/At all"}, {UserAgent: "a\nb"}} {
		_, err := p.Render(t.Context(), words.Visit{URL: h.URL + "/boot", Options: o})
		if refused, ok := errors.AsType[*OptionsError](err); !ok || refused.Error() == "" {
			t.Errorf("%+v: %v", o, err)
		}
		if c := h.render(t, p, "/boot", nil); c.Body != plain || !p.Reusable() {
			t.Errorf("after %+v: %s", o, brief(c))
		}
	}
}

func TestBlockedRequestsAreNotMade(t *testing.T) {
	h := taskHost(t)
	p := open(t, h, appShell)
	block := func(names ...string) func(*words.Visit) {
		return func(v *words.Visit) { v.Options.Block = names }
	}
	c := h.render(t, p, "/blocks", block("image", "stylesheet", "*/ads/q?x=*"))
	if c.Status != words.StatusReady || !strings.Contains(c.Body, " css") || !strings.Contains(c.Body, " noad") || len(c.FailedRequests) != 0 {
		t.Errorf("%s, failed %v", brief(c), c.FailedRequests)
	}
	if n := h.count("/i.png") + h.count("/s.css") + h.count("/ads/q") + h.count("/ads/a.js"); n != 0 {
		t.Errorf("%d blocked requests were made", n)
	}
	c = h.render(t, p, "/blocks", block("*"))
	if c.Token != p.Token() || c.Status == words.StatusReady && !strings.Contains(c.Body, "app") {
		t.Errorf("the document itself was blocked: %s", brief(c))
	}
	p = open(t, h, appShell)
	h.render(t, p, "/blocks", block("font"))
	c = h.render(t, p, "/blocks", nil)
	if !strings.Contains(c.Body, " css") || !strings.Contains(c.Body, " ad") || h.count("/i.png") == 0 || h.count("/s.css") == 0 {
		t.Errorf("blocking was not taken back: %s", brief(c))
	}
}

func TestF11_WhatIsNotThereYetIsPartial(t *testing.T) {
	for _, path := range []string{"/grows", "/hangs"} {
		for _, mode := range []words.Mode{words.ModeTransition, words.ModeNavigate} {
			t.Run(path[1:]+" by "+string(mode), func(t *testing.T) {
				t.Parallel()
				h := taskHost(t)
				p := open(t, h, appShell)
				c := h.render(t, p, path, func(v *words.Visit) { v.Options.Mode, v.Options.TimeoutMs = mode, 1500 })
				// Partial, or unusable where not even the capture got its turn.
				if c.Status == words.StatusReady || c.SettledBy != words.SettledByTimeout || c.Error == nil || c.Error.Kind != words.PageErrorTimeout {
					t.Error(brief(c))
				}
			})
		}
	}
}

func TestTickersDoNotKeepAPageFromSettling(t *testing.T) {
	for _, path := range []string{"/mutates", "/frames", "/starved"} {
		for _, mode := range []words.Mode{words.ModeTransition, words.ModeNavigate} {
			t.Run(path[1:]+" by "+string(mode), func(t *testing.T) {
				t.Parallel()
				h := taskHost(t)
				p := open(t, h, appShell)
				c := h.render(t, p, path, func(v *words.Visit) { v.Options.Mode = mode })
				if c.Status != words.StatusReady || c.SettledBy != words.SettledByQuiet || !strings.Contains(c.Body, "tick ") {
					t.Error(brief(c))
				}
			})
		}
	}
}

func TestDownloadsAreDenied(t *testing.T) {
	h := taskHost(t)
	p := open(t, h, appShell)
	for _, how := range []func(*words.Visit){nil, navigating} {
		if c := h.render(t, p, "/download", how); c.Status != words.StatusReady || !strings.Contains(c.Body, "download") {
			t.Errorf("%s", brief(c))
		}
	}
	if left := downloads(t); len(left) != 0 {
		t.Errorf("downloaded: %v", left)
	}
}

func TestPageThatIsNotWarmedLoadsOnItsFirstTask(t *testing.T) {
	h := taskHost(t)
	o := h.options(appShell)
	o.StandbyURL = ""
	p := openWith(t, o)
	if h.count("/app.js") != 0 {
		t.Error("it has loaded something already")
	}
	if c := h.render(t, p, "/one", nil); c.Status != words.StatusReady || c.Token != p.Token() || !strings.Contains(c.Body, "page /one") {
		t.Errorf("%s", brief(c))
	}
}

func TestPatterns(t *testing.T) {
	for _, c := range []struct {
		pattern, text string
		want          bool
	}{
		{"*", "", true}, {"*", "x", true}, {"", "", true}, {"", "x", false}, {"abc", "abc", true}, {"abc", "abcd", false},
		{"a*c", "abc", true}, {"a*c", "ac", true}, {"a*c", "abcd", false}, {"*c", "abc", true}, {"a*", "abc", true},
		{"a*b*c", "axxbyyc", true}, {"a*b*b", "ab", false}, {"*?x=*", "h?x=1", true}, {"*?x=*", "hax=1", false},
	} {
		if got := matches(c.pattern, c.text); got != c.want {
			t.Errorf("%q matches %q: %t", c.pattern, c.text, got)
		}
	}
}
