package realm

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

func TestF15_ChunkOnDemandStaysWhenItIsGoneAtTheHost(t *testing.T) {
	c := newCDN(t, built("/", "aaaaaaa1"))
	o := urlOptions(t, c.URL)
	s, stop := start(t, o)
	var asking sync.WaitGroup
	for range 8 {
		asking.Go(func() {
			if a := get(t, s, "/assets/chunk-aaaaaaa1.js"); a.body != "named by nobody aaaaaaa1" || !strings.Contains(a.header.Get("Cache-Control"), "immutable") {
				t.Errorf("%+v", a)
			}
		})
	}
	asking.Wait()
	if n := c.count("/assets/chunk-aaaaaaa1.js"); n != 1 {
		t.Errorf("fetched %d times", n)
	}
	if a := get(t, s, "/logo.svg"); a.body != "<svg>aaaaaaa1</svg>" {
		t.Errorf("%+v", a)
	}
	mustAccept(t, s) // the same release again forgets nothing
	next := built("/", "bbbbbbb2")
	delete(next, "/logo.svg")
	c.deploy(next)
	mustAccept(t, s)
	kept := func() {
		t.Helper()
		if a := get(t, s, "/assets/chunk-aaaaaaa1.js"); a.body != "named by nobody aaaaaaa1" {
			t.Errorf("%d %s", a.code, a.body)
		}
		if a := get(t, s, "/logo.svg"); a.body != "<svg>aaaaaaa1</svg>" {
			t.Errorf("%d %s", a.code, a.body)
		}
	}
	kept()
	stop()
	s, _ = start(t, o)
	kept()
	c.deploy(built("/", "ccccccc3"))
	mustAccept(t, s)
	if a := get(t, s, "/logo.svg"); a.body != "<svg>ccccccc3</svg>" {
		t.Errorf("the current release's copy must win: %s", a.body)
	}
	kept404 := get(t, s, "/assets/gone-1234abcd.js")
	if kept404.code != http.StatusNotFound || strings.Contains(kept404.body, "<html") || kept404.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%+v", kept404)
	}
}

func TestAssetOf100MBIsBounded(t *testing.T) {
	c := newCDN(t, built("/", "aaaaaaa1"))
	o := urlOptions(t, c.URL)
	s, stop := start(t, o)
	const size = 100 << 20
	taken := make(chan int, 2)
	c.answer(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/said.png" {
			w.Header().Set("Content-Length", strconv.Itoa(size))
		}
		w.Header().Set("Content-Type", "image/png")
		taken <- stream(w, size)
		return true
	})
	for _, target := range []string{"/said.png", "/unsaid.png"} {
		if a := get(t, s, target); a.code != http.StatusBadGateway || len(a.body) > 1000 {
			t.Errorf("%s: %d", target, a.code)
		}
		if n := <-taken; n >= size {
			t.Errorf("%s: all %d bytes were taken", target, n)
		}
	}
	stop()
	for _, dir := range []string{"incoming", "blobs"} {
		entries, err := os.ReadDir(filepath.Join(o.DataDir, dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			if info, err := entry.Info(); err != nil || info.Size() > 1<<20 || dir == "incoming" {
				t.Errorf("%s/%s stayed", dir, entry.Name())
			}
		}
	}
}

