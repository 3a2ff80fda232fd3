package realm

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/words"
)

// cdn is a host of its own: releases over HTTP, on real sockets. A test may
// answer instead of it.
type cdn struct {
	*httptest.Server
	mu      sync.Mutex
	files   map[string]string // path -> content
	asked   map[string]int
	instead func(w http.ResponseWriter, r *http.Request) bool
}

func newCDN(t *testing.T, files map[string]string) *cdn {
	t.Helper()
	c := &cdn{files: files, asked: map[string]int{}}
	c.Server = httptest.NewServer(c)
	t.Cleanup(c.Close)
	return c
}

func (c *cdn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	c.asked[r.URL.Path]++
	instead := c.instead
	c.mu.Unlock()
	if instead != nil && instead(w, r) {
		return
	}
	c.mu.Lock()
	content, ok := c.files[r.URL.Path]
	c.mu.Unlock()
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", contentType(r.URL.Path))
	_, _ = w.Write([]byte(content))
}

func (c *cdn) deploy(files map[string]string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.files = files
}

func (c *cdn) answer(instead func(w http.ResponseWriter, r *http.Request) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.instead = instead
}

func (c *cdn) count(path string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked[path]
}

// built are the files of a release below base, which ends in a slash.
func built(base, release string) map[string]string {
	return map[string]string{
		base + "index.html":                       strings.ReplaceAll(shellOf(release), "/assets/", base+"assets/"),
		base + "assets/main-" + release + ".js":   `import("./lazy.` + release + `1.js");const d=["assets/style-` + release + `.css"]`,
		base + "assets/lazy." + release + "1.js":  "fetch(`/assets/deep-" + release + ".json`)",
		base + "assets/style-" + release + ".css": "b{}",
		base + "assets/chunk-" + release + ".js":  "named by nobody " + release,
		base + "logo.svg":                         "<svg>" + release + "</svg>",
	}
}

func urlOptions(t *testing.T, host string) Options {
	t.Helper()
	o := options(t)
	o.Host, o.HostURL, o.HostPoll, o.HostSettle, o.NoPoll = "", host, 10*time.Millisecond, 5*time.Millisecond, true
	return o
}

func TestHostURLIsAcceptedAndChangesAreNoticed(t *testing.T) {
	c := newCDN(t, built("/", "aaaaaaa1"))
	o, f := urlOptions(t, c.URL), newFleet()
	o.Manager, o.NoPoll = f, false
	s, _ := start(t, o)
	if a := get(t, s, "/_standby"); a.body != shellOf("aaaaaaa1") {
		t.Errorf("%+v", a)
	}
	c.deploy(built("/", "bbbbbbb2"))
	until(t, "the change is accepted", func() bool { return s.Token() == words.TokenOf([]byte(shellOf("bbbbbbb2"))) })
	until(t, "the change is reported, as presence", func() bool {
		report := <-f.reports
		if report.Source == words.SourceDeployment {
			t.Error("a poll was reported as a deployment")
		}
		return report.Hash == s.Token()
	})
	for _, target := range []string{"/assets/main-aaaaaaa1.js", "/assets/main-bbbbbbb2.js", "/assets/lazy.aaaaaaa11.js", "/assets/chunk-bbbbbbb2.js"} {
		if a := get(t, s, target); a.code != http.StatusOK || !strings.Contains(a.header.Get("Content-Type"), "javascript") {
			t.Errorf("%s: %d", target, a.code)
		}
	}
	if a := get(t, s, "/assets/chunk-aaaaaaa1.js"); a.code != http.StatusNotFound {
		t.Errorf("neither asked for in time nor at the host: %d", a.code)
	}
}

