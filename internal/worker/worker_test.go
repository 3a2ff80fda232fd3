package worker

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rewarm/rewarm/internal/client"
	"github.com/rewarm/rewarm/internal/index"
	"github.com/rewarm/rewarm/internal/ledger"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

func TestARealmIsIndexedFromItsSitemapsItsRoutesAndItsLinks(t *testing.T) {
	r := newRig(t)
	r.files["/robots.txt"] = "User-agent: *\nDisallow: /secret\nSitemap: " + r.realm.URL + "/more.xml\nSitemap: http://elsewhere.example/s.xml\n"
	r.files["/sitemap.xml"] = "<sitemapindex><sitemap><loc>" + r.realm.URL + "/one.xml</loc></sitemap><sitemap><loc>" + r.realm.URL + "/sitemap.xml</loc></sitemap></sitemapindex>"
	r.files["/one.xml"] = sitemapOf(r.realm.URL, "/a", "/a#x", "/secret/1") + sitemapOf("http://elsewhere.example", "/z")
	r.files["/more.xml"] = r.realm.URL + "/b\n"
	r.links["/"] = []string{"/a", "/linked", "/private", "/secret/2", "/file.pdf", "/_standby"}
	r.links["/linked"] = []string{"/", "/deeper?utm=1", "/deeper"}
	r.start(func(o *Options) { o.Routes = []string{"/route"} })
	r.idle(1)
	r.equal(r.stored("t1"), "/", "/a", "/b", "/route", "/linked", "/deeper")
	for path, n := range r.renders {
		if n != 1 {
			t.Errorf("%s was rendered %d times", path, n)
		}
	}
	r.told(ledger.Progress{Stored: 6, Skipped: 1})
}

// Who waits for an index looks at what is pending, and then at what was done.
func TestWhenNothingIsPendingAllThatWasDoneIsTold(t *testing.T) {
	const pages = 60
	r := newRig(t)
	var paths []string
	for i := range pages - 1 { // and "/"
		paths = append(paths, fmt.Sprint("/", i))
	}
	r.files["/sitemap.xml"] = sitemapOf(r.realm.URL, paths...)
	for i := range 3 {
		r.start(func(o *Options) { o.Name, o.Concurrency = fmt.Sprint("w", i), 4 })
	}
	r.idle(1)
	r.told(ledger.Progress{Stored: pages})
}

// W24: nobody calls a hook; the release alone brings the re-index, once.
func TestW24_EveryReleaseIsIndexedOnceItsCanaryHasPassed(t *testing.T) {
	r := newRig(t)
	r.files["/sitemap.xml"] = sitemapOf(r.realm.URL, "/a")
	r.phase = wire.RolloutCanary
	r.start(nil)
	r.start(func(o *Options) { o.Name = "w2" })
	asked := index.Job{Class: index.Miss, Realm: r.realm.URL, URL: r.realm.URL + "/missed", Token: "t1", Sequence: 1}
	if _, err := r.store.QueueJobs(t.Context(), asked); err != nil {
		t.Fatal(err)
	}
	if run, _, err := r.store.Run(t.Context(), r.realm.URL); err != nil || run.ID != 0 {
		t.Errorf("before its canary: %+v, %v", run, err)
	}
	r.set(func() { r.phase = wire.RolloutRolling })
	r.idle(1)
	r.equal(r.stored("t1"), "/", "/a", "/missed")
	r.set(func() { r.release, r.phase = wire.RolloutRelease{Sequence: 2, Token: "t2"}, wire.RolloutComplete })
	r.idle(2)
	r.equal(r.stored("t2"), "/", "/a")
	run, _, err := r.store.Run(t.Context(), r.realm.URL)
	if err != nil || run.ID != 2 || run.Class != index.Deploy {
		t.Errorf("last run %+v, %v: want the second", run, err)
	}
}

func TestW26_ADeployInTheMiddleOfAnIndexMixesNoReleases(t *testing.T) {
	r := newRig(t)
	var paths []string
	for i := range 200 {
		paths = append(paths, fmt.Sprintf("/p%d", i))
	}
	r.files["/sitemap.xml"] = sitemapOf(r.realm.URL, paths...)
	r.render = func(_ string, _ int) (int, words.Token) { // under r.mu
		if len(r.order) == 50 {
			r.release = wire.RolloutRelease{Sequence: 2, Token: "t2"}
		}
		if len(r.order) > 50 && len(r.order) <= 60 {
			return http.StatusConflict, "" // the manager knows before the worker
		}
		if len(r.order) > 60 && len(r.order) <= 62 {
			return http.StatusCreated, "t1" // whatever was asked for
		}
		return 0, ""
	}
	r.start(nil)
	r.idle(2)
	r.equal(r.stored("t2"), append(paths, "/")...)
	for _, token := range []words.Token{"t1", "t2"} {
		all, err := r.store.Snapshots(t.Context(), r.realm.URL, token)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range all {
			full, found, err := r.store.Snapshot(t.Context(), r.realm.URL, token, s.URL)
			if err != nil || !found || full.HTML != "page of "+string(token) {
				t.Errorf("%s under %s: %q, %v", s.URL, token, full.HTML, err)
			}
		}
	}
}

