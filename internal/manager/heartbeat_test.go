package manager

import (
	"bufio"
	"context"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rewarm/rewarm/internal/wire"
)

func TestHeartbeatRules(t *testing.T) {
	r := start(t)
	for _, body := range []string{attrs(map[string]any{}), attrs(map[string]any{"url": 7}), attrs(map[string]any{"url": ""})} {
		if got := r.do("POST", "/prerender-servers", body); got.status != 400 || got.message() != "URL is required" {
			t.Errorf("%s: %v", body, got)
		}
	}
	draining := func() bool { return strings.Contains(r.do("GET", "/", "").body, `"status":"draining"`) }
	r.beat("http://S:80/", map[string]any{"status": "draining", "instance": "one"})
	if !draining() {
		t.Error("not draining")
	}
	r.beat("http://s", map[string]any{"instance": "one"})
	if !draining() {
		t.Error("the process that drains came back")
	}
	r.beat("http://s", map[string]any{"instance": "two"})
	if draining() {
		t.Error("the new process drains")
	}
	r.beat("http://s", map[string]any{"status": "draining"})
	r.beat("http://s", map[string]any{})
	if draining() {
		t.Error("without an instance the last heartbeat wins")
	}
	if got := r.do("DELETE", "/prerender-servers", ""); got.status != 400 || got.message() != "Missing required query parameter: url" {
		t.Errorf("no url: %v", got)
	}
	if got := r.do("DELETE", "/prerender-servers?url=http://nobody", ""); got.status != 204 {
		t.Errorf("unknown: %v", got)
	}
	if got := r.do("DELETE", "/prerender-servers?url=http://s/", ""); got.status != 204 || r.fleet.presence() != nobody {
		t.Errorf("known: %v", got)
	}
	if got := r.do("GET", "/nowhere", ""); got.status != 404 || got.message() == "" {
		t.Errorf("unknown path: %v", got)
	}
}

// A heartbeat can be on its way when its process ends, and be heard after the
// word that it left.
func TestW21_AServerThatLeftIsNotBroughtBackByALateHeartbeat(t *testing.T) {
	r := start(t)
	leave := func() { r.do("DELETE", "/prerender-servers?url=http://s", "") }
	registered := func() bool { return r.fleet.presence() != nobody }
	drains, works := map[string]any{"status": "draining", "instance": "one"}, map[string]any{"instance": "one"}
	r.beat("http://s", drains)
	leave()
	for name, late := range map[string]map[string]any{"draining": drains, "from before": works} {
		if r.beat("http://s", late); registered() {
			t.Errorf("%s: it is back", name)
		}
	}
	r.beat("http://s", map[string]any{"instance": "two"})
	if !registered() {
		t.Error("the next process is refused")
	}
	leave() // by an operator: this one does not drain
	r.beat("http://s", map[string]any{"status": "draining", "instance": "two"})
	if registered() {
		t.Error("it is back, draining")
	}
	r.beat("http://s", map[string]any{"instance": "two"})
	if !registered() {
		t.Error("a process that lives and works is refused")
	}
}

func TestAssignmentsOverHTTP(t *testing.T) {
	s := newFake(t, status(201))
	r := start(t)
	r.beat(s.URL, map[string]any{"warmedAffinities": []string{}})
	assigned := func() bool { return strings.Contains(r.do("GET", "/", "").body, `"affinityValue":"`+realm+`"`) }
	r.do("POST", "/prerender-visit", visitBody())
	if !assigned() {
		t.Fatal("not assigned")
	}
	r.beat(s.URL, nil)
	if !assigned() {
		t.Error("a heartbeat without affinities erased it")
	}
	key := url.PathEscape("realm:" + realm)
	if got := r.do("DELETE", "/prerender-servers/affinities/"+key, ""); got.status != 400 || got.message() != "Missing required query parameter: url" {
		t.Errorf("no url: %v", got)
	}
	if got := r.do("DELETE", "/prerender-servers/affinities/"+key+"?url="+url.QueryEscape(s.URL), ""); got.status != 204 || assigned() {
		t.Errorf("disposed: %v", got)
	}
	r.do("POST", "/prerender-visit", visitBody())
	if got := r.do("POST", "/release-batch", visitBody("batchId", "b")); got.status != 204 || s.calls() != 3 || s.seen[2].URL.Path != "/release-batch" {
		t.Errorf("batch: %v, %d calls", got, s.calls())
	}
	if got := r.do("POST", "/prerender-maintenance/reset", ""); got.status != 204 || assigned() || r.fleet.presence() != somebody {
		t.Errorf("reset: %v", got)
	}
}

