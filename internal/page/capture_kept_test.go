package page

import (
	"strings"
	"testing"

	"github.com/rewarm/rewarm/internal/words"
)

// formsJS fills a form as a visitor would, and opens what can be opened.
const formsJS = `
const $ = id => document.getElementById(id);
$('text').value = 'typed'; $('area').value = 'typed'; $('box').checked = true; $('set').checked = false; $('radio').checked = true;
$('box').indeterminate = true; $('select').value = 'two'; $('bar').value = 1;
$('pop').showPopover(); $('text').focus(); $('text').setSelectionRange(1, 2); $('text').setCustomValidity('typed wrongly');
$('dialog').showModal(); $('dialog').close(); $('details').open = true; $('details').open = false; $('shown').show();
$('box').secret = 'typed'; $('canvas').getContext('2d').fillText('typed', 0, 0); document.body.scrollTop = 7;
`

func TestCaptureHasWhatTheApplicationSetAndNothingThatWasTyped(t *testing.T) {
	const form = `<input id="text" value="given" autofocus=""><textarea id="area">given</textarea><input id="box" type="checkbox"><input id="set" type="checkbox" checked="">` +
		`<input id="radio" type="radio"><select id="select"><option>one</option><option>two</option></select><progress id="bar" value="0"></progress>` +
		`<div id="pop" popover="">pop</div><dialog id="dialog">modal</dialog><details id="details"><summary>s</summary>d</details><canvas id="canvas"></canvas>`
	h := newHost(t, map[string]string{"/app.js": formsJS})
	p := open(t, h, `<!DOCTYPE html><title>f</title><body>`+form+`<dialog id="shown">shown</dialog><script src="/app.js"></script>`)
	for _, name := range []string{"as it is", "written by us"} {
		c := h.render(t, p, "/x", navigating)
		// progress.value reflects its attribute: the application has set it.
		want := strings.Replace(form, `value="0"`, `value="1"`, 1) + `<dialog id="shown" open="">shown</dialog>`
		if !strings.Contains(c.Body, want) || strings.Contains(c.HTML, "typed") {
			t.Errorf("%s: %s", name, c.HTML)
		}
		h.set("/app.js", formsJS+"for (const id of ['area', 'select', 'pop']) { $(id).insertAdjacentHTML('afterend', '<pre>\\n\\nodd</pre>'); $(id).nextSibling.remove() } document.body.append(Object.assign(document.createElement('pre'), {textContent: '\\nodd'}))")
	}
}

// What a capture did to the page would be there for the next transition.
func TestCaptureLeavesThePageAsItIs(t *testing.T) {
	h := newHost(t, map[string]string{"/i.png": "\x89PNG", "/app.js": `
window.built = 0; window.hooked = 'first';
customElements.define('x-a', class extends HTMLElement { constructor() { super(); window.built++ } });
customElements.define('x-b', class extends HTMLElement { constructor() { super(); window.built++; this.attachShadow({mode: 'open'}).innerHTML = '<img src=/i.png nonce=n>' } });
document.body.append(document.createElement('x-a'), document.createElement('x-b'), Object.assign(document.createElement('pre'), {textContent: '\nx'}));
document.querySelector('x-a').setAttribute('nonce', 'n');
window.onhashchange = () => { window.hooked = 'own' };
const sheet = new CSSStyleSheet(); sheet.replaceSync('p{color:red}'); document.adoptedStyleSheets = [sheet];
window.seen = 0; new MutationObserver(() => seen++).observe(document, {subtree: true, childList: true, attributes: true, characterData: true});
`})
	p := open(t, h, `<!DOCTYPE html><body onhashchange="hooked = 'attribute'"><script src="/app.js"></script>`)
	for range 2 {
		if c := h.render(t, p, "/x", navigating); c.Status != words.StatusReady || !strings.Contains(c.HTML, `<template shadowrootmode="open"><img src="/i.png"></template>`) {
			t.Fatalf("%s", brief(c))
		}
	}
	images := h.count("/i.png")
	var state evaluated[[]any]
	expression := "__rewarm.io.capture(0,[],1e6,'document');" +
		"(async()=>{location.hash='#x';await new Promise(r=>addEventListener('hashchange',r));return [built,hooked,seen,document.adoptedStyleSheets.length,document.styleSheets.length]})()"
	if err := p.evaluate(limited(t, testLimit), expression, &state); err != nil {
		t.Fatal(err)
	}
	if got := state.Result.Value; len(got) != 5 || got[0] != 2.0 || got[1] != "own" || got[2] != 0.0 || got[3] != 1.0 || got[4] != 0.0 {
		t.Errorf("elements built, handler, mutations, adopted, sheets: %v", got)
	}
	if n := h.count("/i.png"); n != images {
		t.Errorf("capturing fetched %d images", n-images)
	}
}

