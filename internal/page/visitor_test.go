package page

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rewarm/rewarm/internal/shell"
	"github.com/rewarm/rewarm/internal/takeover"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

const (
	visitedHead = `<!doctype html><html><head><title>t</title><style>body{margin:0;font:16px/20px sans-serif}</style></head><body>`
	visitedTail = `<script type="module" src="/app.js"></script></body></html>`
	// prerendered is what every one of these applications shows when all is well.
	prerendered = `<h1>Birds of the garden</h1><p>The robin sings in winter too.</p><a href="/robin">robin</a>`
	showAll     = "document.querySelector('#app').innerHTML = `" + prerendered + "`;\n"
)

// visitedHost serves a page as a realm server would: the shell with what was
// prerendered in it.
type visitedHost struct {
	mount    string // in the shell's body; default <div id="app">Loading</div>
	captured string // what a render made of it; default the mount with prerendered
	app      string // /app.js
	files    map[string]string
	types    map[string]string // by path, where the extension does not tell
	missing  bool              // no snapshot: the bare shell
	tail     string            // default visitedTail
	agent    string            // the last document's User-Agent
}

func (h *visitedHost) start(t *testing.T) string {
	t.Helper()
	if h.mount == "" {
		h.mount = `<div id="app">Loading</div>`
	}
	if h.captured == "" {
		h.captured = `<div id="app">` + prerendered + `</div>`
	}
	if h.tail == "" {
		h.tail = visitedTail
	}
	document := visitedHead + h.mount + h.tail
	if !h.missing {
		composed, err := shell.Compose([]byte(document), visitedHead+h.captured+h.tail, shell.Options{})
		if err != nil {
			t.Fatal(err)
		}
		document = string(composed.HTML)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, known := h.files[r.URL.Path]
		switch {
		case r.URL.Path == "/app.js":
			body = h.app
		case r.URL.Path == "/never":
			<-r.Context().Done()
			return
		case r.URL.Path == "/" || r.URL.Path == "/page":
			h.agent = r.UserAgent()
			w.Header().Set(wire.HeaderSnapshot, map[bool]string{false: "hit", true: "miss"}[h.missing])
			w.Header().Set(wire.HeaderDocumentShell, "0123abcd")
			body = document
		case !known:
			http.NotFound(w, r)
			return
		}
		kind := h.types[r.URL.Path]
		if kind == "" {
			kind = map[string]string{".js": "text/javascript", ".css": "text/css"}[path.Ext(r.URL.Path)]
		}
		if kind == "" {
			kind = "text/html; charset=utf-8"
		}
		w.Header().Set("Content-Type", kind)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	return server.URL
}

func observe(t *testing.T, h *visitedHost, o ObserveOptions) (Observation, words.Verdict) {
	t.Helper()
	base := h.start(t)
	o.URL, o.Realms = base+o.URL, []string{base + "/"}
	if o.Patience == 0 {
		o.Patience = testLimit
	}
	seen, err := shared.Observe(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return seen, takeover.Judge(seen.Evidence)
}

func kinds(v words.Verdict, severity words.Severity) (found []words.FindingKind) {
	for _, f := range v.Findings {
		if f.Severity == severity && !slices.Contains(found, f.Kind) {
			found = append(found, f.Kind)
		}
	}
	return found
}

// TestVisitorIsSatisfiedHoweverTheApplicationTakesOver: none of the ways in
// which applications take over is taken for a break.
func TestVisitorIsSatisfiedHoweverTheApplicationTakesOver(t *testing.T) {
	for name, h := range map[string]*visitedHost{
		"replaces its mount":  {app: showAll},
		"after a while":       {app: `setTimeout(() => {` + showAll + `}, 300)`},
		"after its data came": {app: `await fetch('/data.json');` + showAll, files: map[string]string{"/data.json": "{}"}},
		"appends to its mount": {
			mount: `<div id="app"></div>`,
			app:   "const d = document.createElement('div'); d.innerHTML = `" + prerendered + "`; document.querySelector('#app').append(d)",
		},
		"appends to the body": {
			mount: `<header>top</header>`, captured: `<header>top</header><div>` + prerendered + `</div>`,
			app: "const d = document.createElement('div'); d.innerHTML = `" + prerendered + "`; document.body.append(d)",
		},
		"adopts what it finds":            {app: `document.querySelector('#app a').addEventListener('click', () => {})`},
		"adopts it, and says so":          {app: `document.querySelector('#app').setAttribute('data-hydrated', '')`},
		"in a script that holds up":       {tail: `<script>` + showAll + `</script></body></html>`},
		"into a shadow root":              {captured: `<div id="app"><x-y><template shadowrootmode="open">` + prerendered + `</template></x-y></div>`, app: "document.querySelector('#app').innerHTML = '<x-y></x-y>'; document.querySelector('x-y').attachShadow({mode: 'open'}).innerHTML = `" + prerendered + "`"},
		"a bare shell":                    {missing: true, app: showAll},
		"with a service worker":           {app: showAll + `await navigator.serviceWorker.register('/sw.js'); await navigator.serviceWorker.ready`, files: map[string]string{"/sw.js": "self.onfetch = e => e.respondWith(fetch(e.request))"}},
		"polls for news":                  {app: showAll + `(async () => { for (;;) { await fetch('/data.json'); await new Promise(r => setTimeout(r, 50)) } })()`, files: map[string]string{"/data.json": "{}"}},
		"catches what it threw":           {app: showAll + `const p = Promise.reject(new Error('late')); setTimeout(() => p.catch(() => {}), 20)`},
		"shows the same text in pieces":   {app: showAll + `const p = document.querySelector('p'); p.firstChild.splitText(4); p.append('')`},
		"needs no script of an old shell": {app: showAll, tail: `<noscript>Turn on scripts</noscript>` + visitedTail},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, v := observe(t, h, ObserveOptions{URL: "/page"})
			if v.Verdict != words.VerdictOK || len(v.Findings) > 0 || v.Timings.LoadMs == 0 || v.Timings.SettledMs == 0 {
				t.Errorf("%+v", v)
			}
			if want := map[bool]string{false: "hit", true: "miss"}[h.missing]; v.Snapshot != want || v.Token != "0123abcd" || v.HTTPStatus != 200 {
				t.Errorf("%+v", v)
			}
		})
	}
}

