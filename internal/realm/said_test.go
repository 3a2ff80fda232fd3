package realm

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rewarm/rewarm/internal/client"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

func TestWhatAPageMayNotSay(t *testing.T) {
	for _, name := range []string{
		"Set-Cookie", "set-cookie ", "Content-Length", "Content-Encoding", "Content-Security-Policy", "X-Frame-Options", "Strict-Transport-Security", "Access-Control-Allow-Origin",
		"Connection", "Transfer-Encoding", "Proxy-Authenticate", "Upgrade", "Vary", "ETag", "Cache-Control", "Refresh", "X-Accel-Redirect", "X-Sendfile",
		"X-Rewarm-Snapshot", "X-Boxel-Host-Shell-Hash", "", "a b", "a:b", "a\r\nb", "X-Of-Nobody",
	} {
		if kept := pageHeaders(map[string]string{name: "x"}, nil); len(kept) != 0 {
			t.Errorf("%q is kept", name)
		}
		if name == "X-Of-Nobody" {
			continue
		}
		if allowed, err := CheckPageHeaders([]string{name}); err == nil || !strings.Contains(err.Error(), "--page-header") {
			t.Errorf("%q may be allowed as %q", name, allowed)
		}
	}
	allowed, err := CheckPageHeaders([]string{"cache-tag", "X-Of-Nobody", "Content-Language"})
	if err != nil {
		t.Fatal(err)
	}
	kept := pageHeaders(map[string]string{"Cache-Tag": "a", "x-of-nobody": "b", "X-Robots-Tag": "noindex", "Link": "x\x00", "Set-Cookie": "c"}, allowed)
	if len(kept) != 3 || kept["Cache-Tag"] != "a" || kept["X-Of-Nobody"] != "b" || kept["X-Robots-Tag"] != "noindex" {
		t.Errorf("%q", kept)
	}
}

func TestWhatThePageSaysOfItsStatus(t *testing.T) {
	to := map[string]string{"Location": "/x"}
	for code, want := range map[int]int{0: 200, 100: 200, 200: 200, 201: 201, 204: 200, 205: 200, 206: 200, 301: 301, 304: 200, 308: 308, 310: 200, 404: 404, 410: 410, 503: 503, 600: 200, -1: 200} {
		if got := status(words.Snapshot{HTTPStatus: code, Headers: to}); got != want {
			t.Errorf("%d gives %d, want %d", code, got, want)
		}
	}
	if got := status(words.Snapshot{HTTPStatus: 301}); got != 200 {
		t.Errorf("to nowhere: %d", got)
	}
}

func TestPagesThatAreNotForEveryoneAreNotKept(t *testing.T) {
	o, f, c := rendering(t)
	says := "no-store"
	f.visited = func(_ wire.VisitRequest, call client.Call) (client.VisitAnswer, error) {
		a := ready(call.Pin, "of one visitor")
		a.Result.Headers = map[string]string{"cache-control": says}
		return a, nil
	}
	s, _ := start(t, o)
	for range 3 {
		if a := get(t, s, "/account"); a.state() != "miss" || a.body != shellOf("aaaaaaa1") {
			t.Errorf("%+v", a)
		}
		until(t, "the render is over", func() bool {
			only(s).renders.mu.Lock()
			defer only(s).renders.mu.Unlock()
			return len(only(s).renders.busy) == 0
		})
	}
	if _, found, err := o.Store.Snapshot(t.Context(), s.URL(), s.Token(), s.URL()+"/account"); found || err != nil || f.count() != 1 {
		t.Errorf("stored: %v, %v, after %d renders", found, err, f.count())
	}
	// One that is there already, written by a version that kept it.
	kept := words.Snapshot{Realm: s.URL(), Token: s.Token(), URL: s.URL() + "/old", RenderedAt: c.now(), Status: words.StatusReady, HTTPStatus: 200,
		HTML: ready("", "of one visitor").Result.HTML, Headers: map[string]string{"Cache-Control": "max-age=1, Private"}}
	if err := o.Store.PutSnapshot(t.Context(), kept); err != nil {
		t.Fatal(err)
	}
	if a := get(t, s, "/old"); a.state() != "miss" {
		t.Errorf("%+v", a)
	}
	for said, want := range map[string]bool{"private": true, `private="Set-Cookie"`: true, " NO-STORE ": true, "public, max-age=9": false, "x-private": false, "": false} {
		if got := wire.Private(map[string]string{"Cache-Control": said}); got != want {
			t.Errorf("%q: %v", said, got)
		}
	}
}

func TestRedirectHasItsLocationAndNothingElseHas(t *testing.T) {
	o, f, _ := rendering(t)
	o.PageHeaders = []string{"cache-tag"}
	f.visited = func(visit wire.VisitRequest, call client.Call) (client.VisitAnswer, error) {
		a := ready(call.Pin, "x")
		a.Result.Headers = map[string]string{"Location": "https://other.example/", "Cache-Tag": "t1"}
		if strings.HasSuffix(visit.URL, "/gone") {
			a.Result.HTTPStatus = http.StatusGone
		} else {
			a.Result.HTTPStatus = http.StatusMovedPermanently
		}
		return a, nil
	}
	o.MaxAge = time.Hour
	s, _ := start(t, o)
	for target, want := range map[string]int{"/gone": http.StatusGone, "/moved": http.StatusMovedPermanently} {
		get(t, s, target)
		a := hit(t, s, target)
		if a.code != want || (a.header.Get("Location") != "") != (want == 301) || a.header.Get("Cache-Tag") != "t1" {
			t.Errorf("%s: %d %v", target, a.code, a.header)
		}
		// No condition turns it into a page that the caller has.
		if b := get(t, s, target, "If-None-Match", "*"); b.code != want {
			t.Errorf("%s: %d", target, b.code)
		}
	}
}
