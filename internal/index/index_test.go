package index

import (
	"bytes"
	"compress/gzip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rewarm/rewarm/internal/words"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func job(class Class, waited time.Duration) *Job {
	return &Job{Class: class, QueuedAt: noon.Add(-waited)}
}

func TestAMissGoesBeforeADeployAndADeployBeforeARoutine(t *testing.T) {
	for _, test := range []struct {
		heads []*Job
		want  int
	}{
		{nil, -1},
		{[]*Job{nil, nil}, -1},
		{[]*Job{nil, job(Deploy, 0), job(Routine, 0)}, 1},
		{[]*Job{job(Miss, 0), job(Deploy, 10*time.Second), job(Routine, 30*time.Second)}, 0},
		{[]*Job{job(Miss, 0), job(Deploy, ageStep), nil}, 0},
		{[]*Job{job(Miss, 0), job(Deploy, ageStep+1), nil}, 1},
		{[]*Job{job(Miss, time.Second), job(Deploy, 0), job(Routine, 3*ageStep)}, 2},
		{[]*Job{job(Miss, -time.Hour), job(Deploy, 0), nil}, 0}, // another machine's clock is ahead
	} {
		if got := Next(noon, test.heads); got != test.want {
			t.Errorf("%v: %d, want %d", test.heads, got, test.want)
		}
	}
}

// However many more urgent jobs come, every job goes within a bound.
func TestNoJobWaitsForEver(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now, starved := noon, job(Routine, 0)
		for range 1000 {
			now = now.Add(time.Duration(rapid.IntRange(1, 1000).Draw(t, "ms")) * time.Millisecond)
			fresh := &Job{Class: Miss, QueuedAt: now.Add(-time.Second)}
			if Next(now, []*Job{fresh, nil, starved}) == 2 {
				return
			}
		}
		if waited := now.Sub(starved.QueuedAt); waited > 3*ageStep {
			t.Fatalf("a routine job waited %s", waited)
		}
	})
}

func TestW26_AJobOfAnotherReleaseIsDoneAgainUnderTheCurrentOne(t *testing.T) {
	page := Job{URL: "http://r/a", Class: Deploy, Token: "old", Sequence: 1}
	seed := Job{Class: Deploy, Token: "old", Sequence: 1}
	asked := Job{Class: Routine, Token: "old", Sequence: 1}
	for _, test := range []struct {
		job     Job
		current words.Release
		want    Follow
	}{
		{page, words.Release{Token: "old", Sequence: 1}, Go},
		{page, words.Release{Token: "new", Sequence: 2}, Redo},
		{page, words.Release{Token: "old", Sequence: 3}, Go},
		{page, words.Release{}, Wait},
		{page, words.Release{Token: "older", Sequence: 0}, Wait},
		{seed, words.Release{Token: "new", Sequence: 2}, Drop},
		{asked, words.Release{Token: "new", Sequence: 2}, Redo},
	} {
		if got := test.job.Under(test.current); got != test.want {
			t.Errorf("%+v under %+v: %d, want %d", test.job, test.current, got, test.want)
		}
	}
	redone := page.On(words.Release{Token: "new", Sequence: 2}, 7)
	if redone.Token != "new" || redone.Sequence != 2 || redone.Run != 7 || redone.URL != page.URL || redone.QueuedAt != page.QueuedAt {
		t.Errorf("redone: %+v", redone)
	}
}

func TestARunIsDueOncePerReleaseAndThenByTheClock(t *testing.T) {
	current := words.Release{Token: "b", Sequence: 2}
	for _, test := range []struct {
		last  Run
		now   words.Release
		every time.Duration
		class Class
		due   bool
	}{
		{Run{}, words.Release{}, time.Hour, 0, false},
		{Run{}, current, 0, Deploy, true},
		{Run{Sequence: 1, StartedAt: noon}, current, time.Hour, Deploy, true},
		{Run{Sequence: 2, StartedAt: noon}, current, time.Hour, 0, false},
		{Run{Sequence: 2, StartedAt: noon.Add(-time.Hour)}, current, time.Hour, Routine, true},
		{Run{Sequence: 2, StartedAt: noon.Add(-time.Hour)}, current, 0, 0, false},
		{Run{Sequence: 3, StartedAt: noon}, current, 0, 0, false}, // heard of a newer one elsewhere
	} {
		if class, due := Due(noon, test.last, test.now, test.every); class != test.class || due != test.due {
			t.Errorf("%+v: %v %t, want %v %t", test.last, class, due, test.class, test.due)
		}
	}
}

