package page

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rewarm/rewarm/internal/words"
)

// rover is an application whose routes may do something when they are entered,
// and return what undoes it. Without the latter it leaves it behind.
const rover = `
const app = document.getElementById('app'), routes = {};
let leave, untitled;
const add = (parent, html) => { parent.insertAdjacentHTML('beforeend', html); const el = parent.lastElementChild; return () => el.remove() };
async function go(path) {
  if (leave) leave();
  app.textContent = 'page ' + path;
  if (path !== untitled) document.title = app.textContent;
  leave = routes[path] && await routes[path]();
  window.prerenderReady = true;
}
window.prerenderTransitionTo = path => { history.pushState(null, '', path); return go(path) };
`

const roverStart = `
window.prerenderReady = false;
go(location.pathname);`

const roverShell = `<!DOCTYPE html><html><head><title>shell</title><meta name="description" content="shell"></head><body><div id="app"></div><script type="module" src="/app.js"></script></body></html>`

func newRover(t *testing.T, script string) *host {
	t.Helper()
	return newHost(t, map[string]string{"/app.js": rover + script + roverStart, "/worker.js": "", "/a.css": ".a{color:red}",
		"/b.css": ".b{color:red}", "/all.css": "div{color:red}", "/chunk.js": "export {}"})
}

// fresh is what a page that was nowhere else shows at path.
func (h *host) fresh(t *testing.T, path string) string {
	t.Helper()
	o := h.options(roverShell)
	p, err := shared.Open(limited(t, testLimit), o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Close() }()
	return h.render(t, p, path, isolated).HTML
}

func isolated(v *words.Visit) { v.Options.Mode = words.ModeIsolated }

// What a route leaves in the document or for it is never in the result of
// another, and is named.
func TestResidueThatShowsIsNotInTheNextResult(t *testing.T) {
	for _, c := range []struct{ name, script, want string }{
		{"meta", `routes['/a'] = () => { add(document.head, '<meta name="robots" content="noindex">') }`, `head: <meta name="robots" content="noindex">`},
		{"the same meta", `routes['/a'] = routes['/b'] = () => { add(document.head, '<meta name="robots" content="noindex">') }`, `head: <meta name="robots" content="noindex">`},
		{"changed meta", `routes['/a'] = () => { document.querySelector('meta[name=description]').content = 'of a' }`, `head: <meta name="description" content="of a">`},
		{"removed meta", `routes['/a'] = () => { const m = document.querySelector('meta[name=description]'); if (m) m.remove() }`, `removed: <meta name="description" content="shell">`},
		{"title", `untitled = '/b'`, "head: <title>page /a"},
		{"data for search engines", `routes['/a'] = () => { add(document.head, '<script type="application/ld+json">{"a":1}</script>') }`, `head: <script type="application/ld+json">{"a":1}`},
		{"meta that two routes share", `routes['/a'] = routes['/b'] = () => { if (!document.querySelector('meta[name=robots]')) add(document.head, '<meta name="robots" content="noindex">') }`, `head: <meta name="robots" content="noindex">`},
		{"a counter of visits", `routes['/a'] = () => { localStorage.visits = 1 + +(localStorage.visits || 0); app.append(localStorage.visits) }`, "localStorage: visits"},
		{"style", `routes['/a'] = () => { add(document.head, '<style data-a>h1 { color: red }</style>') }`, `style: <style data-a="">h1 { color: red } 17`},
		{"growing style", `add(document.head, '<style id="css">p{}</style>'); const css = document.getElementById('css');
			routes['/a'] = () => { css.append('.a{}') }; routes['/b'] = () => { css.append('.b{}') }`, `style: <style id="css">p{} 7`},
		{"style sheet", `routes['/a'] = () => new Promise(done => { add(document.head, '<link rel="stylesheet" href="/all.css">'); document.head.lastElementChild.onload = () => done() })`, `head: <link rel="stylesheet" href="/all.css">`},
		{"portal", `routes['/a'] = () => { add(document.body, '<div id="modal" class="open wide">a</div>') }`, "body: div#modal.open.wide"},
		{"class of the body", `routes['/a'] = () => { document.body.classList.add('locked') }`, "attribute: body class=locked"},
		{"language", `routes['/a'] = () => { document.documentElement.lang = 'de' }`, "attribute: html lang=de"},
		{"theme", `routes['/a'] = () => { document.documentElement.dataset.theme = 'dark' }`, "attribute: html data-theme=dark"},
		{"style of the body", `routes['/a'] = () => { document.body.style.overflow = 'hidden' }`, "attribute: body style=overflow: hidden;"},
		{"localStorage", `routes['/a'] = () => { localStorage.setItem('last', 'a') }; routes['/b'] = () => { app.append(localStorage.getItem('last') || '') }`, "localStorage: last"},
		{"sessionStorage", `routes['/a'] = () => { sessionStorage.last = 'a' }; routes['/b'] = () => { app.append(sessionStorage.last || '') }`, "sessionStorage: last"},
		{"cookie", `routes['/a'] = () => { document.cookie = 'last=a; path=/' }; routes['/b'] = () => { app.append(document.cookie) }`, "cookie: last"},
		{"indexedDB", `routes['/a'] = () => new Promise(done => { indexedDB.open('last').onsuccess = () => done() });
			routes['/b'] = async () => { app.append(JSON.stringify((await indexedDB.databases()).map(d => d.name))) }`, "indexedDB: last"},
		{"caches", `routes['/a'] = async () => { await caches.open('last') }; routes['/b'] = async () => { app.append(JSON.stringify(await caches.keys())) }`, "cache: last"},
		{"scroll", `add(document.body, '<div style="height:9999px"></div>'); routes['/a'] = () => new Promise(done => { addEventListener('scroll', () => done(), {once: true}); scrollTo(0, 500) });
			routes['/b'] = () => { app.append(String(scrollY)) }`, "scroll: position"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newRover(t, c.script)
			want := map[string]string{"/a": h.fresh(t, "/a"), "/b": h.fresh(t, "/b"), "/c": h.fresh(t, "/c")}
			p := open(t, h, roverShell)
			var seen []string
			for _, path := range []string{"/a", "/b", "/c", "/a", "/a", "/b", "/c"} {
				got := h.render(t, p, path, nil)
				if d := cmp.Diff(want[path], got.HTML); d != "" {
					t.Fatalf("%s: %s; %+v", path, d, p.Report())
				}
				seen = append(seen, p.Report().Residue...)
			}
			if len(seen) == 0 || seen[0] != c.want {
				t.Errorf("named %q, want %q", seen, c.want)
			}
		})
	}
}