func TestDiscoveryWaitsForAServer(t *testing.T) {
	r := start(t, func(o *Options) { o.DiscoveryWait = time.Minute })
	s := newFake(t, status(201))
	var wait sync.WaitGroup
	wait.Go(func() {
		if got, err := r.try(t.Context(), "POST", "/prerender-visit", visitBody()); err != nil || got.status != 201 {
			t.Errorf("got %v %v", got, err)
		}
	})
	eventually(t, "the visit waits", func() bool { return r.working.Load() == 1 })
	r.beat(s.URL, nil)
	wait.Wait()
}

func TestSweep(t *testing.T) {
	r := start(t, func(o *Options) { o.HeartbeatTimeout, o.SweepInterval = 50*time.Millisecond, 10*time.Millisecond })
	r.beat("http://s", nil)
	eventually(t, "it is swept", func() bool { return r.fleet.presence() == nobody })
}

// held sends a heartbeat that is to be held and returns where its answer goes.
func (r *rig) held(ctx context.Context, url string, more map[string]any) <-chan reply {
	got := make(chan reply, 1)
	a := map[string]any{"url": url}
	maps.Copy(a, more)
	go func() {
		answer, _ := r.try(ctx, "POST", "/prerender-servers", attrs(a), "Prefer", "respond-async, wait=600")
		got <- answer
	}()
	eventually(r.t, "the heartbeat is held", func() bool {
		r.fleet.mu.Lock()
		defer r.fleet.mu.Unlock()
		s := r.fleet.servers[url]
		return s != nil && s.hold != nil || len(got) > 0
	})
	return got
}

func TestHeldHeartbeats(t *testing.T) {
	r := start(t)
	r.mustSay("old", "boot", "a")
	fresh := pagesOf(1, "old", map[string]int{"old": 1})
	first := r.held(t.Context(), "http://s", fresh)
	second := r.held(t.Context(), "http://s", fresh)
	if got := <-first; got.status != 204 {
		t.Errorf("a newer one ends the older: %v", got)
	}
	r.beat("http://s", fresh) // an ordinary one beside it
	r.mustSay("new", "deployment", "a")
	if got := <-second; got.status != 204 || got.header.Get(wire.HeaderRelease) != "2 new" || got.header.Get(wire.HeaderShellHash) != "new" {
		t.Errorf("the release ends it: %v", got.header)
	}
	// News at once when the body is behind.
	if got := <-r.held(t.Context(), "http://s", fresh); got.header.Get(wire.HeaderRelease) != "2 new" {
		t.Errorf("behind already: %v", got.header)
	}
	// The permission ends it too.
	canary := pagesOf(2, "new", map[string]int{"old": 1})
	r.beat("http://s", canary)
	other := r.held(t.Context(), "http://t", pagesOf(2, "old", map[string]int{"old": 1}))
	r.beat("http://s", pagesOf(2, "new", map[string]int{"new": 1}))
	if got := <-other; got.header.Get(wire.HeaderShellHash) != "new" {
		t.Errorf("the permission ends it: %v", got.header)
	}
	// So does unregistering.
	gone := r.held(t.Context(), "http://u", pagesOf(2, "new", map[string]int{"new": 1}))
	r.do("DELETE", "/prerender-servers?url=http://u", "")
	if got := <-gone; got.status != 204 {
		t.Errorf("unregistered: %v", got)
	}
}