func TestAPageIsRenderedOnlyWhenWhatIsStoredIsNoUse(t *testing.T) {
	for _, test := range []struct {
		class Class
		age   time.Duration // of the snapshot; the job is a minute old
		want  bool
	}{
		{Deploy, 0, false}, {Deploy, time.Hour, true}, {Miss, 5 * time.Minute, false},
		{Routine, 5 * time.Minute, true}, {Routine, 10 * time.Second, false},
	} {
		if got := job(test.class, time.Minute).Needed(noon, noon.Add(-test.age), 10*time.Minute); got != test.want {
			t.Errorf("%+v: %t", test, got)
		}
	}
	if !job(Deploy, 0).Needed(noon, time.Time{}, time.Hour) {
		t.Error("nothing is stored, and it is not needed")
	}
}

func TestRetriesOfAPageEndAndThoseOfARefusalDoNot(t *testing.T) {
	for _, test := range []struct {
		outcome             Outcome
		renders, deliveries int
		asked               time.Duration
		want                Verdict
	}{
		{Done, 0, 1, 0, Verdict{Finished: true}},
		{Skipped, 0, 1, 0, Verdict{Finished: true}},
		{Hopeless, 1, 1, 0, Verdict{Finished: true, Dead: true}},
		{Failed, 1, 1, 0, Verdict{After: 5 * time.Second}},
		{Failed, 3, 100, 0, Verdict{After: 45 * time.Second}},
		{Failed, MaxRenders, 4, 0, Verdict{Finished: true, Dead: true}},
		{Refused, 0, 1, 0, Verdict{After: 2 * time.Second, Pause: 2 * time.Second}},
		{Refused, 0, 4, 0, Verdict{After: 16 * time.Second, Pause: 2 * time.Second}},
		{Refused, 0, 1, 10 * time.Second, Verdict{After: 10 * time.Second, Pause: 10 * time.Second}},
		{Refused, 0, 1, time.Hour, Verdict{After: time.Minute, Pause: time.Minute}},
		{Refused, 0, 100_000, 0, Verdict{After: time.Minute, Pause: 2 * time.Second}},
		{Held, 0, 1, 0, Verdict{After: 2 * time.Second}},
		{Held, 0, 100_000, 0, Verdict{After: time.Minute}},
		{Held, 0, 9, 3 * time.Second, Verdict{After: 3 * time.Second}},
		{Held, 0, 1, time.Hour, Verdict{After: time.Minute}},
		{Overtaken, 0, 1, 0, Verdict{After: time.Second}},
		{Overtaken, 0, 3, 0, Verdict{After: 4 * time.Second}},
		{Overtaken, 0, 100_000, 0, Verdict{After: time.Minute}},
	} {
		if got := Judge(test.outcome, test.renders, test.deliveries, test.asked); got != test.want {
			t.Errorf("%+v: %+v", test, got)
		}
	}
	if got := Backoff(1 << 20); got != time.Minute {
		t.Errorf("after many: %s", got)
	}
}

func TestPagesHaveOneNameHoweverTheyAreSpelled(t *testing.T) {
	for _, test := range []struct{ realm, url, want string }{
		{"http://r", "http://r", "http://r/"},
		{"http://r", "http://R/a#part", "http://r/a"},
		{"http://r", "http://r/a?b=2&a=1", "http://r/a?a=1&b=2"},
		{"http://r", "http://r/a?utm=1", ""},
		{"http://r", "http://r/a b", "http://r/a%20b"},
		{"http://r", "https://r/a", ""},
		{"http://r", "http://r:81/a", ""},
		{"http://r", "http://u:p@r/a", ""},
		{"http://r", "http://r/a/../b", ""},
		{"http://r", "http://r//a", ""},
		{"http://r", "http://r/" + strings.Repeat("a", MaxURL), ""},
		{"http://r/app", "http://r/app/x", "http://r/app/x"},
		{"http://r/app", "http://r/app", "http://r/app/"},
		{"http://r/app", "http://r/app?b=1", "http://r/app/?b=1"},
		{"http://r/app", "http://r/apple", ""},
		{"http://r/app", "http://r/", ""},
		{"http://r", "/a", ""},
	} {
		u, err := url.Parse(test.url)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := PageURL(test.realm, u, []string{"a", "b"}); got != test.want && (ok || test.want != "") {
			t.Errorf("%s in %s: %q %t, want %q", test.url, test.realm, got, ok, test.want)
		}
	}
}