func TestLinksAreThoseOfTheRealmAsTheBrowserReadsThem(t *testing.T) {
	const hrefs = `['/a', '/a#x', '/b/?q=1&r=2', '/c/../d', '/e/./f', '/.g', '/h%20i', '/ü', ' /j ', '//k/l', '/m\\n', 'n', '?o=1', '', '#p', '/q?<>', '/r?a=../b',
	'mailto:x@y', 'javascript:1', 'http://elsewhere.example/', location.origin + '0/x', location.origin, '/s.t.u/v~w_-', '/x//y', '/z/..', '/' + 'l'.repeat(9000)]`
	h := newHost(t, map[string]string{"/app.js": `
for (const href of ` + hrefs + `) { const a = document.createElement('a'); a.setAttribute('href', href); document.body.append(a) }
document.body.insertAdjacentHTML('beforeend', '<svg><a href="/svg"></a></svg><div id=h></div>'); h.attachShadow({mode: 'open'}).innerHTML = '<a href="/in-a-shadow"></a><a href="/a"></a>';
for (let i = 0; i < 6000; i++) { if (location.pathname === '/many') document.body.append(Object.assign(document.createElement('a'), {href: '/many/' + i + '/' + '#'})) }`})
	for _, base := range []string{"", `<base href="/deep/er/">`, `<base href="http://elsewhere.example/">`} {
		p := open(t, h, `<!DOCTYPE html>`+base+`<body><script src="`+h.URL+`/app.js"></script>`)
		c := h.render(t, p, "/links", navigating)
		var want evaluated[[]string]
		expression := `(() => { const at = location.origin, all = [...document.querySelectorAll('a'), ...h.shadowRoot.querySelectorAll('a')].map(a => typeof a.href === 'string' ? a.href.split('#')[0] : new URL(a.href.baseVal, document.baseURI).href);
			return [...new Set(all)].filter(u => u.length < 8192 && (u === at || u.startsWith(at + '/') || u.startsWith(at + '?'))) })()`
		if err := p.evaluate(t.Context(), expression, &want); err != nil {
			t.Fatal(err)
		}
		if got, want := strings.Join(c.Links, "\n"), strings.Join(want.Result.Value, "\n"); got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", base, got, want)
		}
		if c = h.render(t, p, "/many", navigating); len(c.Links) != 5000 && base == "" {
			t.Errorf("%d links", len(c.Links))
		}
	}
}

func TestWhatAPageMakesLargeIsBounded(t *testing.T) {
	h := newHost(t, map[string]string{"/app.js": `
document.title = 't'.repeat(1e6); history.replaceState(0, '', '/x?' + 'u'.repeat(1e5));
document.head.insertAdjacentHTML('beforeend', ('<meta name="prerender-header" content="X-' + 'h'.repeat(9000) + ': 1">').repeat(99) + '<meta name="prerender-header" content="A: b"><meta name="prerender-status-code" content="' + '4'.repeat(1e5) + '">');
for (let i = 0; i < 300; i++) console.log('l'.repeat(1e5), NaN, 1n, undefined);
const big = new CSSStyleSheet(); big.replaceSync(('.' + 'c'.repeat(1e5) + '{top:0}').repeat(10));
for (let i = 0; i < 50; i++) { const d = document.createElement('span'); d.attachShadow({mode: 'open'}).innerHTML = '<b>' + i + '</b>'; d.shadowRoot.adoptedStyleSheets = [big]; document.body.append(d) }`})
	p := open(t, h, appShell)
	c := h.render(t, p, "/x", navigating)
	if c.Status != words.StatusReady || len(c.Title) > 8192 || len(c.FinalURL) > 8192 || len(c.Headers) > 50 || len(c.HTML) > 6<<20 || c.HTTPStatus != 200 {
		t.Errorf("%s, title %d, url %d, headers %d, html %d, status %d", c.Status, len(c.Title), len(c.FinalURL), len(c.Headers), len(c.HTML), c.HTTPStatus)
	}
	if !strings.Contains(c.HTML, "<b>49</b>") {
		t.Error("content is missing")
	}
	if len(c.Console) != 100 || len(c.Console[0].Text) > 1024 {
		t.Errorf("%d console lines, the first of %d bytes", len(c.Console), len(c.Console[0].Text))
	}
	h.set("/app.js", "console.log(NaN, 1n, undefined, null, -0)")
	if c = h.render(t, p, "/x", navigating); len(c.Console) != 1 || c.Console[0].Text != "NaN 1n undefined null -0" {
		t.Errorf("%v", c.Console)
	}
	h.set("/app.js", "Object.defineProperty(document, 'title', {get() { throw new Error('no title for you') }}); window.prerenderTransitionTo = async () => { window.prerenderReady = true }")
	for _, how := range []func(*words.Visit){navigating, nil} {
		if c = h.render(t, p, "/x", how); c.Status != words.StatusReady || !strings.Contains(c.HTML, `<div id="app">`) {
			t.Errorf("%s", brief(c))
		}
	}
}
