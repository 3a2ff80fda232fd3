package realm

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/rewarm/rewarm/internal/wire"
)

func TestF15_AbsentAssetIsNeverTheShell(t *testing.T) {
	s, _ := start(t, options(t))
	for target, header := range map[string]string{
		"/assets/main-deadbee1.js": "", "/assets/x": "", "/assets/deep/er": "", "/gone.js": "", "/a/b/c.css": "", "/x.png": "", "/map.js.map": "",
		"/route": "script", "/route2": "style", "/route3": "image", "/favicon.ico": "", "/.well-known/x": "",
	} {
		a := get(t, s, target, "Sec-Fetch-Dest", header)
		if a.code != http.StatusNotFound || strings.Contains(a.body, "<html") || strings.Contains(a.header.Get("Content-Type"), "html") {
			t.Errorf("%s (%s): %d %s", target, header, a.code, a.body)
		}
	}
	for target, header := range map[string]string{"/route": "document", "/route/x": "empty", "/v1.2": "", "/": "", "/asset": "", "/assets": ""} {
		if a := get(t, s, target, "Sec-Fetch-Dest", header); a.code != http.StatusOK || a.body != shellOf("aaaaaaa1") {
			t.Errorf("%s (%s): %d", target, header, a.code)
		}
	}
}

func TestGarbageGetsClearAnswers(t *testing.T) {
	s, _ := start(t, options(t))
	for target, want := range map[string]int{
		"/%2e%2e/%2e%2e/etc/passwd":           404,
		"/assets/%2e%2e/%2e%2e/etc/passwd":    404,
		"/assets/..%2f..%2f..%2fetc%2fpasswd": 404,
		"/..":                                 404,
		"/a/../b":                             404,
		"/assets/%00.js":                      400,
		"/%00":                                400,
		"/%0d%0aSet-Cookie:x":                 400,
		"/" + strings.Repeat("a", 8<<10):      400,
		"//evil.example/x":                    200,
		"/%5c..%5cx":                          200,
		"/?" + strings.Repeat("q", 8<<10):     200,
		"/?a=%zz":                             200,
	} {
		a := get(t, s, target)
		if a.code != want {
			t.Errorf("%.60s: %d, want %d", target, a.code, want)
		}
		if a.header.Get(wire.HeaderRequestID) == "" {
			t.Errorf("%.60s: no request id", target)
		}
	}
	if a := ask(t, s, http.MethodPost, "/route"); a.code != http.StatusMethodNotAllowed || a.header.Get("Allow") == "" {
		t.Errorf("POST: %+v", a)
	}
	conn, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET no-slash HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	if raw, _ := io.ReadAll(conn); !strings.HasPrefix(string(raw), "HTTP/1.1 400") {
		t.Errorf("%.40s", raw)
	}
}

func TestStandbyAndHead(t *testing.T) {
	s, _ := start(t, options(t))
	a := get(t, s, "/_standby")
	if a.header.Get("Cache-Control") != "no-store" || a.body != shellOf("aaaaaaa1") {
		t.Errorf("%+v", a)
	}
	for _, target := range []string{"/", "/_standby", "/assets/main-aaaaaaa1.js", "/_host-shell-hash", "/livez"} {
		full, head := get(t, s, target), ask(t, s, http.MethodHead, target)
		if head.code != full.code || head.body != "" || head.header.Get("Content-Length") != full.header.Get("Content-Length") {
			t.Errorf("HEAD %s: %+v", target, head)
		}
	}
	if a := get(t, s, "/_standby?release=nonsense"); a.code != http.StatusNotFound {
		t.Error(a.code)
	}
	contains(t, get(t, s, "/readyz").body, "bare shells only", `"ready":true`)
	contains(t, get(t, s, "/metrics").body, "rewarm_realm_mismatched_snapshots_total 0")
	if a := get(t, s, "/index.html"); a.state() != "bypass" || a.header.Get(wire.HeaderDocumentShell) != string(s.Token()) {
		t.Errorf("%+v", a)
	}
}

func TestAssetsAreRevalidatedUnlessTheirNameCarriesAHash(t *testing.T) {
	for name, want := range map[string]bool{
		"assets/index-BxF3kq2a.js": true, "main.8f3a9c1d.js": true, "chunk-ABCD1234.css": true, "a.8f3a9c1d.js.map": true,
		"assets/card-xQ8EfGL_.js": true, "assets/about-BnX-U0xD.js": true, "assets/x--nX2U0xD.css": true, "assets/y-_Q8E-GL_.js": true,
		"Inter-SemiBold.woff2": false, "vendor-polyfills.js": false, "bg-1920x1080.jpg": false, "report-20240101.pdf": false, "robots.txt": false, "main.js": false,
	} {
		if got := hashed(name); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
	s, _ := start(t, options(t))
	a := get(t, s, "/robots.txt")
	if again := get(t, s, "/robots.txt", "If-None-Match", a.header.Get("ETag")); again.code != http.StatusNotModified {
		t.Error(again.code)
	}
	if part := get(t, s, "/robots.txt", "Range", "bytes=0-5"); part.code != http.StatusPartialContent || part.body != "robots" {
		t.Errorf("%+v", part)
	}
}

func TestEmbeddedHostWithoutScriptsIsServed(t *testing.T) {
	o := options(t)
	o.Host, o.HostFS = "", fstest.MapFS{"index.html": {Data: []byte("<h1>static</h1>")}, ".env": {Data: []byte("SECRET")}}
	s, _ := start(t, o)
	if a := get(t, s, "/"); a.body != "<h1>static</h1>" {
		t.Errorf("%+v", a)
	}
	if a := get(t, s, "/.env"); strings.Contains(a.body, "SECRET") {
		t.Error("a hidden file was served")
	}
}

func TestProxyRule(t *testing.T) {
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s %s", r.Method, r.URL, r.Header.Get("X-Forwarded-Host"))
	}))
	target, err := url.Parse(api.URL)
	if err != nil {
		t.Fatal(err)
	}
	o := options(t)
	o.ProxyRules = []ProxyRule{{Prefix: "/api", Target: target}}
	s, _ := start(t, o)
	if a := ask(t, s, http.MethodPost, "/api/x?y=1"); a.body != "POST /api/x?y=1 "+s.Addr() {
		t.Error(a.body)
	}
	if a := get(t, s, "/apix"); a.body != shellOf("aaaaaaa1") {
		t.Error(a.body)
	}
	api.Close()
	if a := get(t, s, "/api/x"); a.code != http.StatusBadGateway {
		t.Error(a.code)
	}
}