func TestLinksToFilesAndToTheServersOwnRoutesAreNotFollowed(t *testing.T) {
	for link, want := range map[string]bool{
		"http://r/a": true, "http://r/v1.2": true, "http://r/a.html": true, "http://r/": true,
		"http://r/a.pdf": false, "http://r/sitemap.xml": false, "http://r/_standby": false, "http://r/a.JPG": false,
		"mailto:a@r": false, "javascript:void(0)": false, "http://other/a": false, "http://r/%zz": false, "": false,
	} {
		if _, ok := Linked("http://r", link, nil); ok != want {
			t.Errorf("%s: %t", link, ok)
		}
	}
}

func TestOwnRoutesOfARealmAreBelowIt(t *testing.T) {
	for link, want := range map[string]bool{
		"http://r/app/a": true, "http://r/app": true, "http://r/app/_standby": false, "http://r/app/a/_b": true,
		"http://r/_standby": false, "http://r/a": false,
	} {
		if _, ok := Linked("http://r/app", link, nil); ok != want {
			t.Errorf("%s: %t", link, ok)
		}
	}
}

func TestPagesBelongToTheInnermostRealm(t *testing.T) {
	all := []string{"http://r", "http://r/a", "http://r/a/b", "http://other/a/b/c"}
	for page, want := range map[string]string{
		"http://r/": "http://r", "http://r/a/x": "http://r/a", "http://r/a": "http://r/a", "http://r/ab": "http://r",
		"http://r/a/b/c": "http://r/a/b", "http://r/a/bc": "http://r/a", "http://r/a?x=1": "http://r/a",
	} {
		if got := Owner("http://r", page, all); got != want {
			t.Errorf("%s is of %s, want %s", page, got, want)
		}
	}
	if got := Owner("http://r/a", "http://r/a/x", nil); got != "http://r/a" {
		t.Errorf("while no realm is known: %s", got)
	}
}

