package realm

import (
	"context"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rewarm/rewarm/internal/chrome"
	"github.com/rewarm/rewarm/internal/client"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// dump is the document in a real browser after its scripts have run.
func dump(t *testing.T, url string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	found, err := chrome.Find("")
	if err != nil {
		t.Fatal(err)
	}
	browser := exec.CommandContext(ctx, found, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
		"--user-data-dir="+t.TempDir(), "--virtual-time-budget=3000", "--dump-dom", url)
	browser.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	browser.Cancel = func() error { return syscall.Kill(-browser.Process.Pid, syscall.SIGKILL) }
	out, err := browser.Output()
	if err != nil {
		t.Fatalf("%s: %v", found, err)
	}
	return string(out)
}

// TestTakeoverInChrome puts what was prerendered under applications that begin
// in different ways: in the end only theirs is there.
func TestTakeoverInChrome(t *testing.T) {
	const before, after = `<!doctype html><html><head><title>t</title><style>.of-shell{}</style></head><body>`, `<script type="module" src="/app.js"></script></body></html>`
	cases := map[string]struct{ shell, captured, app, keeps string }{
		"replaces its mount": {
			`<div id="app">Loading</div>`, `<div id="app"><p>prerendered</p></div>`,
			`document.querySelector("#app").innerHTML = "<p>application</p>"`, ""},
		"appends to its mount": {
			`<div id="app"></div>`, `<div id="app"><p>prerendered</p></div>`,
			`const p = document.createElement("p"); p.textContent = "application"; document.querySelector("#app").append(p)`, ""},
		"appends to the body": {
			`<header id="h">of the shell</header>`, `<header id="h">of the shell</header><div class="view">prerendered</div>`,
			`setTimeout(() => { const p = document.createElement("p"); p.textContent = "application"; document.body.append(p) }, 50)`, "of the shell"},
		"replaces a splash in the body": {
			`<div id="splash">wait</div>`, `<div class="view">prerendered</div>`,
			`document.querySelector("#splash").remove(); const p = document.createElement("p"); p.textContent = "application"; document.body.append(p)`, ""},
		"appends beside what the shell has": {
			`<div id="app"><nav>of the shell</nav></div>`, `<div id="app"><nav>of the shell</nav><main>prerendered</main></div>`,
			`const p = document.createElement("main"); p.textContent = "application"; document.querySelector("#app").append(p)`, "of the shell"},
		// As Lit does: it takes a root that is there, and writes beside what is in it.
		"defines its components long before it renders": {
			`<div id="app"></div>`, `<div id="app"><my-card><template shadowrootmode="open"><p>prerendered</p><my-card><template shadowrootmode="open">prerendered</template></my-card></template></my-card></div>`,
			`const seen = [];
			customElements.define("my-card", class extends HTMLElement { connectedCallback() { (this.shadowRoot ?? this.attachShadow({mode: "open"})).append("card") } });
			seen.push(document.querySelector("my-card").shadowRoot.textContent);
			setTimeout(() => { document.querySelector("#app").innerHTML = "<p>application</p>"; document.body.append(...seen) }, 50)`, "card"},
		"adopts what it finds": {
			`<div id="app"></div>`, `<div id="app"><p>prerendered</p></div>`,
			`const a = document.querySelector("#app"); a.firstElementChild.textContent = "application"; a.append(document.createElement("footer"))`, "<footer>"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			o, f, _ := rendering(t)
			put(t, o.Host, map[string]string{"index.html": before + c.shell + after, "app.js": c.app})
			f.visited = func(_ wire.VisitRequest, call client.Call) (client.VisitAnswer, error) {
				captured := strings.Replace(before, "</head>", `<style>.run-time{}</style><style data-rewarm-prerendered="" media="all">.run-time-adopted{}</style></head>`, 1) + c.captured + after
				return client.VisitAnswer{Token: call.Pin, Result: wire.VisitResult{Capture: words.Capture{Status: words.StatusReady, HTTPStatus: 200, HTML: captured}}}, nil
			}
			s, _ := start(t, o)
			get(t, s, "/")
			contains(t, hit(t, s, "/").body, "prerendered", ".run-time", ".run-time-adopted")
			document := dump(t, s.URL()+"/")
			contains(t, document, c.keeps, ".of-shell")
			if strings.Count(document, "application") != 1 {
				t.Errorf("the application's content must be there once: %s", document)
			}
			for _, gone := range []string{"prerendered", ".run-time", "MutationObserver"} {
				if strings.Contains(document, gone) {
					t.Errorf("%q is still in %s", gone, document)
				}
			}
		})
	}
}

// TestPolicyOfTheShellLetsOurElementsIn has a browser judge what was added to a
// shell that forbids inline elements.
func TestPolicyOfTheShellLetsOurElementsIn(t *testing.T) {
	o, f, _ := rendering(t)
	shell := `<!doctype html><html><head><meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'self'; style-src 'self'"><title>t</title></head>` +
		`<body><header>of the shell</header><script src="/app.js"></script></body></html>`
	put(t, o.Host, map[string]string{"index.html": shell, "app.js": `addEventListener("load", () => {
		const width = of => "<" + getComputedStyle(document.querySelector(of)).width + ">";
		const p = document.createElement("p");
		p.textContent = "saw " + width(".head") + width(".body");
		document.body.append(p);
	})`})
	f.visited = func(_ wire.VisitRequest, call client.Call) (client.VisitAnswer, error) {
		a := ready(call.Pin, "")
		a.Result.HTML = `<html><head><title>t</title><style>.head{width:7px}</style></head><body><header>of the shell</header>` +
			`<main><style>.body{width:9px}</style><p class="head">prerendered</p><p class="body">prerendered</p></main><script src="/app.js"></script></body></html>`
		return a, nil
	}
	s, _ := start(t, o)
	get(t, s, "/")
	hit(t, s, "/")
	document := dump(t, s.URL()+"/")
	contains(t, document, "saw &lt;7px&gt;&lt;9px&gt;", "of the shell")
	for _, gone := range []string{"prerendered", "MutationObserver"} {
		if strings.Contains(document, gone) {
			t.Errorf("%q is still in %s", gone, document)
		}
	}
}