func TestOnlyTheHostURLsDirectoryIsAsked(t *testing.T) {
	c := newCDN(t, built("/app/", "aaaaaaa1"))
	c.files["/secret.js"] = "outside"
	c.files["/app/.env"] = "hidden"
	c.files["/app/.git/x.js"] = "hidden"
	s, _ := start(t, urlOptions(t, c.URL+"/app"))
	for target, want := range map[string]int{
		"/app/assets/main-aaaaaaa1.js": 200, "/logo.svg": 200, "/app/logo.svg": 200, "/secret.js": 404, "/.git/x.js": 404, "/app/.git/x.js": 404,
		"/app/..%2fsecret.js": 404, "/..%5csecret.js": 404, "/x//y.js": 404, "/%2e%2e/secret.js": 404,
	} {
		if a := get(t, s, target, "Sec-Fetch-Dest", "script"); a.code != want {
			t.Errorf("%s: %d", target, a.code)
		}
	}
	c.answer(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/app/new.png" {
			return false
		}
		http.Redirect(w, r, "/secret.js", http.StatusFound)
		return true
	})
	if a := get(t, s, "/new.png"); a.code == http.StatusOK {
		t.Errorf("%+v", a)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for path := range c.asked {
		if !strings.HasPrefix(path, "/app/") || strings.Contains(path, "/.") {
			t.Errorf("asked for %s", path)
		}
	}
}

func TestReleaseAcceptedDuringAFetchIsNotMixedUp(t *testing.T) {
	c := newCDN(t, built("/", "aaaaaaa1"))
	s, _ := start(t, urlOptions(t, c.URL))
	begun, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	c.answer(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/logo.svg" {
			return false
		}
		held := false
		once.Do(func() { held = true })
		if !held {
			return false
		}
		close(begun)
		<-goOn
		w.Header().Set("Content-Type", "image/svg+xml")
		_, _ = w.Write([]byte("<svg>aaaaaaa1</svg>"))
		return true
	})
	var asking sync.WaitGroup
	asking.Go(func() {
		if a := get(t, s, "/logo.svg"); a.body != "<svg>bbbbbbb2</svg>" {
			t.Errorf("%d %s", a.code, a.body)
		}
	})
	<-begun
	c.deploy(built("/", "bbbbbbb2"))
	mustAccept(t, s)
	close(goOn)
	asking.Wait()
}

func TestWhoAskedFirstGoingAwayCostsOthersNothing(t *testing.T) {
	c := newCDN(t, built("/", "aaaaaaa1"))
	s, _ := start(t, urlOptions(t, c.URL))
	begun := make(chan struct{})
	var once sync.Once
	c.answer(func(_ http.ResponseWriter, r *http.Request) bool {
		first := false
		once.Do(func() { first = r.URL.Path == "/logo.svg" })
		if first {
			close(begun)
			<-r.Context().Done()
		}
		return first
	})
	ctx, cancel := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	asking.Go(func() {
		if err := s.demand(ctx, "logo.svg"); err == nil {
			t.Error("answered though it went away")
		}
	})
	<-begun
	asking.Go(func() {
		if a := get(t, s, "/logo.svg"); a.body != "<svg>aaaaaaa1</svg>" {
			t.Errorf("%d %s", a.code, a.body)
		}
	})
	cancel()
	asking.Wait()
}

func TestAppRoutesStayAppRoutes(t *testing.T) {
	o := options(t)
	put(t, o.Host, map[string]string{"data/products/1.json": "{}"})
	s, _ := start(t, o)
	for target, want := range map[string]int{"/products/x": 200, "/products": 200, "/data": 200, "/data/x": 404} {
		if a := get(t, s, target); a.code != want {
			t.Errorf("%s: %d", target, a.code)
		}
	}
	// What visitors asked for of a host URL makes no directory.
	files := built("/", "aaaaaaa1")
	files["/products/hero.png"] = "png"
	c := newCDN(t, files)
	u := urlOptions(t, c.URL)
	s, stop := start(t, u)
	check := func() {
		t.Helper()
		if a := get(t, s, "/products/hero.png"); a.code != http.StatusOK || a.body != "png" {
			t.Errorf("%+v", a)
		}
		if a := get(t, s, "/products/x"); a.code != http.StatusOK || a.body != shellOf("aaaaaaa1") {
			t.Errorf("%+v", a)
		}
		if a := get(t, s, "/assets/x"); a.code != http.StatusNotFound {
			t.Errorf("%+v", a)
		}
	}
	check()
	stop()
	s, _ = start(t, u)
	check()
}
