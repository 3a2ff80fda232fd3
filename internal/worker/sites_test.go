package worker

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/rewarm/rewarm/internal/index"
)

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

func TestNothingIsIndexedWhileTheRulesAreNotKnown(t *testing.T) {
	s := newSites(func(string) float64 { return 5 })
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

// Somebody may ask for a page of a realm that was never indexed.
func TestAPageOfNoRunIsIndexedWithWhatItLeadsTo(t *testing.T) {
	r := newRig(t)
	r.links["/"] = []string{"/a"}
	w, _ := r.measured()
	r.try(w, index.Job{Class: index.Routine, Realm: r.realm.URL, URL: r.realm.URL + "/"})
	r.equal(r.stored("t1"), "/")
	job, found, err := r.store.NextJob(t.Context(), index.Routine)
	if err != nil || !found || job.URL != r.realm.URL+"/a" {
		t.Errorf("%+v, %t, %v", job, found, err)
	}
}