func TestWhatScriptsNameIsPrefetched(t *testing.T) {
	files := built("/", "aaaaaaa1")
	files["/assets/main-aaaaaaa1.js"] += `;"../../../../../etc/x.js";"//other.example/y.js";"/assets/.secret.json";"https://other.example/z.js"`
	c := newCDN(t, files)
	s, _ := start(t, urlOptions(t, c.URL))
	c.deploy(map[string]string{})
	for target, want := range map[string]int{
		"/assets/main-aaaaaaa1.js": 200, "/assets/lazy.aaaaaaa11.js": 200, "/assets/style-aaaaaaa1.css": 200, "/assets/chunk-aaaaaaa1.js": 404,
	} {
		if a := get(t, s, target); a.code != want {
			t.Errorf("%s: %d", target, a.code)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asked["/assets/deep-aaaaaaa1.json"] == 0 {
		t.Error("what a chunk names was not looked for")
	}
	for path := range c.asked {
		if strings.Contains(path, "secret") || strings.Contains(path, "..") {
			t.Errorf("asked for %s", path)
		}
	}
}

func TestPrefetchIsBounded(t *testing.T) {
	files := built("/", "aaaaaaa1")
	var names strings.Builder
	for i := range 3 * maxPrefetched {
		names.WriteString(`"./n` + strconv.Itoa(i) + `.js",`)
	}
	files["/assets/main-aaaaaaa1.js"] = names.String()
	c := newCDN(t, files)
	start(t, urlOptions(t, c.URL))
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.asked) > maxPrefetched+2 {
		t.Errorf("%d files asked for", len(c.asked))
	}
}

func TestW03_FlippingHostIsNotAcceptedUntilItAgrees(t *testing.T) {
	c := newCDN(t, built("/", "aaaaaaa1"))
	var logged logBuffer
	o := urlOptions(t, c.URL)
	o.NoPoll, o.Log = false, slog.New(slog.NewTextHandler(&logged, nil))
	s, _ := start(t, o)
	before := s.Token()
	var mu sync.Mutex
	turn := 0
	both := built("/", "bbbbbbb2")
	c.answer(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/index.html" {
			return false
		}
		mu.Lock()
		defer mu.Unlock()
		turn++
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte([]string{shellOf("aaaaaaa1"), shellOf("bbbbbbb2")}[turn%2]))
		return true
	})
	c.deploy(both)
	until(t, "readyz says so", func() bool { return strings.Contains(get(t, s, "/readyz").body, "different shells in turn") })
	asked := c.count("/index.html")
	until(t, "the host is asked again and again", func() bool { return c.count("/index.html") > asked+20 })
	if s.Token() != before {
		t.Error("a flipping host moved the realm")
	}
	if n := logged.count("different shells"); n != 1 {
		t.Errorf("logged %d times", n)
	}
	c.answer(nil)
	until(t, "the agreed release is accepted", func() bool { return s.Token() == words.TokenOf([]byte(shellOf("bbbbbbb2"))) })
	until(t, "readyz is content", func() bool { return strings.Contains(get(t, s, "/readyz").body, `"host":"served"`) })
}

func TestFetchesAreOnConnectionsOfTheirOwnAndPlain(t *testing.T) {
	c := newCDN(t, built("/", "aaaaaaa1"))
	var mu sync.Mutex
	peers, fetches := map[string]bool{}, 0
	c.answer(func(w http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		fetches++
		peers[r.RemoteAddr] = true
		if r.Header.Get("Accept-Encoding") != "identity" || r.Header.Get("Cookie") != "" {
			t.Errorf("%v", r.Header)
		}
		http.SetCookie(w, &http.Cookie{Name: "replica", Value: "1"})
		return false
	})
	s, _ := start(t, urlOptions(t, c.URL))
	mustAccept(t, s)
	mu.Lock()
	defer mu.Unlock()
	if fetches < 4 || len(peers) != fetches {
		t.Errorf("%d fetches on %d connections", fetches, len(peers))
	}
}