// TestVisitorNamesWhatBreaks has hosts that are broken on purpose.
func TestVisitorNamesWhatBreaks(t *testing.T) {
	type finding = words.FindingKind
	breaks := func(all ...finding) []finding { return all }
	for name, c := range map[string]struct {
		host     visitedHost
		want     []finding // that break, in order
		says     string    // in a message or its detail
		patience time.Duration
		url      string
	}{
		"throws":           {visitedHost{app: showAll + `throw new Error('boom')`}, breaks(words.FindingException), "boom", 0, ""},
		"throws at once":   {visitedHost{app: `throw new Error('boom')`}, breaks(words.FindingException, words.FindingNoTakeover), "boom", 0, ""},
		"rejects":          {visitedHost{app: showAll + `Promise.reject(new TypeError('no'))`}, breaks(words.FindingException), "TypeError: no", 0, ""},
		"other text":       {visitedHost{app: strings.Replace(showAll, "winter too", "summer", 1)}, breaks(words.FindingTextLost), "winter too", 0, ""},
		"other links":      {visitedHost{app: strings.Replace(showAll, `href="/robin"`, `href="/wren"`, 1)}, breaks(words.FindingLinksLost), "/robin", 0, ""},
		"hides its text":   {visitedHost{app: showAll + `document.querySelector('p').style.visibility = 'hidden'`}, breaks(words.FindingTextLost), "robin sings", 0, ""},
		"React 418":        {visitedHost{app: showAll + `reportError(new Error('Minified React error #418; visit https://react.dev/errors/418'))`}, breaks(words.FindingHydration), "React #418", 0, ""},
		"Vue mismatch":     {visitedHost{app: showAll + `console.error('Hydration completed but contains mismatches.')`}, breaks(words.FindingHydration), "Vue", 0, ""},
		"Svelte mismatch":  {visitedHost{app: showAll + `console.warn('https://svelte.dev/e/hydration_mismatch')`}, breaks(words.FindingHydration), "Svelte", 0, ""},
		"chunk is gone":    {visitedHost{app: showAll + `await import('/assets/gone-1a2b.js')`}, breaks(words.FindingChunk, words.FindingAssetMissing), "gone-1a2b.js", 0, ""},
		"chunk is HTML":    {visitedHost{app: showAll + `await import('/chunk.js')`, files: map[string]string{"/chunk.js": "<html>"}, types: map[string]string{"/chunk.js": "text/html"}}, breaks(words.FindingChunk, words.FindingAssetType), "text/html", 0, ""},
		"entry is missing": {visitedHost{tail: `<script src="/gone.js"></script></body></html>`}, breaks(words.FindingAssetMissing, words.FindingNoTakeover), "answered 404", 0, ""},
		"style is HTML":    {visitedHost{app: showAll, tail: `<link rel="stylesheet" href="/a.css">` + visitedTail, files: map[string]string{"/a.css": "<html>"}, types: map[string]string{"/a.css": "text/html"}}, breaks(words.FindingAssetType), "/a.css", 0, ""},
		"style is missing": {visitedHost{app: showAll, tail: `<link rel="stylesheet" href="/b.css">` + visitedTail}, breaks(words.FindingAssetMissing), "/b.css", 0, ""},
		"never takes over": {visitedHost{app: `1`}, breaks(words.FindingNoTakeover), "never touched", 0, ""},
		"stays beside ours": {visitedHost{mount: `<header>top</header>`, captured: `<header>top</header><div>` + prerendered + `</div>`, app: `1`},
			breaks(words.FindingNoTakeover), "still there", 0, ""},
		"data never comes":   {visitedHost{app: `document.querySelector('#app').innerHTML = 'Loading'; await fetch('/never');` + showAll}, breaks(words.FindingTextLost, words.FindingLinksLost, words.FindingTimeout), "/never", 3 * time.Second, ""},
		"renders on and on":  {visitedHost{app: showAll + `const p = document.body.appendChild(document.createElement('p')); let n = 0; (function again() { p.textContent = 'n ' + n++ % 2; requestAnimationFrame(again) })()`}, breaks(words.FindingRestless), "goes on changing", 0, ""},
		"never lets go":      {visitedHost{app: `for (;;) {}`}, breaks(words.FindingTimeout), "without an end", 3 * time.Second, ""},
		"loads itself again": {visitedHost{app: showAll + `setTimeout(() => location.reload())`}, breaks(words.FindingRestless), "again and again", 3 * time.Second, ""},
		"vanishes for long":  {visitedHost{app: `document.querySelector('#app').innerHTML = ''; setTimeout(() => {` + showAll + `}, 1500)`}, breaks(words.FindingFlash), "vanished", 0, ""},
		"shifts":             {visitedHost{app: showAll + `setTimeout(() => { const d = document.createElement('div'); d.style.height = '400px'; document.body.prepend(d) }, 200)`, captured: `<div id="app">` + prerendered + `<div style="height:400px;background:red"></div></div>`}, nil, "shifts by", 0, ""},
		"is not there":       {visitedHost{}, breaks(words.FindingNavigation), "its type is text/plain", 0, "/none"},
		"goes elsewhere":     {visitedHost{app: `location.host = location.host.replace('127.0.0.1', 'localhost')`}, breaks(words.FindingNavigation), "in none of the realms", 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.url == "" {
				c.url = "/page"
			}
			_, v := observe(t, &c.host, ObserveOptions{URL: c.url, Patience: c.patience})
			if found := kinds(v, words.SeverityBreak); c.want != nil && !slices.Equal(found, c.want) {
				t.Errorf("breaks by %v, want %v: %+v", found, c.want, v)
			}
			if !strings.Contains(fmt.Sprint(v.Findings), c.says) {
				t.Errorf("nothing says %q: %+v", c.says, v)
			}
		})
	}
}

