package realm

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rewarm/rewarm/internal/client"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// rendering is a server with a store and a fleet.
func rendering(t testing.TB) (Options, *fleet, *clock) {
	t.Helper()
	o, f, c := options(t), newFleet(), &clock{at: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	f.visited = shows
	o.Manager, o.Store, o.Now, o.PresenceInterval = f, openStore(t), c.now, time.Hour
	return o, f, c
}

func hit(t testing.TB, s *Server, target string) answer {
	t.Helper()
	var a answer
	until(t, target+" is a hit", func() bool { a = get(t, s, target); return a.state() == "hit" })
	return a
}

func TestMissThenHit(t *testing.T) {
	o, f, _ := rendering(t)
	s, _ := start(t, o)
	first := get(t, s, "/products/7")
	if first.state() != "miss" || first.body != shellOf("aaaaaaa1") || first.header.Get("Cache-Control") != "no-cache" {
		t.Errorf("%+v", first)
	}
	second := hit(t, s, "/products/7")
	contains(t, second.body, "<p>page "+s.URL()+"/products/7</p>", `src="/assets/main-aaaaaaa1.js"`)
	if second.header.Get(wire.HeaderDocumentShell) != string(s.Token()) || f.count() != 1 {
		t.Errorf("%d renders, %v", f.count(), second.header)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.visits[0].Pin != s.Token() {
		t.Errorf("not pinned: %+v", f.visits[0])
	}
}

func TestMissIsRenderedOnceForTheWholeFleet(t *testing.T) {
	o, f, _ := rendering(t)
	release := make(chan struct{})
	f.visited = func(visit wire.VisitRequest, call client.Call) (client.VisitAnswer, error) {
		<-release
		return shows(visit, call)
	}
	o.RealmURL = "http://realm.example"
	one, _ := start(t, o)
	second := options(t)
	second.Manager, second.Store, second.Now, second.RealmURL = f, o.Store, o.Now, o.RealmURL
	two, _ := start(t, second)
	var askers sync.WaitGroup
	for range 10 {
		askers.Go(func() {
			for _, s := range []*Server{one, two} {
				if a := get(t, s, "/x"); a.state() != "miss" {
					t.Error(a.state())
				}
			}
		})
	}
	askers.Wait()
	close(release)
	hit(t, one, "/x")
	hit(t, two, "/x")
	if f.count() != 1 {
		t.Errorf("%d renders", f.count())
	}
}

func TestW22_OnlyResultsWithTheirDocumentsTokenAreStored(t *testing.T) {
	o, f, _ := rendering(t)
	s, _ := start(t, o)
	old := words.TokenOf([]byte("another shell"))
	outcomes := map[string]func() (client.VisitAnswer, error){
		"/no-token":  func() (client.VisitAnswer, error) { return ready("", "x"), nil },
		"/old-token": func() (client.VisitAnswer, error) { return ready(old, "x"), nil },
		"/partial": func() (client.VisitAnswer, error) {
			a := ready(s.Token(), "x")
			a.Result.Status = words.StatusPartial
			return a, nil
		},
		"/skew": func() (client.VisitAnswer, error) {
			a := ready(s.Token(), "x")
			a.Result.Status, a.Result.Error = words.StatusError, &words.PageError{Kind: words.PageErrorSkew}
			return a, nil
		},
		"/refused": func() (client.VisitAnswer, error) { return client.VisitAnswer{}, errors.New("503") },
	}
	f.mu.Lock()
	f.visited = func(visit wire.VisitRequest, _ client.Call) (client.VisitAnswer, error) {
		return outcomes[strings.TrimPrefix(visit.URL, s.URL())]()
	}
	f.mu.Unlock()
	for target := range outcomes {
		before := f.count()
		get(t, s, target)
		until(t, "rendered", func() bool { return f.count() > before })
		until(t, "done", func() bool {
			only(s).renders.mu.Lock()
			defer only(s).renders.mu.Unlock()
			return len(only(s).renders.busy) == 0
		})
		if a := get(t, s, target); a.state() != "miss" {
			t.Errorf("%s: %s", target, a.state())
		}
		if _, found, err := o.Store.Snapshot(t.Context(), s.URL(), s.Token(), s.URL()+target); found || err != nil {
			t.Errorf("%s was stored under the current token (%v)", target, err)
		}
	}
	kept, found, err := o.Store.Snapshot(t.Context(), s.URL(), old, s.URL()+"/old-token")
	if err != nil || !found || kept.Token != old {
		t.Errorf("a result goes under its own document's token: %v %v", found, err)
	}
}

func TestDeployStartsWithoutTheOldReleasesPages(t *testing.T) {
	o, f, _ := rendering(t)
	s, _ := start(t, o)
	get(t, s, "/")
	old := hit(t, s, "/")
	deploy(t, o.Host, "bbbbbbb2")
	mustAccept(t, s)
	bare := get(t, s, "/", "If-None-Match", old.header.Get("ETag"))
	if bare.code != http.StatusOK || bare.state() != "miss" || bare.body != shellOf("bbbbbbb2") {
		t.Errorf("%+v", bare)
	}
	now := hit(t, s, "/")
	contains(t, now.body, "main-bbbbbbb2.js")
	if now.header.Get("ETag") == old.header.Get("ETag") || f.count() != 2 {
		t.Errorf("%d renders", f.count())
	}
	deploy(t, o.Host, "aaaaaaa1")
	mustAccept(t, s)
	if back := get(t, s, "/"); back.state() != "hit" || back.body != old.body {
		t.Errorf("a rollback finds its own pages again: %s", back.state())
	}
}

func TestW25_ETagCoversShellAndSnapshot(t *testing.T) {
	o, f, c := rendering(t)
	s, _ := start(t, o)
	bare := get(t, s, "/")
	if a := get(t, s, "/other", "If-None-Match", bare.header.Get("ETag")); a.code != http.StatusNotModified {
		t.Errorf("the same bare shell: %d", a.code)
	}
	first := hit(t, s, "/")
	for _, match := range []string{first.header.Get("ETag"), "W/" + first.header.Get("ETag"), `"x", ` + first.header.Get("ETag")} {
		a := get(t, s, "/", "If-None-Match", match)
		if a.code != http.StatusNotModified || a.body != "" || a.header.Get(wire.HeaderDocumentShell) == "" {
			t.Errorf("%s: %+v", match, a)
		}
	}
	if a := get(t, s, "/", "If-None-Match", bare.header.Get("ETag")); a.code != http.StatusOK {
		t.Error("new HTML hid behind the bare shell's ETag")
	}
	f.mu.Lock()
	f.visited = func(_ wire.VisitRequest, call client.Call) (client.VisitAnswer, error) {
		return ready(call.Pin, "changed"), nil
	}
	f.mu.Unlock()
	c.add(11 * time.Minute)
	until(t, "the new page", func() bool {
		a := get(t, s, "/", "If-None-Match", first.header.Get("ETag"))
		return a.code == http.StatusOK && strings.Contains(a.body, "changed")
	})
}

func TestAgesOfSnapshots(t *testing.T) {
	o, f, c := rendering(t)
	s, _ := start(t, o)
	get(t, s, "/")
	hit(t, s, "/")
	block := make(chan struct{})
	f.mu.Lock()
	f.visited = func(visit wire.VisitRequest, call client.Call) (client.VisitAnswer, error) {
		<-block
		return shows(visit, call)
	}
	f.mu.Unlock()
	c.add(9 * time.Minute)
	if a := get(t, s, "/"); a.state() != "hit" {
		t.Error(a.state())
	}
	c.add(2 * time.Minute)
	if a := get(t, s, "/"); a.state() != "stale" || !strings.Contains(a.body, "page ") {
		t.Errorf("%+v", a)
	}
	c.add(24 * time.Hour)
	if a := get(t, s, "/"); a.state() != "miss" {
		t.Error(a.state())
	}
	close(block)
	hit(t, s, "/")
}

func TestWhatThePageAskedToBeAnsweredWith(t *testing.T) {
	o, f, c := rendering(t)
	f.visited = func(visit wire.VisitRequest, call client.Call) (client.VisitAnswer, error) {
		a := ready(call.Pin, "x")
		switch {
		case strings.HasSuffix(visit.URL, "/gone"):
			a.Result.HTTPStatus = 404
		case strings.HasSuffix(visit.URL, "/moved"):
			a.Result.HTTPStatus = 301
			a.Result.Headers = map[string]string{"location": "/new", "Set-Cookie": "a=b", "Content-Security-Policy": "x", "Link": "<a>\r\nX: y", "Cache-Control": "max-age=99"}
		case strings.HasSuffix(visit.URL, "/evil"):
			a.Result.HTTPStatus = 302
			a.Result.Headers = map[string]string{"Location": "javascript:x"}
		case strings.HasSuffix(visit.URL, "/broken"):
			a.Result.Status, a.Result.Error = words.StatusError, &words.PageError{Kind: words.PageErrorPage}
		}
		return a, nil
	}
	s, _ := start(t, o)
	for target, want := range map[string]int{"/gone": 404, "/moved": 301, "/evil": 200} {
		get(t, s, target)
		a := hit(t, s, target)
		if a.code != want || a.header.Get("Set-Cookie")+a.header.Get("Content-Security-Policy")+a.header.Get("Link") != "" || a.header.Get("Cache-Control") != "no-cache" {
			t.Errorf("%s: %d %v", target, a.code, a.header)
		}
		if want == 301 && a.header.Get("Location") != "/new" {
			t.Error(a.header)
		}
	}
	get(t, s, "/broken")
	until(t, "the error is remembered", func() bool {
		_, found, err := o.Store.Snapshot(t.Context(), s.URL(), s.Token(), s.URL()+"/broken")
		return found && err == nil
	})
	before := f.count()
	if a := get(t, s, "/broken"); a.state() != "miss" || a.code != 200 || a.body != shellOf("aaaaaaa1") {
		t.Errorf("%+v", a)
	}
	c.add(61 * time.Second)
	if a := get(t, s, "/gone"); a.state() != "miss" || a.code != 200 {
		t.Errorf("after a minute: %+v", a)
	}
	until(t, "/gone is rendered again", func() bool { return f.count() == before+1 })
}

func TestQueryParameters(t *testing.T) {
	o, f, _ := rendering(t)
	o.QueryAllow = []string{"page", "sort"}
	s, _ := start(t, o)
	if a := get(t, s, "/list?utm=1&page=2"); a.state() != "bypass" || a.body != shellOf("aaaaaaa1") {
		t.Errorf("%+v", a)
	}
	if get(t, s, "/list?page=2&sort=a"); f.count() > 1 {
		t.Error("bypass was rendered")
	}
	if a := hit(t, s, "/list?sort=a&page=2"); !strings.Contains(a.body, "page=2&amp;sort=a") {
		t.Error(a.body)
	}
}

func TestQueueAndKeysAreBounded(t *testing.T) {
	q, now := newRenderQueue(), time.Now()
	add := func(url string, at time.Time) string { _, why := q.add(url, at); return why }
	for i := range maxQueued {
		if why := add(fmt.Sprint(i), now); why != "" {
			t.Fatal(why)
		}
	}
	if why := add("one more", now); why != "queue_full" {
		t.Error(why)
	}
	for i := range maxQueued {
		q.done(<-q.jobs, rendered{hold: time.Duration(i)}, now)
	}
	for i := maxQueued; i < maxKeys-1; i++ { // "one more" is a key too: a worker may store it
		if why := add(fmt.Sprint(i), now); why != "" {
			t.Fatal(why)
		}
		q.done(<-q.jobs, rendered{}, now)
	}
	if why := add("too many", now); why != "too_many_keys" {
		t.Error(why)
	}
	if why := add("1", now.Add(time.Second)); why != "" || len(q.jobs) != 1 {
		t.Errorf("a known key is rendered again: %q", why)
	}
	q.forget()
	if why := add("too many", now); why != "" || len(q.jobs) != 2 {
		t.Errorf("a new release counts anew: %q", why)
	}
}

func TestARenderOfTheOldReleaseHoldsNoPageOfTheNew(t *testing.T) {
	q, now := newRenderQueue(), time.Now()
	private := rendered{outcome: "private", hold: time.Hour}
	old, _ := q.add("/a", now)
	q.forget() // a deploy, while it is rendered
	q.done(<-q.jobs, private, now)
	fresh, why := q.add("/a", now)
	if fresh == old || why != "" {
		t.Fatalf("held by the old release's render: %q", why)
	}
	q.done(<-q.jobs, private, now)
	if again, _ := q.add("/a", now); again != fresh {
		t.Error("the new release's own render holds nothing")
	}
}

func TestCaptureThatFitsNowhereGivesTheBareShell(t *testing.T) {
	o, f, _ := rendering(t)
	f.visited = func(_ wire.VisitRequest, call client.Call) (client.VisitAnswer, error) {
		a := ready(call.Pin, "x")
		a.Result.HTML = `<body><table><tr id="u"><td>1</td><td>2</td></tr></table></body>`
		return a, nil
	}
	put(t, o.Host, map[string]string{"index.html": `<body><table><tr id="u"><td>1</td></tr></table><script src="/assets/main-aaaaaaa1.js"></script></body>`})
	s, _ := start(t, o)
	bare := get(t, s, "/")
	until(t, "stored", func() bool {
		_, found, _ := o.Store.Snapshot(t.Context(), s.URL(), s.Token(), s.URL()+"/")
		return found
	})
	for range 3 {
		if a := get(t, s, "/"); a.state() != "miss" || a.body != bare.body {
			t.Errorf("%+v", a)
		}
	}
	if f.count() != 1 {
		t.Errorf("%d renders", f.count())
	}
}
