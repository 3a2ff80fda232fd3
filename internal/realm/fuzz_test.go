package realm

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rewarm/rewarm/internal/words"
)

// FuzzPath asks a realm server for any path. What it serves is a file of the
// release, or its shell; nothing beside them, whatever leads there.
func FuzzPath(f *testing.F) {
	host, data := f.TempDir(), f.TempDir()
	files := map[string]string{"index.html": `<body><script src=/a/app.js></script>`, "a/app.js": "app()", ".env": "SECRET", "x.txt": "text"}
	for name, content := range files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(host, name)), 0o755); err != nil {
			f.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(host, name), []byte(content), 0o644); err != nil {
			f.Fatal(err)
		}
	}
	proxied := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte("proxied " + path.Clean(r.URL.Path)))
	}))
	f.Cleanup(proxied.Close)
	target, err := url.Parse(proxied.URL)
	if err != nil {
		f.Fatal(err)
	}
	s, err := New(Options{Addr: "127.0.0.1:0", Host: host, DataDir: data, ProxyRules: []ProxyRule{{"/api", target}}, QueryAllow: []string{"q"}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(s.Close)
	served := []string{files["index.html"], files["a/app.js"], files["x.txt"]}
	for _, p := range []string{
		"/", "/a/app.js", "/x.txt?y", "/a/%2e%2e/.env", "/..%2f.env", "//x.txt", "/.env", "/order.json", "/%00", "/_standby?release=..", "/api/x", "/apix", "/products?q=1&q=2", "/api", "/%61pi/x",
	} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, target string) {
		u, err := url.ParseRequestURI(target)
		if err != nil || u.Host != "" || !strings.HasPrefix(target, "/") || strings.ContainsFunc(target, func(c rune) bool { return c <= ' ' || c > '~' }) {
			return // the server gives no such request to a handler
		}
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.URL, r.RequestURI = u, target
		w := httptest.NewRecorder()
		s.handler.ServeHTTP(w, r)
		body := w.Body.String()
		if to, ok := strings.CutPrefix(body, "proxied "); ok {
			if to != "/api" && !strings.HasPrefix(to, "/api/") {
				t.Errorf("%q is proxied to %q", target, to)
			}
			return
		}
		if own := slices.Contains([]string{"/_host-shell-hash", "/livez", "/readyz", "/metrics"}, u.Path); w.Code == http.StatusOK && !own && !slices.Contains(served, body) {
			t.Errorf("%q gives %q", target, body)
		}
		if w.Code >= 500 {
			t.Errorf("%q gives %d %s", target, w.Code, body)
		}
		if page, ok := only(s).pageURL(r, place{}); ok {
			again := httptest.NewRequest(http.MethodGet, page, nil)
			if same, ok := only(s).pageURL(again, place{}); !ok || same != page {
				t.Errorf("%q is page %q, and that is %q", target, page, same)
			}
		}
	})
}

// FuzzConditional reads what a caller says it has already, and what a page asks
// to be answered with.
func FuzzConditional(f *testing.F) {
	f.Add(`W/"abc", *`, "Location", "/x", "link", "<a>", 302)
	f.Add(`"abc-1" , "b,c"`, "X-Robots-Tag", "a\r\nSet-Cookie: x", "Set-Cookie", "x", 204)
	f.Add("", "Location", "javascript:x", "CACHE-CONTROL ", "No-Store, max-age=9", 301)
	f.Fuzz(func(t *testing.T, has, name, value, other, otherValue string, code int) {
		snapshot := words.Snapshot{HTTPStatus: code, Headers: map[string]string{name: value, other: otherValue}}
		kept := pageHeaders(snapshot.Headers, nil)
		tag := `"` + pageTag("abc", nil, status(snapshot), kept) + `"`
		if strings.ContainsAny(strings.Trim(tag, `"`), "\", \\\x7f") {
			t.Errorf("ETag %s", tag)
		}
		r := &http.Request{Header: http.Header{"If-None-Match": {has}}}
		if matches(r, tag) && !strings.Contains(has, tag) && !strings.Contains(has, "*") {
			t.Errorf("%q has %s", has, tag)
		}
		r.Header.Add("If-None-Match", "W/"+tag)
		if !matches(r, tag) {
			t.Errorf("%q has not %s", r.Header, tag)
		}
		for name, value := range kept {
			if !slices.Contains([]string{"Link", "Content-Language", "X-Robots-Tag", "Location", "Retry-After"}, name) || strings.ContainsAny(value, "\r\n\x00") {
				t.Errorf("a page sets %q: %q", name, value)
			}
		}
		for range 10 {
			if again := pageHeaders(snapshot.Headers, nil); !sameHeaders(again, kept) {
				t.Errorf("%q are %q and %q", snapshot.Headers, kept, again)
			}
		}
		if again := pageHeaders(kept, nil); !sameHeaders(again, kept) {
			t.Errorf("%q became %q", kept, again)
		}
		got := status(snapshot)
		if got < 200 || got > 599 || got == 204 || got == 205 || got == 206 || got == 304 || got/100 == 3 && kept["Location"] == "" {
			t.Errorf("%d is answered with %d", code, got)
		}
	})
}