// TestVisitorFindsNoMarkOfAPrerender looks for what tells a prerender, or a
// robot, from a person's browser.
func TestVisitorFindsNoMarkOfAPrerender(t *testing.T) {
	h := &visitedHost{app: showAll + `
const marks = ['__rewarm', '__boxelRenderContext', '__rewarmSend', 'rewarm'].filter(name => name in window);
if (navigator.webdriver) marks.push('webdriver');
if (/headless/i.test(navigator.userAgent + JSON.stringify(navigator.userAgentData || ''))) marks.push(navigator.userAgent);
if (!('serviceWorker' in navigator)) marks.push('no service worker');
if (document.visibilityState !== 'visible' || innerWidth !== 1280) marks.push('window');
if (marks.length) throw new Error('found ' + marks)`}
	seen, v := observe(t, h, ObserveOptions{URL: "/page", Pictures: true})
	if v.Verdict != words.VerdictOK || strings.Contains(h.agent, "Headless") || !strings.Contains(h.agent, "Chrome/") {
		t.Errorf("%q %+v", h.agent, v)
	}
	if w, height := sizeOf(seen.BeforePNG); w != 1280 || height != 800 {
		t.Errorf("%d by %d", w, height)
	}
	if _, share, err := takeover.Difference(seen.BeforePNG, seen.AfterPNG, seen.Places); err != nil || share != 0 {
		t.Errorf("%g of the pictures differs, %v", share, err)
	}
}