func TestAPageThatStaysBrokenIsGivenUpWithItsReason(t *testing.T) {
	r := newRig(t)
	r.render = func(path string, n int) (int, words.Token) {
		switch {
		case path == "/refused" && n <= 1:
			return http.StatusServiceUnavailable, ""
		case path == "/forbidden":
			return http.StatusForbidden, ""
		case path == "/broken":
			return broken, "t1"
		}
		return 0, ""
	}
	// As if it had failed three times: the backoffs before are the pure test's.
	if err := r.store.PutFailure(t.Context(), ledger.Failure{Realm: r.realm.URL, URL: r.realm.URL + "/broken", Token: "t1", Tries: index.Tries{Renders: index.MaxRenders - 1}}); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/refused", "/forbidden", "/broken"} {
		if _, err := r.store.QueueJobs(t.Context(), index.Job{Class: index.Miss, Realm: r.realm.URL, URL: r.realm.URL + path, Token: "t1", Sequence: 1}); err != nil {
			t.Fatal(err)
		}
	}
	// No run, which would forget the failures.
	if err := r.store.PutRun(t.Context(), index.Run{ID: 1, Realm: r.realm.URL, Sequence: 1, Token: "t1"}, 0); err != nil {
		t.Fatal(err)
	}
	r.start(nil)
	r.idle(1)
	r.equal(r.stored("t1"), "/refused")
	dead, err := r.store.Failures(t.Context(), r.realm.URL, "t1")
	if err != nil || len(dead) != 2 {
		t.Fatalf("dead: %+v, %v", dead, err)
	}
	if dead[0].Reason != "page: it threw" || dead[0].Renders != index.MaxRenders || !strings.Contains(dead[1].Reason, "403") {
		t.Errorf("dead: %+v", dead)
	}
}

// A miss goes before what was queued before it, and nothing is queued twice.
func TestAVisitorsMissGoesFirst(t *testing.T) {
	r := newRig(t)
	r.files["/sitemap.xml"] = sitemapOf(r.realm.URL, "/a", "/b", "/c", "/d", "/e", "/f")
	r.render = func(path string, n int) (int, words.Token) {
		if path == "/a" {
			miss := index.Job{Class: index.Miss, Realm: r.realm.URL, URL: r.realm.URL + "/missed", Token: "t1", Sequence: 1, QueuedAt: time.Now()}
			if _, err := r.store.QueueJobs(context.Background(), miss); err != nil {
				t.Error(err)
			}
		}
		return 0, ""
	}
	r.start(func(o *Options) { o.Concurrency = 1; o.Rate = 20 }) // slow enough for the queue to tell of it
	r.idle(1)
	if at := slices.Index(r.order, "/missed"); at < 0 || at > slices.Index(r.order, "/e") {
		t.Errorf("order %q", r.order)
	}
}

func TestAWorkerThatEndsGivesBackWhatItHolds(t *testing.T) {
	r := newRig(t)
	var paths []string
	for i := range 50 {
		paths = append(paths, fmt.Sprintf("/p%d", i))
	}
	r.files["/sitemap.xml"] = sitemapOf(r.realm.URL, paths...)
	stop := r.start(func(o *Options) { o.Rate = 50 })
	r.until("some are stored", func() bool { return len(r.stored("t1")) > 5 })
	stop()
	if r.pending() == 0 {
		t.Fatal("it was done before it was stopped")
	}
	r.start(func(o *Options) { o.Name = "w2" })
	r.idle(1)
	r.equal(r.stored("t1"), append(paths, "/")...)
}

func TestF09_APageThatIsPurgedWhileItIsRenderedIsRenderedAgain(t *testing.T) {
	r := newRig(t)
	r.render = func(path string, n int) (int, words.Token) {
		if path == "/" && n == 1 {
			if _, _, err := r.store.PurgeSnapshots(context.Background(), r.realm.URL, ledger.Selection{All: true}); err != nil {
				t.Error(err)
			}
		}
		return 0, ""
	}
	r.start(nil)
	r.idle(1)
	r.equal(r.stored("t1"), "/")
	if n := r.renders["/"]; n != 2 {
		t.Errorf("%d renders", n)
	}
}

// A seed that is handed out again finds pages that are being rendered.
func TestASeedThatIsDoneAgainForgetsNoFailures(t *testing.T) {
	r := newRig(t)
	w, err := New(Options{Name: "w1", Manager: client.NewManager(r.manager.URL, ""), Store: r.store})
	if err != nil {
		t.Fatal(err)
	}
	seed := index.Job{Realm: r.realm.URL, Token: "t1", Sequence: 1, Run: 1}
	failed := ledger.Failure{Realm: r.realm.URL, URL: r.realm.URL + "/x", Token: "t1", Tries: index.Tries{Renders: 2}}
	for deliveries, want := range map[int]int{1: 0, 2: 2} {
		if err := r.store.PutFailure(t.Context(), failed); err != nil {
			t.Fatal(err)
		}
		w.seed(t.Context(), seed, deliveries)
		if got, err := r.store.Failure(t.Context(), failed.Realm, "t1", failed.URL); err != nil || got.Renders != want {
			t.Errorf("delivery %d: %d renders, %v; want %d", deliveries, got.Renders, err, want)
		}
	}
}

func TestAWorkerNeedsAStoreAndAManager(t *testing.T) {
	r := newRig(t)
	manager := client.NewManager(r.manager.URL, "")
	for _, o := range []Options{{Manager: manager}, {Store: r.store}, {Store: r.store, Manager: manager, Routes: []string{"no"}}, {Store: r.store, Manager: manager, Rate: -1}} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v: accepted", o)
		}
	}
}
