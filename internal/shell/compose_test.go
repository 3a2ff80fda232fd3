package shell

import (
	"errors"
	"strings"
	"testing"
)

const reactShell = `<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<title>App</title>
<meta name="description" content="the app">
<link rel="stylesheet" href="/assets/a.css">
<script type="module" src="/assets/index-abc.js"></script>
</head><body><noscript>no</noscript>
<div id="root"><p>Loading</p></div>
</body></html>
`

func compose(t *testing.T, shell, capture string) string {
	t.Helper()
	out, err := Compose([]byte(shell), capture, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return string(out.HTML)
}

func has(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is missing in\n%s", part, text)
		}
	}
}

func hasNot(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if strings.Contains(text, part) {
			t.Errorf("%q must not be in\n%s", part, text)
		}
	}
}

// afterBoot is the shell as its application leaves it.
func afterBoot(shell string, replace ...string) string {
	return strings.NewReplacer(replace...).Replace(shell)
}

func TestMountElementIsFilledInPlace(t *testing.T) {
	capture := afterBoot(reactShell, `<p>Loading</p>`, `<main onclick="x()"><h1>Hello &amp; you</h1><script>evil()</script><a href=" java
script:alert(1)">x</a></main>`,
		`<title>App</title>`, `<title>Product &lt;7&gt;</title>`, `content="the app"`, `content="seven &quot;7&quot;"`,
		`</head>`, `<link rel="canonical" href="https://x.example/7"><meta property="og:title" content="Seven"><style id="lib" data-lib="x" media="all">.run{time:1}</style><link rel="stylesheet" href="/assets/lazy.css"><script src="/assets/lazy.js"></script><script type="application/ld+json">{"a":"</"}</script></head>`)
	out := compose(t, reactShell, capture)
	has(t, out, `<div id="root"><main><h1>Hello &amp; you</h1><a>x</a></main><script>`, `</script></div>
</body></html>`,
		`<title>Product &lt;7&gt;</title>`, `content="seven &#34;7&#34;"`, `rel="canonical"`, `og:title`,
		`<style media="all" data-rewarm-prerendered="">.run{time:1}</style>`, `<link rel="stylesheet" href="/assets/lazy.css" data-rewarm-prerendered=""/>`, `{"a":"\u003c/"}`)
	hasNot(t, out, "evil", "lazy.js", "Loading", "onclick", "alert(1)", "the app", "data-rewarm-at", `<div data-rewarm-prerendered`)
	if strings.Count(out, `src="/assets/index-abc.js"`) != 1 || strings.Count(out, "a.css") != 1 {
		t.Errorf("the shell's script and style must be there once:\n%s", out)
	}
}

func TestUnchangedCaptureGivesTheShellItself(t *testing.T) {
	if out := compose(t, reactShell, reactShell); out != reactShell {
		t.Errorf("changed:\n%s", out)
	}
}

func TestBodyAppendIsWrappedWhereItStood(t *testing.T) {
	shell := `<!doctype html><html><head><title>E</title></head><body><header id=top>T</header><script src="/app.js"></script></body></html>`
	capture := `<!doctype html><html><head><title>E</title></head><body class="ember-application"><header id="top">T</header><script src="/app.js"></script><div class="ember-view"><p>Page</p></div><script src="/injected.js"></script></body></html>`
	out := compose(t, shell, capture)
	has(t, out, `<script src="/app.js"></script><div data-rewarm-prerendered><div class="ember-view"><p>Page</p></div></div><script>`, `(1)</script></body></html>`)
	hasNot(t, out, "injected")
}

func TestAppenderThatKeepsTheShellsContentIsWrapped(t *testing.T) {
	shell := `<body><div id=app><nav>N</nav></div><script src=a.js></script></body>`
	out := compose(t, shell, `<body><div id="app"><nav>N</nav><main>M</main></div><script src="a.js"></script></body>`)
	has(t, out, `<nav>N</nav><div data-rewarm-prerendered><main>M</main></div><script>`)
}

func TestMountBesidePortalKeepsItsPlace(t *testing.T) {
	shell := `<body><div id=root></div><script src=a.js></script></body>`
	out := compose(t, shell, `<body><div id="root"><h1>R</h1></div><script src="a.js"></script><div id="portal"></div><div id="toast">Hi</div></body>`)
	has(t, out, `<div id=root><h1>R</h1><script>`, `<div data-rewarm-prerendered><div id="toast">Hi</div></div>`)
	hasNot(t, out, "portal")
}