func TestHookNeedsTwoFetchesThatAgree(t *testing.T) {
	c := newCDN(t, built("/", "aaaaaaa1"))
	s, _ := start(t, urlOptions(t, c.URL))
	before := s.Token()
	var mu sync.Mutex
	turn := 0
	c.answer(func(w http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		if r.URL.Path == "/index.html" {
			turn++
			c.deploy(built("/", []string{"aaaaaaa1", "bbbbbbb2"}[turn%2]))
		}
		return false
	})
	if a := hook(t, s); a.Accepted || s.Token() != before || !strings.Contains(a.Reason, "different shells") {
		t.Errorf("%+v", a)
	}
	if turn != shellFetches {
		t.Errorf("%d fetches", turn)
	}
	c.answer(nil)
	c.deploy(built("/", "bbbbbbb2"))
	asked := c.count("/index.html")
	mustAccept(t, s)
	if n := c.count("/index.html") - asked; n != 2 {
		t.Errorf("accepted after %d fetches", n)
	}
}

// logBuffer is a log that may be read while it is written.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), text)
}

func TestHostURLGone(t *testing.T) {
	c := newCDN(t, built("/", "aaaaaaa1"))
	o := urlOptions(t, c.URL)
	var logged logBuffer
	o.NoPoll, o.Log = false, slog.New(slog.NewTextHandler(&logged, nil))
	s, stop := start(t, o)
	c.Close()
	until(t, "readyz says so", func() bool {
		return strings.Contains(get(t, s, "/readyz").body, "cannot be fetched: connection refused")
	})
	refused := s.hostNote.Load()
	until(t, "it is looked for again", func() bool { return s.hostNote.Load() != refused })
	if n := logged.count("connection refused"); n != 1 {
		t.Errorf("logged %d times", n)
	}
	if a := get(t, s, "/assets/main-aaaaaaa1.js"); a.code != http.StatusOK {
		t.Error(a.code)
	}
	if a := get(t, s, "/assets/never.png"); a.code != http.StatusBadGateway || strings.Contains(a.body, "<html") {
		t.Errorf("%+v", a)
	}
	stop()
	s, stop = start(t, o) // the kept release
	if a := get(t, s, "/"); a.body != shellOf("aaaaaaa1") {
		t.Errorf("%+v", a)
	}
	stop()
	o.DataDir = t.TempDir()
	_, err := New(o)
	if !fault.Is(err, fault.Invalid) {
		t.Fatalf("no host and nothing kept: %v", err)
	}
	contains(t, err.Error(), "--host", c.URL, "connection refused")
}