func TestAHeldHeartbeatCountsAsHeardFrom(t *testing.T) {
	r := start(t, func(o *Options) { o.HeartbeatTimeout, o.SweepInterval = 10*time.Second, 5*time.Millisecond })
	ctx, cancel := context.WithCancel(t.Context())
	got := r.held(ctx, "http://s", nil)
	far := time.Now().Add(time.Hour)
	if left := r.fleet.sweep(far); len(left) != 0 {
		t.Errorf("swept: %v", left)
	}
	cancel()
	<-got
	eventually(t, "its end is noticed", func() bool {
		r.fleet.mu.Lock()
		defer r.fleet.mu.Unlock()
		return r.fleet.servers["http://s"].hold == nil
	})
	if left := r.fleet.sweep(far); len(left) != 1 {
		t.Errorf("not swept: %v", left)
	}
}

func TestW21_DrainRefusesAndFinishes(t *testing.T) {
	release := make(chan struct{})
	s := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		<-release
		status(201)(w, r)
	})
	r := start(t, func(o *Options) { o.DrainGrace = time.Minute })
	r.beat(s.URL, nil)
	running := make(chan reply, 1)
	go func() {
		got, _ := r.try(t.Context(), "POST", "/prerender-visit", visitBody())
		running <- got
	}()
	held := r.held(t.Context(), "http://held", nil)
	eventually(t, "a render runs", func() bool { return s.calls() == 1 })
	ended := make(chan struct{})
	go func() {
		r.stop()
		close(ended)
	}()
	if got := <-held; got.status != 204 {
		t.Errorf("held: %v", got)
	}
	for _, c := range []struct{ method, path, body string }{
		{"GET", "/", ""}, {"HEAD", "/", ""}, {"GET", "/readyz", ""},
		{"POST", "/prerender-visit", "{"}, {"POST", "/run-command", visitBody()},
	} {
		got := r.do(c.method, c.path, c.body)
		if got.status != 410 || got.header.Get(wire.HeaderServerStatus) != "draining" || c.method != "HEAD" && got.message() != "Prerender manager draining" {
			t.Errorf("%s %s: %v", c.method, c.path, got)
		}
	}
	if got := r.says("v1", "boot", "a"); got.status != 204 {
		t.Errorf("a report while draining: %v", got)
	}
	close(release)
	if got := <-running; got.status != 201 {
		t.Errorf("the running render: %v", got)
	}
	<-ended
}

func TestGraceEndsAndNothingLooksLikeASuccess(t *testing.T) {
	s := newFake(t, func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	for _, path := range []string{"/prerender-visit", "/prerender-module", "/run-command"} {
		r := start(t, func(o *Options) { o.DrainGrace = 50 * time.Millisecond })
		r.beat(s.URL, nil)
		before := s.calls()
		running := make(chan reply, 1)
		go func() {
			got, err := r.try(t.Context(), "POST", path, visitBody("command", "x"))
			if err != nil {
				got.status = 0
			}
			running <- got
		}()
		eventually(t, "a request runs", func() bool { return s.calls() == before+1 })
		r.stop()
		if got := <-running; got.status != 0 && got.status < 500 {
			t.Errorf("%s: cut off, and yet %v", path, got)
		}
	}
}

func TestEvents(t *testing.T) {
	r := start(t)
	request, _ := http.NewRequestWithContext(t.Context(), "GET", r.base+"/events", nil)
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if got := response.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Error(got)
	}
	lines := bufio.NewScanner(response.Body)
	until := func(part string) {
		t.Helper()
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), "data: ") && strings.Contains(lines.Text(), part) {
				return
			}
		}
		t.Fatalf("the stream ended before %s", part)
	}
	until(`"phase":"none"`)
	r.mustSay("v1", "boot", "a")
	until(`"token":"v1"`)
	r.beat("http://s", pagesOf(1, "v1", map[string]int{"v1": 1}))
	until(`"phase":"complete"`)
	r.stop()
}