func TestComponentsKeepTheirShadowRoots(t *testing.T) {
	shell := `<head></head><body><div id=root></div><my-bar></my-bar><script src=a.js></script></body>`
	card := `<my-card><template shadowrootmode="open"><p onclick="x()">In the root</p><script>evil()</script><style data-rewarm-prerendered="">p{top:0}</style></template></my-card>`
	out := compose(t, shell, `<head><style data-rewarm-prerendered="" media="print">.adopted{top:0}</style></head><body><div id="root">`+card+
		`</div><my-bar><template shadowrootmode="open">The shell's own</template></my-bar><script src="a.js"></script></body>`)
	has(t, out, `<div id=root><my-card><template shadowrootmode="open"><p>In the root</p><style data-rewarm-prerendered="">p{top:0}</style></template></my-card><script>`, `(-1,1)</script></div>`,
		`<style media="print" data-rewarm-prerendered="">.adopted{top:0}</style></head>`, `<my-bar></my-bar>`)
	hasNot(t, out, "evil", "onclick", "The shell")
	out = compose(t, `<body><my-app></my-app></body>`, `<body><my-app><template shadowrootmode="open"><slot></slot></template><p>Light</p></my-app></body>`)
	has(t, out, `<my-app><p>Light</p><script>`, `(-1)</script></my-app>`)
	hasNot(t, out, "shadowrootmode")
}

func TestElementsThatThePageRemovedAreRemoved(t *testing.T) {
	shell := `<head><title>a</title><meta name=robots content=noindex></head><body><div id=r></div></body>`
	out := compose(t, shell, `<head><title>b</title></head><body><div id="r">x</div></body>`)
	hasNot(t, out, "noindex", "<title>a")
	has(t, out, "<title>b</title></head>")
}

func TestNothingOfTheCaptureRuns(t *testing.T) {
	shell := `<head></head><body><div id=r></div></body>`
	for _, hostile := range []string{
		`<svg><script>alert(1)</script></svg>`, `<img src=x onerror=alert(1)>`, `<iframe srcdoc="<script>alert(1)</script>"></iframe>`,
		`<iframe src="javascript:alert(1)"></iframe>`, `<form action="JaVaScRiPt:alert(1)"></form>`, `<template><script>alert(1)</script></template>`,
		`<noscript><p title="</noscript><img src=x onerror=alert(1)>"></noscript>`, `<math><mtext><script>alert(1)</script></mtext></math>`,
		`<!--><img src=x onerror=alert(1)>-->`, `<svg><animate attributeName=href to=javascript:alert(1) /></svg>`,
		`<xmp></xmp><script>alert(1)</script>`, `<meta http-equiv=refresh content="0;url=javascript:alert(1)">`,
	} {
		out := compose(t, shell, `<head></head><body><div id=r><p>text</p>`+hostile+`</div></body>`)
		hasNot(t, out, "alert(1)")
	}
}

func TestPolicies(t *testing.T) {
	shell := func(policy string) string {
		return `<head><meta http-equiv="Content-Security-Policy" content="` + policy + `"></head><body><script nonce=n1 src=a.js></script></body>`
	}
	capture := `<head></head><body><script nonce="" src="a.js"></script><p>x</p></body>`
	result, err := Compose([]byte(shell("script-src 'self'")), capture, Options{})
	if err != nil || len(result.ScriptHashes) != 1 {
		t.Fatal(result.ScriptHashes, err)
	}
	has(t, string(result.HTML), `script-src &#39;self&#39; &#39;sha256-`)
	has(t, compose(t, shell("script-src 'nonce-n1'"), capture), `<script nonce="n1">(function`)
	has(t, compose(t, shell("script-src 'unsafe-inline'"), capture), `content="script-src 'unsafe-inline'"`)
	has(t, compose(t, shell("img-src 'self'"), capture), `content="img-src 'self'"`)
	given, err := Compose([]byte(shell("script-src 'self'")), capture, Options{Nonce: `a"b`})
	if err != nil || len(given.ScriptHashes) != 0 {
		t.Fatal(given.ScriptHashes, err)
	}
	has(t, string(given.HTML), `<script nonce="a&#34;b">`)
	if got := AllowScripts("default-src 'none'; img-src *", []string{"'sha256-x'"}); got != "default-src 'sha256-x'; img-src *" {
		t.Error(got)
	}
}

func TestPlacesThatTakeNoContent(t *testing.T) {
	shell := `<body><table id=t><tr id=u><td>1</td></tr></table></body>`
	_, err := Compose([]byte(shell), `<body><table id="t"><tbody><tr id="u"><td>1</td><td>2</td></tr></tbody></table></body>`, Options{})
	if !errors.Is(err, ErrNotComposable) {
		t.Error(err)
	}
	_, err = Compose([]byte(`<body><!-- never closed`), `<body><p>x</p></body>`, Options{})
	if !errors.Is(err, ErrNotComposable) {
		t.Error(err)
	}
}

func TestAssets(t *testing.T) {
	shell := `<head><link rel=modulepreload href="/a/p.js"><link rel="stylesheet" href="a/s.css?v=1"><link rel=icon href=/i.ico>
<script src="https://cdn.example/x.js"></script><script src="http://h:1/a/m%20x.js#f"></script><script type="application/ld+json" src=/no.js></script></head>
<body><script type=module src=../../up.js></script><script src="a/s.css?v=1"></script><script>1</script></body>`
	got := strings.Join(Assets([]byte(shell), "http://h:1"), " ")
	if want := "a/m x.js a/p.js a/s.css up.js"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if n := Scripts([]byte(shell)); n != 5 {
		t.Error(n)
	}
	if got := Assets([]byte(`<base href="/app/"><script src=x.js></script>`), "http://h"); len(got) != 1 || got[0] != "app/x.js" {
		t.Error(got)
	}
}