func TestAPageThatAlwaysLeavesSomethingGivesTransitionsUp(t *testing.T) {
	h := newRover(t, `routes['/a'] = () => { add(document.head, '<meta name="robots" content="noindex">') }`)
	p := open(t, h, roverShell)
	for _, path := range []string{"/a", "/b", "/a", "/b", "/a", "/b"} {
		h.render(t, p, path, nil)
	}
	if h.render(t, p, "/c", nil); p.Report().Mode != words.ModeNavigate || p.Report().FellBack {
		t.Errorf("it still tries them: %+v, debt %d", p.Report(), p.residue.debt)
	}
}

// What adds up is named, and ends with the document.
func TestResidueThatGrowsEndsWithTheDocument(t *testing.T) {
	for _, c := range []struct{ name, script, want string }{
		{"listener", `routes['/a'] = () => { addEventListener('resize', () => app.append('a')) }`, "listener: window resize false () => app.append('a')"},
		{"listener of the document", `routes['/a'] = () => { document.addEventListener('click', { handleEvent() {} }, { capture: true }) }`, "listener: document click true handleEvent"},
		{"interval", `routes['/a'] = () => { setInterval(() => app.dataset.t = 1, 60000) }`, "timer: interval 60000 ms () => app.dataset.t = 1"},
		{"timeout", `routes['/a'] = () => { setTimeout(() => app.dataset.t = 1, 60000) }`, "timer: timeout 60000 ms () => app.dataset.t = 1"},
		{"event source", `routes['/a'] = () => { (window.all ??= []).push(new EventSource('/stream')) }`, "connection: EventSource"},
		{"worker", `routes['/a'] = () => { (window.all ??= []).push(new Worker('/worker.js')) }`, "connection: Worker"},
		{"globals", `let n = 0; routes['/a'] = () => { window['callback' + n++] = 1 }`, "global: names"},
		{"adopted style sheet", `routes['/a'] = () => { const s = new CSSStyleSheet(); s.replaceSync('p{}'); document.adoptedStyleSheets.push(s) }`, "adopted: style sheet of 1 rules"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newRover(t, c.script)
			p := open(t, h, roverShell)
			rounds := 0
			for rounds < 8 && len(p.Report().Residue) == 0 {
				h.render(t, p, "/a", nil)
				if len(p.Report().Residue) == 0 {
					h.render(t, p, "/b", nil)
				}
				rounds++
			}
			if got := p.Report().Residue; len(got) != 1 || got[0] != c.want {
				t.Fatalf("named %q after %d rounds, want %q", got, rounds, c.want)
			}
			if h.render(t, p, "/a", nil); p.Report().Mode != words.ModeNavigate || p.Report().FellBack {
				t.Errorf("the next render: %+v", p.Report())
			}
			if h.render(t, p, "/b", nil); p.Report().Mode != words.ModeTransition || len(p.Report().Residue) > 0 {
				t.Errorf("the one after that: %+v", p.Report())
			}
		})
	}
}