func sameHeaders(a, b map[string]string) bool {
	x, _ := json.Marshal(a) // strings always marshal
	y, _ := json.Marshal(b)
	return bytes.Equal(x, y)
}

// FuzzNames finds the files that a host URL's scripts and pages may name.
func FuzzNames(f *testing.F) {
	f.Add("https://cdn.example/app/", "assets/a.js", `import("./b.js");"/app/c.css";'../../../d.json'`)
	f.Add("http://h/x.html", "a.js", `"a//b.js" "..//c.js" "x/.hidden/y.js" "./.../z.mjs"`)
	f.Add("http://h/%2e%2e/", ".well-known/x", "\"%2e%2e/a.js\"")
	f.Fuzz(func(t *testing.T, base, script, content string) {
		o, err := newOrigin(base)
		if err != nil {
			return
		}
		names := append(namesIn(script, []byte(content)), script)
		for i, name := range names {
			if i < len(names)-1 && (name == "" || path.Clean("/"+name) != "/"+name) {
				t.Errorf("%q names %q", content, name)
			}
			u, ok := o.locate(name)
			if !ok {
				continue
			}
			sent, err := url.Parse(u.String())
			if err != nil || sent.Host != o.base.Host || sent.Scheme != o.base.Scheme || sent.RawQuery != "" || sent.Fragment != "" {
				t.Fatalf("%q is asked for at %q: %v", name, u, err)
			}
			if clean := path.Clean(sent.Path); !strings.HasPrefix(clean, o.base.Path) || clean != sent.Path {
				t.Errorf("%q is asked for at %q, which is not below %q", name, u, o.base.Path)
			}
		}
	})
}

// FuzzManifest loads a release that was written by another version, or by
// nobody.
func FuzzManifest(f *testing.F) {
	d, err := openDepot(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = d.close() })
	shell := []byte("<p>")
	sum := strings.Repeat("ab", 32)
	for name, content := range map[string][]byte{blobName(sum): shell, blobName("short"): shell} {
		if err := d.write(name, content); err != nil {
			f.Fatal(err)
		}
	}
	token := words.TokenOf(shell)
	good, _ := json.Marshal(manifest{V: 1, Token: token, AcceptedAt: time.Unix(0, 0).UTC(), Files: map[string]file{indexName: {sum, 3}}})
	f.Add([]byte(`["`+string(token)+`"]`), good)
	f.Add([]byte(`["..",".","a/b",7]`), []byte(`{}`))
	f.Add([]byte(`["`+string(token)+`"]`), []byte(`{"files":null}`))
	f.Fuzz(func(t *testing.T, order, m []byte) {
		dir := "releases/" + string(token)
		if err := d.root.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, content := range map[string][]byte{"order.json": order, dir + "/manifest.json": m} {
			if err := d.write(name, content); err != nil {
				t.Fatal(err)
			}
		}
		kept, _ := d.load()
		if len(kept) > keptReleases {
			t.Errorf("%d releases are kept", len(kept))
		}
		for _, r := range kept {
			if r.token != words.TokenOf(r.shell) {
				t.Errorf("release %s has the shell of another", r.token)
			}
			for name, f := range r.files {
				s := &Server{depot: d}
				w := httptest.NewRecorder()
				if err := s.serveFile(w, httptest.NewRequest(http.MethodGet, "/", nil), name, f, false); err != nil || int64(w.Body.Len()) != f.Size {
					t.Errorf("%q is served with %d bytes, not %d: %v", name, w.Body.Len(), f.Size, err)
				}
			}
		}
	})
}