func TestLinksOfAStoredPageAreFound(t *testing.T) {
	got := Links("http://r/app/x", `<!doctype html><a href="y">a</a><A HREF=" /z?a=1&amp;b=2 ">b</a><a>c</a><a href="http://[">d</a><link href="/no"><!-- <a href="/no"> --><base href="/deep/"><area href="w">`)
	if want := []string{"http://r/app/y", "http://r/z?a=1&b=2", "http://r/deep/w"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := Links("http://r/", strings.Repeat(`<a href="/x">`, 2*maxLinks)); len(got) != maxLinks {
		t.Errorf("%d links", len(got))
	}
}

func TestSitemapsOfEveryKindAreRead(t *testing.T) {
	const plain = `<?xml version="1.0"?><urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">
<url><loc> http://r/low </loc><priority>0.1</priority></url><url><loc>http://r/mid?a=1&amp;b=2</loc></url>
<url><loc>http://r/high</loc><priority>1.0</priority></url><url></url><url><loc>http://r/odd</loc><priority>NaN</priority></url></urlset>`
	want := []string{"http://r/high", "http://r/mid?a=1&b=2", "http://r/odd", "http://r/low"}
	for name, file := range map[string]string{"plain": plain, "gzip": folded(plain), "with a mark": "\xef\xbb\xbf" + plain} {
		if got, err := ReadSitemap(strings.NewReader(file)); err != nil || !slices.Equal(got.Pages, want) || got.Cut {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	got, err := ReadSitemap(strings.NewReader(`<sitemapindex><sitemap><loc>http://r/a.xml</loc></sitemap></sitemapindex>`))
	if err != nil || !slices.Equal(got.Sitemaps, []string{"http://r/a.xml"}) {
		t.Errorf("index: %+v, %v", got, err)
	}
	got, err = ReadSitemap(strings.NewReader("http://r/a\r\nnonsense\nhttps://r/b\n"))
	if err != nil || !slices.Equal(got.Pages, []string{"http://r/a", "https://r/b"}) {
		t.Errorf("lines: %+v, %v", got, err)
	}
	got, err = ReadSitemap(strings.NewReader(`<urlset><url><loc>http://r/a</loc></url><url><loc>http://r/b`))
	if err == nil || !slices.Equal(got.Pages, []string{"http://r/a"}) {
		t.Errorf("broken off: %+v, %v", got, err)
	}
}

func TestASitemapIsBounded(t *testing.T) {
	const maxBytes, maxEntries = 10_000, 100
	many := "<urlset>" + strings.Repeat("<url><loc>http://r/</loc></url>", maxEntries+1)
	for name, file := range map[string]string{
		"many":         many,
		"many lines":   strings.Repeat("http://r/\n", maxEntries+1),
		"gzipped void": folded("<urlset>" + strings.Repeat(" ", maxBytes)),
		"gzipped line": folded(strings.Repeat("x", maxBytes)),
	} {
		if got, err := readSitemap(strings.NewReader(file), maxBytes, maxEntries); err != nil || !got.Cut || len(got.Pages) > maxEntries {
			t.Errorf("%s: %d pages, cut %t, %v", name, len(got.Pages), got.Cut, err)
		}
	}
	long := "<urlset><url><loc>http://r/" + strings.Repeat("a", MaxURL) + "</loc></url></urlset>"
	if got, err := ReadSitemap(strings.NewReader(long)); err != nil || len(got.Pages) != 0 {
		t.Errorf("a long URL: %d pages, %v", len(got.Pages), err)
	}
}

func folded(s string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte(s))
	_ = w.Close()
	return b.String()
}

func TestRobotsRulesAreKept(t *testing.T) {
	rules, err := ReadRobots(200, []byte("User-agent: *\nDisallow: /all\n\nUser-agent: Rewarm\nDisallow: /private\nCrawl-delay: 2\nSitemap: http://r/s.xml\n"))
	if err != nil || rules.Delay != 2*time.Second || !slices.Equal(rules.Sitemaps, []string{"http://r/s.xml"}) {
		t.Fatalf("%+v, %v", rules, err)
	}
	for page, want := range map[string]bool{"http://r/private/x": false, "http://r/all": true, "http://r/": true, "::": false} {
		if rules.Allow(page) != want {
			t.Errorf("%s: %t", page, !want)
		}
	}
	none, err := ReadRobots(404, nil)
	if err != nil || !none.Allow("http://r/x") || !(Robots{}).Allow("http://r/x") {
		t.Errorf("no rules forbid something: %v", err)
	}
	if _, err := ReadRobots(503, nil); err == nil {
		t.Error("rules that are not known allow something")
	}
	wrong, err := ReadRobots(200, []byte("Disallow: /early\nSitemap: http://r/s.xml\nCrawl-delay: 3\nUser-agent: *\nCrawl-delay: soon\nDisallow: /private\nnonsense\x00\n"))
	if err != nil || wrong.Allow("http://r/private") || !wrong.Allow("http://r/early") || len(wrong.Sitemaps) != 1 {
		t.Errorf("with wrong lines: %+v, %v", wrong, err)
	}
	slow, err := ReadRobots(200, []byte("User-agent: *\nCrawl-delay: 99999999\n"))
	if err != nil || slow.Delay != maxCrawlDelay {
		t.Errorf("%+v, %v", slow, err)
	}
}

func FuzzReadSitemap(f *testing.F) {
	f.Add([]byte("<urlset><url><loc>http://r/</loc></url></urlset>"))
	f.Add([]byte(folded("<sitemapindex/>")))
	f.Add([]byte("http://r/a\n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		got, _ := ReadSitemap(bytes.NewReader(file))
		for _, page := range append(got.Pages, got.Sitemaps...) {
			if page == "" || len(page) > MaxURL {
				t.Errorf("page %q", page)
			}
		}
	})
}

func FuzzReadRobots(f *testing.F) {
	f.Add([]byte("User-agent: *\nDisallow: /\nCrawl-delay: -1"))
	f.Fuzz(func(t *testing.T, file []byte) {
		rules, err := ReadRobots(200, file)
		if err != nil { // its realm would never be indexed
			t.Error(err)
		}
		rules.Allow("http://r/x")
		if rules.Delay < 0 || rules.Delay > maxCrawlDelay {
			t.Errorf("delay %s", rules.Delay)
		}
	})
}

func FuzzLinked(f *testing.F) {
	f.Add("http://r/app/a?b=1#c")
	f.Fuzz(func(t *testing.T, link string) {
		page, ok := Linked("http://r/app", link, []string{"b"})
		if !ok {
			return
		}
		again, ok := Linked("http://r/app", page, []string{"b"})
		if !strings.HasPrefix(page, "http://r/app/") || len(page) > MaxURL || !ok || again != page {
			t.Errorf("%q became %q, then %q", link, page, again)
		}
	})
}
