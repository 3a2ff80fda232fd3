package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rewarm/rewarm/internal/bus"
	"github.com/rewarm/rewarm/internal/client"
	"github.com/rewarm/rewarm/internal/index"
	"github.com/rewarm/rewarm/internal/ledger"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// rig is a manager and a realm that answer what the test says, on a real store.
type rig struct {
	t              testing.TB
	store          *ledger.Ledger
	manager, realm *httptest.Server

	mu      sync.Mutex
	release wire.RolloutRelease
	phase   wire.RolloutPhase
	files   map[string]string                           // of the realm
	links   map[string][]string                         // by path
	renders map[string]int                              // by path
	render  func(path string, n int) (int, words.Token) // nil: ready on the pin
	order   []string
}

func newRig(t testing.TB) *rig {
	t.Helper()
	b, err := bus.Start(t.Context(), bus.Options{DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	r := &rig{t: t, phase: wire.RolloutComplete, release: wire.RolloutRelease{Sequence: 1, Token: "t1"},
		files: map[string]string{}, links: map[string][]string{}, renders: map[string]int{}}
	if r.store, err = ledger.Open(t.Context(), b.Conn(), ledger.Options{}); err != nil {
		t.Fatal(err)
	}
	r.realm = httptest.NewServer(http.HandlerFunc(r.serveRealm))
	t.Cleanup(r.realm.Close)
	r.manager = httptest.NewServer(http.HandlerFunc(r.serveManager))
	t.Cleanup(r.manager.Close)
	return r
}

func (r *rig) serveRealm(w http.ResponseWriter, request *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	file, ok := r.files[request.URL.Path]
	if away, moved := strings.CutPrefix(file, "moved: "); moved {
		http.Redirect(w, request, away, http.StatusFound)
		return
	}
	if file == down {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	if !ok {
		http.NotFound(w, request)
		return
	}
	fmt.Fprint(w, file)
}

func (r *rig) serveManager(w http.ResponseWriter, request *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch request.URL.Path {
	case "/rollout":
		answer(w, 200, wire.Rollout{Release: r.release, Phase: r.phase, CanaryPassed: r.phase != wire.RolloutCanary})
	case "/host-shell":
		answer(w, 200, wire.Releases{Reporters: []wire.ReporterView{
			{Token: r.release.Token, Realms: []string{r.realm.URL}}, {Token: "behind", Realms: []string{"http://behind"}},
		}})
	case "/prerender-visit":
		var doc wire.Document[wire.VisitRequest]
		if err := json.NewDecoder(request.Body).Decode(&doc); err != nil {
			r.t.Error(err)
		}
		path := strings.TrimPrefix(doc.Data.Attributes.URL, r.realm.URL)
		r.renders[path]++
		r.order = append(r.order, path)
		status, token := http.StatusCreated, words.Token(request.Header.Get(wire.HeaderShellHash))
		if r.render != nil {
			if s, document := r.render(path, r.renders[path]); s != 0 {
				status, token = s, document
			}
		}
		w.Header().Set(wire.HeaderShellHash, string(token))
		result := wire.VisitResult{Capture: words.Capture{Status: words.StatusReady, HTTPStatus: 200, HTML: "page of " + string(token), Token: token}}
		for _, link := range r.links[path] {
			result.Links = append(result.Links, r.realm.URL+link)
		}
		if path == "/private" {
			result.Headers = map[string]string{"Cache-Control": "private"}
		}
		if status == broken {
			status, result.Status = http.StatusCreated, words.StatusError
			result.Error = &words.PageError{Kind: words.PageErrorPage, Message: "it\nthrew"}
		}
		answer(w, status, wire.Document[wire.VisitResult]{Data: wire.Resource[wire.VisitResult]{Attributes: result}})
	default:
		http.NotFound(w, request)
	}
}

// down is a file that is answered with 503.
const down = "down"

// broken is a page that threw.
const broken = -1

func answer(w http.ResponseWriter, status int, v any) {
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func (r *rig) set(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
}

func (r *rig) start(change func(*Options)) (stop func()) {
	r.t.Helper()
	o := Options{Name: "w1", Manager: client.NewManager(r.manager.URL, ""), Store: r.store, Poll: 10 * time.Millisecond, Rate: 10_000}
	if change != nil {
		change(&o)
	}
	w, err := New(o)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			r.t.Errorf("Run: %v", err)
		}
	})
	r.t.Cleanup(stop)
	return stop
}

// stored are the paths that a release has snapshots of.
func (r *rig) stored(token words.Token) (paths []string) {
	r.t.Helper()
	all, err := r.store.Snapshots(r.t.Context(), r.realm.URL, token)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, s := range all {
		paths = append(paths, strings.TrimPrefix(s.URL, r.realm.URL))
	}
	return paths
}

func (r *rig) until(what string, met func() bool) {
	r.t.Helper()
	bound := time.NewTimer(time.Minute) // reached only when something is broken
	defer bound.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !met() {
		select {
		case <-bound.C:
			r.t.Fatalf("waited in vain: %s; stored %v and %v", what, r.stored("t1"), r.stored("t2"))
		case <-tick.C:
		}
	}
}

func (r *rig) pending() int {
	r.t.Helper()
	n, err := r.store.PendingJobs(r.t.Context(), r.realm.URL)
	if err != nil {
		r.t.Fatal(err)
	}
	return n
}

// idle waits until a run of the release was begun and nothing is left to do.
func (r *rig) idle(sequence uint64) {
	r.t.Helper()
	r.until("nothing left to do", func() bool {
		run, _, err := r.store.Run(r.t.Context(), r.realm.URL)
		return err == nil && run.Sequence >= sequence && r.pending() == 0
	})
}

func sitemapOf(base string, paths ...string) string {
	var s strings.Builder
	s.WriteString("<urlset>")
	for _, path := range paths {
		fmt.Fprintf(&s, "<url><loc>%s%s</loc></url>", base, path)
	}
	return s.String() + "</urlset>"
}

func (r *rig) equal(got []string, want ...string) {
	r.t.Helper()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		r.t.Errorf("got %q, want %q", got, want)
	}
}

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
	r.until("the progress is told", func() bool {
		p, err := r.store.Progress(t.Context(), r.realm.URL, 1)
		return err == nil && p == ledger.Progress{Stored: 6, Skipped: 1}
	})
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
	if err := r.store.PutFailure(t.Context(), ledger.Failure{Realm: r.realm.URL, URL: r.realm.URL + "/broken", Token: "t1", Renders: index.MaxRenders - 1}); err != nil {
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

// Whatever a realm's files hold, its pages are indexed.
func TestARealmsFilesMayBeGarbage(t *testing.T) {
	r := newRig(t)
	r.files["/robots.txt"] = "\x00Disallow\nSitemap: ::\nSitemap: " + r.realm.URL + "/loop.xml\nCrawl-delay: nonsense"
	r.files["/loop.xml"] = "<sitemapindex>" + strings.Repeat("<sitemap><loc>"+r.realm.URL+"/loop.xml</loc></sitemap>", 1000) + "</sitemapindex>"
	r.files["/sitemap.xml"] = sitemapOf(r.realm.URL, "/a") + "<url><loc>\xff\xfe" + strings.Repeat("<", 10_000)
	r.links["/"] = []string{"/%zz", "/a\x00b", "/" + strings.Repeat("x", 9000), "/b"}
	r.start(nil)
	r.idle(1)
	r.equal(r.stored("t1"), "/", "/a", "/b")
}

func TestOneSitemapThatCannotBeReadCostsOnlyItsOwnPages(t *testing.T) {
	r := newRig(t)
	r.files["/robots.txt"] = "Sitemap: " + r.realm.URL + "/down.xml\nSitemap: " + r.realm.URL + "/moved.xml\nSitemap: " + r.realm.URL + "/good.xml\n"
	r.files["/sitemap.xml"], r.files["/down.xml"] = down, down
	r.files["/moved.xml"] = "moved: http://elsewhere.example/s.xml"
	r.files["/good.xml"] = sitemapOf(r.realm.URL, "/a")
	r.start(nil)
	r.idle(1)
	r.equal(r.stored("t1"), "/", "/a")
}

func TestSitemapsAreBoundedHoweverManyAreNamed(t *testing.T) {
	l := sitemapList{realm: "http://r"}
	for range 3 {
		for i := range 50 {
			l.add("http://r/same.xml", "http://elsewhere.example/s.xml", "::", fmt.Sprintf("http://r/%d.xml", i))
		}
	}
	if len(l.all) != 51 {
		t.Errorf("%d, want each of the realm once", len(l.all))
	}
	for i := range 2 * maxSitemaps {
		l.add(fmt.Sprintf("http://r/more%d.xml", i))
	}
	if len(l.all) != maxSitemaps {
		t.Errorf("%d, want %d", len(l.all), maxSitemaps)
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
	failed := ledger.Failure{Realm: r.realm.URL, URL: r.realm.URL + "/x", Token: "t1", Renders: 2}
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

func TestNothingIsIndexedWhileTheRulesAreNotKnown(t *testing.T) {
	s := newSites(5)
	asked, now := 0, time.Now() // one request at a time
	ill := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked++; w.WriteHeader(503) }))
	defer ill.Close()
	for _, at := range []time.Time{now, now.Add(unreadFor - 1), now.Add(unreadFor)} {
		if _, err := s.of(t.Context(), ill.URL, at); err == nil {
			t.Error("rules of a realm that is down")
		}
	}
	if asked != 2 {
		t.Errorf("asked %d times, want once more after some seconds", asked)
	}
	away := httptest.NewServer(http.RedirectHandler("http://elsewhere.example/robots.txt", http.StatusFound))
	defer away.Close()
	if _, err := s.of(t.Context(), away.URL, time.Now()); err == nil {
		t.Error("rules from another origin")
	}
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "User-agent: *\nCrawl-delay: 2\n") }))
	defer slow.Close()
	if site, err := s.of(t.Context(), slow.URL, time.Now()); err != nil || site.pace.limiter.Limit() != 0.5 {
		t.Errorf("limit %v, %v", site, err)
	}
}

