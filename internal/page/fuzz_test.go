package page

import (
	"net/url"
	"strings"
	"testing"

	"github.com/rewarm/rewarm/internal/words"
)

// FuzzAssetsOf reads the files that a shell names.
func FuzzAssetsOf(f *testing.F) {
	f.Add([]byte(`<base href="/app/"><script src=x.js></script><link rel="a StyleSheet" href="//cdn/y.css#f">`), "http://h/_standby")
	f.Add([]byte(`<script>1</script><script type=application/json src=/n.json></script><script src="http:x"></script>`), "http://h/")
	f.Add([]byte("<link rel=stylesheet href=data:text/css,><script src=\" \n\">"), "https://[::1]:1/a")
	f.Fuzz(func(t *testing.T, shell []byte, base string) {
		a := assetsOf(shell, base)
		for name, kind := range a.named {
			u, err := url.Parse(name)
			if err != nil || u.Host == "" || u.Fragment != "" || kind != "script" && kind != "stylesheet" {
				t.Fatalf("%s %q is named: %v", kind, name, err)
			}
			if !a.origins[u.Scheme+"://"+u.Host] {
				t.Errorf("%q is of none of %v", name, a.origins)
			}
			if kind == "script" && !a.scripts {
				t.Errorf("%q is named, and there is no script", name)
			}
		}
		if most := 1 + strings.Count(string(shell), "<"); len(a.named) > most || len(a.origins) > most {
			t.Errorf("%d names, %d origins in %q", len(a.named), len(a.origins), shell)
		}
	})
}

// FuzzFill takes what a page gave, which the page itself may have made up.
func FuzzFill(f *testing.F) {
	f.Add("<head>", "</head><body>", "x", "404", "Location: /x", "Link:a\nb")
	f.Add("\xff", "", "", " 99 ", "no header", ": x")
	f.Fuzz(func(t *testing.T, head, mid, body, code, line, other string) {
		got := captured{Pre: "<!doctype html>", Head: head, Mid: mid, Body: body, Post: "</html>", Code: code, Headers: []string{line, other}}
		c := words.Capture{HTTPStatus: 200, Headers: map[string]string{}}
		got.fill(&c)
		if c.HTML != got.Pre+head+mid+body+got.Post || c.Head != head || c.Body != body {
			t.Errorf("%+v gives %q with head %q and body %q", got, c.HTML, c.Head, c.Body)
		}
		if c.HTTPStatus < 200 || c.HTTPStatus > 599 {
			t.Errorf("status %d", c.HTTPStatus)
		}
		for name, value := range c.Headers {
			if strings.ContainsAny(name, " \t\r\n:\x00") || name == "" || strings.ContainsAny(value, "\r\n\x00") {
				t.Errorf("a page gives header %q: %q", name, value)
			}
		}
	})
}

func TestAssetsAreResolvedAgainstTheFirstBase(t *testing.T) {
	shell := `<base target="_top"><base href="/one/"><base href="/two/"><script src="a.js"></script>`
	if a := assetsOf([]byte(shell), "http://host.example/"); a.named["http://host.example/one/a.js"] != "script" {
		t.Errorf("named %v", a.named)
	}
}