func TestBrokenHostURLsAreRefused(t *testing.T) {
	html := func(w http.ResponseWriter, kind string) {
		w.Header().Set("Content-Type", kind)
		_, _ = w.Write([]byte("<!doctype html><title>everything is a page</title>"))
	}
	script := func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, ".js") }
	other := newCDN(t, built("/", "bbbbbbb2"))
	for name, c := range map[string]struct {
		instead func(w http.ResponseWriter, r *http.Request) bool
		reason  string
	}{
		"HTML as script": {func(w http.ResponseWriter, r *http.Request) bool {
			if script(r) {
				html(w, "text/html; charset=utf-8")
			}
			return script(r)
		}, "/assets/main-bbbbbbb2.js, which is not there"},
		"HTML in disguise": {func(w http.ResponseWriter, r *http.Request) bool {
			if script(r) {
				html(w, "application/octet-stream")
			}
			return script(r)
		}, "/assets/main-bbbbbbb2.js, which is not there"},
		"JSON as script": {func(w http.ResponseWriter, r *http.Request) bool {
			if script(r) {
				w.Header().Set("Content-Type", "application/json")
				_, _ = w.Write([]byte(`{"error":1}`))
			}
			return script(r)
		}, "which is not there"},
		"a forbidden script": {func(w http.ResponseWriter, r *http.Request) bool {
			if script(r) {
				w.WriteHeader(http.StatusForbidden)
			}
			return script(r)
		}, "which is not there"},
		"a failing script": {func(w http.ResponseWriter, r *http.Request) bool {
			if script(r) {
				w.WriteHeader(http.StatusInternalServerError)
			}
			return script(r)
		}, "which cannot be fetched: it answers 500"},
		"a cut script": {func(w http.ResponseWriter, r *http.Request) bool {
			if script(r) {
				w.Header().Set("Content-Type", "text/javascript")
				w.Header().Set("Content-Length", "100")
				_, _ = w.Write([]byte("cut"))
			}
			return script(r)
		}, "which cannot be fetched: unexpected EOF"},
		"a redirect loop": {func(w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, r.URL.Path, http.StatusFound)
			return true
		}, "redirects more than"},
		"another origin": {func(w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, other.URL+r.URL.Path, http.StatusFound)
			return true
		}, "redirects to another origin"},
		"compressed": {func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write([]byte("x"))
			return true
		}, `answers in "gzip"`},
		"JSON as shell": {func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`{}`))
			return true
		}, "not a page"},
		"empty": {func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Type", "text/html")
			return true
		}, "empty"},
		"no shell": {func(w http.ResponseWriter, r *http.Request) bool {
			http.NotFound(w, r)
			return true
		}, "not there"},
		"an endless shell": {func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Type", "text/html")
			stream(w, 2*maxShellBytes)
			return true
		}, "larger"},
	} {
		t.Run(name, func(t *testing.T) {
			host := newCDN(t, built("/", "aaaaaaa1"))
			s, _ := start(t, urlOptions(t, host.URL))
			before := s.Token()
			host.deploy(built("/", "bbbbbbb2"))
			host.answer(c.instead)
			a := hook(t, s)
			if a.Accepted || a.Current != before || s.Token() != before {
				t.Errorf("%+v", a)
			}
			contains(t, a.Reason, c.reason)
			host.answer(nil)
			mustAccept(t, s)
		})
	}
	if n := other.count("/index.html"); n != 0 {
		t.Errorf("another origin was asked %d times", n)
	}
}

// stream writes n bytes without saying how many, or as many as are taken; it
// returns how many that were.
func stream(w http.ResponseWriter, n int) int {
	chunk := bytes.Repeat([]byte("x"), 64<<10)
	written := 0
	for written < n {
		m, err := w.Write(chunk)
		written += m
		if err != nil {
			break
		}
	}
	return written
}

func TestHostURLNamedByItsPageOrAbsolutely(t *testing.T) {
	c := newCDN(t, built("/v1/", "aaaaaaa1"))
	c.files["/v1/main.html"] = strings.ReplaceAll(c.files["/v1/index.html"], "/v1/assets/", c.URL+"/v1/assets/")
	s, _ := start(t, urlOptions(t, c.URL+"/v1/main.html"))
	if n := c.count("/v1/assets/main-aaaaaaa1.js"); n != 1 {
		t.Errorf("the script that the shell names at the host was asked for %d times", n)
	}
	if a := get(t, s, "/"); !strings.Contains(a.body, c.URL+"/v1/assets/") {
		t.Error(a.body)
	}
	for _, bad := range []string{"ftp://x/", "http://", "http://u:p@x/", "http://x/?a=1", "http://x/#a", "://x", "http://x:port/"} {
		if err := CheckHostURL(bad); !fault.Is(err, fault.Usage) {
			t.Errorf("%s: %v", bad, err)
		} else if strings.Contains(err.Error(), "u:p") {
			t.Error("a password is in an error")
		}
	}
}

func TestReadySaysWhetherTheStoreAnswers(t *testing.T) {
	o := options(t)
	o.Store = openStore(t)
	s, _ := start(t, o)
	contains(t, get(t, s, "/readyz").body, `"store":"answers"`)
	store := o.Store
	o = options(t)
	o.Store = deaf{store}
	s, _ = start(t, o)
	contains(t, get(t, s, "/readyz").body, `"store":"away`, `"ready":true`)
}

// deaf is a store that never answers a ping.
type deaf struct{ Store }

func (deaf) Ping(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}