// Four pages of a realm that wants half a minute between them, and one lane.
func TestASlowRealmKeepsNoOtherFromBeingIndexed(t *testing.T) {
	r := newRig(t)
	r.files["/sitemap.xml"] = sitemapOf(r.realm.URL, "/a", "/b")
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "User-agent: *\nCrawl-delay: 30\n") }))
	defer slow.Close()
	for i := range 4 {
		job := index.Job{Class: index.Miss, Realm: slow.URL, URL: fmt.Sprint(slow.URL, "/", i), Token: "t1", Sequence: 1}
		if _, err := r.store.QueueJobs(t.Context(), job); err != nil {
			t.Fatal(err)
		}
	}
	r.start(func(o *Options) { o.Concurrency = 1 })
	r.idle(1) // of its own realm
	r.equal(r.stored("t1"), "/", "/a", "/b")
	if n, err := r.store.PendingJobs(t.Context(), slow.URL); err != nil || n < 2 {
		t.Errorf("%d of the slow realm are left, %v", n, err)
	}
}

func TestJobsOfASlowRealmComeAgainOneAfterAnother(t *testing.T) {
	p, now := newPace(), time.Now()
	p.limiter.SetLimit(limitOf(20, 10*time.Second))
	if wait, mine := p.turn(now); !mine || wait > 0 {
		t.Fatalf("the first: %s, %t", wait, mine)
	}
	for _, want := range []time.Duration{10, 20, 30, 40, 50, 60, 60, 60} {
		if wait, mine := p.turn(now); mine || wait.Round(time.Millisecond) != want*time.Second {
			t.Errorf("%s, %t, want %d s", wait, mine, want)
		}
	}
	if wait, mine := p.turn(now.Add(10 * time.Second)); !mine || wait > patience {
		t.Errorf("the one whose turn it is: %s, %t", wait, mine)
	}
}