// What an application may do for all its routes is no residue.
func TestResidueIsNotWhatBelongsToAllRoutes(t *testing.T) {
	for _, c := range []struct {
		name, script string
		trials       int // what was done twice to find out
	}{
		{"nothing", ``, 0},
		{"undone class", `routes['/a'] = () => { document.body.className = 'a'; return () => document.body.removeAttribute('class') }`, 0},
		{"undone class, toggled", `document.body.className = 'x'; routes['/a'] = () => { document.body.classList.add('a'); return () => document.body.classList.remove('a') }`, 0},
		{"one interval", `setInterval(() => {}, 1000)`, 0},
		{"one interval, made late", `let i; routes['/a'] = () => { i ??= setInterval(() => {}, 1000) }`, 0},
		{"undone interval", `routes['/a'] = () => { const i = setInterval(() => {}, 1000); return () => clearInterval(i) }`, 0},
		{"timeout that is made again", `let i; routes['/a'] = routes['/b'] = () => { clearTimeout(i); i = setTimeout(() => {}, 5000) }`, 0},
		{"undone listener", `const f = () => {}; routes['/a'] = () => { addEventListener('resize', f); return () => removeEventListener('resize', f, false) }`, 0},
		{"aborted listener", `routes['/a'] = () => { const c = new AbortController(); document.addEventListener('click', () => {}, {signal: c.signal}); return () => c.abort() }`, 0},
		{"the same listener again", `const f = () => {}; routes['/a'] = () => { addEventListener('resize', f) }`, 0},
		{"listener that is undone late", `routes['/a'] = () => { const f = () => {}; addEventListener('resize', f); return () => setTimeout(() => removeEventListener('resize', f), 1) }`, 0},
		{"once", `routes['/a'] = () => { addEventListener('resize', () => {}, {once: true}) }`, 0},
		{"storage at the start", `sessionStorage.cache ??= 'x'; localStorage.setItem('id', '1'); document.cookie = 'id=1'`, 0},
		{"undone storage", `routes['/a'] = () => { sessionStorage.last = 1; document.cookie = 'last=1'; return () => { delete sessionStorage.last; document.cookie = 'last=; max-age=0' } }`, 0},
		{"storage that is not shown", `routes['/a'] = () => { localStorage.visits = 1 + +(localStorage.visits || 0) }`, 3},
		{"tags in place", `const tag = () => document.querySelector('meta[name=robots]') || (add(document.head, '<meta name="robots">'), document.head.lastElementChild);
			const plain = go; go = path => { tag().content = 'all'; return plain(path) }`, 0},
		{"tags that stay because they are equal", `add(document.head, '<meta name="robots" content="all">')`, 0},
		{"tag that some routes share", `const want = p => p === '/c' ? '' : 'all'; const plain = go;
			go = path => { const m = document.querySelector('meta[name=robots]'); if (want(path) && !m) add(document.head, '<meta name="robots" content="all">'); if (!want(path) && m) m.remove(); return plain(path) }`, 0},
		{"tag that no start page has", `const plain = go; go = path => { if (path !== '/_standby' && !document.querySelector('meta[name=robots]')) add(document.head, '<meta name="robots" content="all">'); return plain(path) }`, 3},
		{"layout that no start page has", `const plain = go; go = path => { if (path !== '/_standby' && !document.getElementById('nav')) add(document.body, '<nav id="nav"></nav>'); return plain(path) }`, 3},
		{"style that grows by rules", `const s = document.createElement('style'); document.head.append(s); for (const r of ['/a', '/b', '/c']) routes[r] = () => { s.sheet.insertRule('.x' + r[1] + '{}') }`, 0},
		{"style that is replaced", `const s = document.createElement('style'); document.head.append(s); for (const r of ['/a', '/b', '/c']) routes[r] = () => { s.textContent = r }`, 0},
		{"hints", `routes['/a'] = () => { add(document.head, '<link rel="modulepreload" href="/chunk.js">') }; routes['/b'] = () => { add(document.head, '<link rel="prefetch" href="/chunk.js">') }`, 0},
		{"style sheets of routes", `const sheet = n => () => new Promise(done => { app.className = n; if (document.querySelector('[href="/' + n + '.css"]')) return done();
			const l = document.createElement('link'); l.rel = 'stylesheet'; l.href = '/' + n + '.css'; l.onload = () => done(); document.head.append(l) });
			routes['/a'] = sheet('a'); routes['/b'] = sheet('b'); routes['/c'] = () => { app.className = 'c' }`, 2},
		{"one connection", `window.s = new EventSource('/stream')`, 0},
		{"closed connections", `routes['/a'] = () => { const s = new EventSource('/stream'), w = new Worker('/worker.js'); return () => { s.close(); w.terminate() } }`, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newRover(t, c.script)
			p := open(t, h, roverShell)
			q := open(t, h, roverShell)
			want, trials := map[string]string{}, 0
			for path := range strings.FieldsSeq("/a /b /a /c /b /c /a /b /a /c") {
				if want[path] == "" {
					want[path] = h.render(t, q, path, navigating).HTML
				}
				got := h.render(t, p, path, nil)
				if d := cmp.Diff(want[path], got.HTML); d != "" {
					t.Errorf("%s: %s", path, d)
				}
				r := p.Report()
				if len(r.Residue) > 0 || r.Mode != words.ModeTransition && !r.FellBack {
					t.Errorf("%s is accused: %+v", path, r)
				}
				if r.FellBack {
					trials++
				}
			}
			if trials != c.trials {
				t.Errorf("%d transitions were done again, want %d; known: %v", trials, c.trials, p.residue.known)
			}
		})
	}
}