// TestVisitorLeavesOutWhatMayDiffer: a clock, an advertisement.
func TestVisitorLeavesOutWhatMayDiffer(t *testing.T) {
	clock := func(content string) string {
		return `<p class="clock">` + content + ` <a href="/` + content + `">now</a></p>`
	}
	h := &visitedHost{
		captured: `<div id="app">` + prerendered + clock("9:00") + `</div>`,
		app:      strings.TrimSuffix(showAll, "`;\n") + clock("9:01") + "`; let n = 0; (function tick() { document.querySelector('.clock').firstChild.data = n++; requestAnimationFrame(tick) })()",
	}
	seen, v := observe(t, h, ObserveOptions{URL: "/page", Allow: []string{".ad, .banner", ".clock"}, Pictures: true})
	if v.Verdict != words.VerdictOK || len(v.Findings) > 0 {
		t.Errorf("%+v", v)
	}
	if _, share, err := takeover.Difference(seen.BeforePNG, seen.AfterPNG, seen.Places); err != nil || share != 0 || len(seen.Places) != 2 {
		t.Errorf("%g of the pictures differs, %v, %v", share, err, seen.Places)
	}
	if _, v = observe(t, h, ObserveOptions{URL: "/page"}); !slices.Contains(kinds(v, words.SeverityBreak), words.FindingTextLost) || !slices.Contains(kinds(v, words.SeverityBreak), words.FindingRestless) {
		t.Errorf("nothing is allowed, and: %+v", v)
	}
	_, err := shared.Observe(t.Context(), ObserveOptions{URL: "http://127.0.0.1:1/", Allow: []string{"p", ">"}})
	if _, refused := errors.AsType[*OptionsError](err); !refused {
		t.Errorf("a selector that is none: %v", err)
	}
}

// TestVisitorOfAHostilePageEnds: garbage and floods cost one verdict, and leave
// no page behind.
func TestVisitorOfAHostilePageEnds(t *testing.T) {
	before := len(shared.owned)
	t.Cleanup(func() { // after those that run beside each other
		shared.mu.Lock()
		defer shared.mu.Unlock()
		if left := len(shared.owned); left != before {
			t.Errorf("%d contexts are left of %d", left, before)
		}
	})
	for name, app := range map[string]string{
		"floods the console":  showAll + `for (let i = 0; i < 5000; i++) console.error('x'.repeat(2000), i)`,
		"throws without end":  showAll + `setInterval(() => { throw new Error('again ' + Math.random()) })`,
		"opens windows":       showAll + `for (let i = 0; i < 5; i++) window.open('/page')`,
		"asks":                showAll + `alert('hello'); confirm('?')`,
		"is deep":             showAll + `let d = document.body; for (let i = 0; i < 5000; i++) d = d.appendChild(document.createElement('div')); d.append('deep')`,
		"is wide":             showAll + `for (let i = 0; i < 60000; i++) document.body.append(document.createElement('p'), 'text ' + i)`,
		"breaks what we use":  showAll + `performance.now = Array.prototype.filter = Node.prototype.contains = Element.prototype.matches = window.getComputedStyle = () => { throw 1 }`,
		"takes itself away":   `document.documentElement.remove()`,
		"asks for thousands":  showAll + `for (let i = 0; i < 1500; i++) fetch('/data.json?' + i).catch(() => {})`,
		"loads a second page": showAll + `if (location.search === '') location.search = '?second'`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, v := observe(t, &visitedHost{app: app, files: map[string]string{"/data.json": "{}"}}, ObserveOptions{URL: "/page", Patience: 6 * time.Second})
			if len(v.Findings) > 100 || v.URL == "" {
				t.Errorf("%d findings", len(v.Findings))
			}
			t.Logf("%.300v", v)
		})
	}
}

// A caller that is gone gets no verdict on a page that had no time.
func TestVisitorWhoseCallerIsGoneLeavesAtOnce(t *testing.T) {
	before := len(shared.owned)
	h := &visitedHost{app: `await fetch('/never')`}
	base := h.start(t)
	gone := errors.New("the caller is gone")
	ctx, leave := context.WithCancelCause(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := shared.Observe(ctx, ObserveOptions{URL: base + "/page", Realms: []string{base}})
		ended <- err
	}()
	poll(t, "the document was asked for", func() bool {
		shared.mu.Lock()
		defer shared.mu.Unlock()
		return len(shared.owned) > before
	})
	leave(gone)
	if err := <-ended; !errors.Is(err, gone) {
		t.Errorf("%v", err)
	}
	if left := len(shared.owned); left != before {
		t.Errorf("%d contexts are left of %d", left, before)
	}
}
