package manager

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rewarm/rewarm/internal/bus"
	"github.com/rewarm/rewarm/internal/wire"
)

func (r *rig) hostShells() (view wire.Releases) {
	r.t.Helper()
	got := r.do("GET", "/host-shell", "")
	if err := json.Unmarshal([]byte(got.body), &view); err != nil || got.status != 200 {
		r.t.Fatalf("%v: %+v", err, got)
	}
	return view
}

func (r *rig) progressOf() (view wire.Rollout) {
	r.t.Helper()
	got := r.do("GET", "/rollout", "")
	if err := json.Unmarshal([]byte(got.body), &view); err != nil || got.status != 200 {
		r.t.Fatalf("%v: %+v", err, got)
	}
	return view
}

func TestReportsAreRecorded(t *testing.T) {
	r := start(t)
	if view := r.hostShells(); view.Current != nil || view.History == nil || view.Reporters == nil {
		t.Errorf("before: %+v", view)
	}
	if got := r.mustSay("one", "boot", "a", "deploymentId", "d1"); got != "1 one" {
		t.Errorf("the first release: %q", got)
	}
	if got := r.mustSay("one", "presence", "a"); got != "1 one" {
		t.Errorf("repeated: %q", got)
	}
	if got := r.mustSay("two", "deployment", "a"); got != "2 two" {
		t.Errorf("the second: %q", got)
	}
	view := r.hostShells()
	if view.Current == nil || view.Current.Token != "two" || len(view.History) != 2 || view.History[1].DeploymentID != "d1" {
		t.Errorf("history: %+v", view)
	}
	if len(view.Reporters) != 1 || view.Reporters[0].Name != "a" || view.Reporters[0].Token != "two" || view.Reporters[0].Behind || view.Reporters[0].Realms[0] != realm {
		t.Errorf("reporters: %+v", view.Reporters)
	}
}

func TestW10_ABadTokenChangesNothing(t *testing.T) {
	r := start(t)
	r.mustSay("good", "boot", "a")
	for hash, message := range map[string]string{
		"  ": "hash is required", strings.Repeat("x", 65): "hash too long", "a\r\nSet-Cookie: b": "hash has invalid characters", "ä": "hash has invalid characters",
	} {
		if got := r.says(hash, "deployment", "a"); got.status != 400 || got.message() != message {
			t.Errorf("%q: %d %s", hash, got.status, got.body)
		}
	}
	if got := r.do("POST", "/host-shell", attrs(map[string]any{"hash": 7})); got.message() != "hash is required" {
		t.Errorf("a number: %v", got)
	}
	if got := r.beat("http://s", nil); got.header.Get(wire.HeaderRelease) != "1 good" {
		t.Errorf("heartbeats: %v", got.header)
	}
}

func TestW10_WithoutTheSecretNothingChanges(t *testing.T) {
	r := start(t, func(o *Options) { o.Guard.Secrets = []string{secret} })
	for _, c := range []struct{ method, path, body string }{
		{"POST", "/prerender-servers", attrs(map[string]any{"url": "http://evil"})},
		{"DELETE", "/prerender-servers?url=x", ""},
		{"DELETE", "/prerender-servers/affinities/a?url=x", ""},
		{"POST", "/prerender-maintenance/reset", ""},
		{"POST", "/host-shell", attrs(map[string]any{"hash": "evil"})},
		{"GET", "/host-shell", ""}, {"GET", "/rollout", ""}, {"POST", "/index", "{}"}, {"GET", "/index?realm=http://r", ""}, {"DELETE", "/index?realm=http://r&all=true", ""}, {"POST", "/rollout/pause", ""}, {"GET", "/events", ""},
		{"POST", "/prerender-visit", visitBody()}, {"POST", "/prerender-module", visitBody()},
		{"POST", "/prerender-screenshot", visitBody()}, {"POST", "/run-command", visitBody()}, {"POST", "/release-batch", visitBody()},
	} {
		if got := r.do(c.method, c.path, c.body, "Authorization", "Bearer wrong"); got.status != 401 {
			t.Errorf("%s %s: %d", c.method, c.path, got.status)
		}
	}
	got := r.do("GET", "/", "")
	if got.status != 200 || strings.Contains(got.body, "included") || !strings.Contains(got.body, `"ready":false`) {
		t.Errorf("health: %+v", got)
	}
	if got := r.do("GET", "/", "", "Authorization", "Bearer "+secret); !strings.Contains(got.body, `"included":[]`) {
		t.Errorf("health for the fleet: %+v", got)
	}
	for _, path := range []string{"/livez", "/metrics"} {
		if got := r.do("GET", path, ""); got.status != 200 {
			t.Errorf("%s: %d", path, got.status)
		}
	}
}

func TestW06_AlternatingReportersDoNotFlipTheFleet(t *testing.T) {
	r := start(t)
	r.mustSay("old", "boot", "replica-1")
	if got := r.mustSay("new", "deployment", "replica-2"); got != "2 new" {
		t.Fatal(got)
	}
	for range 6 {
		if got := r.mustSay("old", "presence", "replica-1"); got != "2 new" {
			t.Fatalf("the fleet moved: %s", got)
		}
		r.mustSay("new", "presence", "replica-2")
	}
	view := r.hostShells()
	for _, reporter := range view.Reporters {
		if reporter.Behind != (reporter.Name == "replica-1") {
			t.Errorf("behind: %+v", reporter)
		}
	}
	if got := r.mustSay("old", "operator", "replica-1"); got != "3 old" {
		t.Errorf("a rollback at once: %s", got)
	}
}

func TestW08_PersistedBefore204AndThroughARestart(t *testing.T) {
	dir := t.TempDir()
	b, err := bus.Start(t.Context(), bus.Options{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	l := newLedger(t, b)
	r := startOn(t, l)
	r.mustSay("one", "boot", "a")
	r.mustSay("two", "deployment", "a")
	state, _, err := l.Releases(t.Context())
	if err != nil || state.Sequence != 2 || state.History[0].Token != "two" {
		t.Fatalf("stored: %+v %v", state, err)
	}
	r.stop()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := bus.Start(t.Context(), bus.Options{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = again.Close() })
	r = startOn(t, newLedger(t, again))
	if got := r.beat("http://s", nil).header.Get(wire.HeaderRelease); got != "2 two" {
		t.Errorf("after the restart: %q", got)
	}
	if got := r.mustSay("one", "presence", "a"); got != "2 two" {
		t.Errorf("the history was forgotten: %q", got)
	}
}

func TestW08_StoreAwayIsNo204(t *testing.T) {
	b := newStore(t)
	r := startOn(t, newLedger(t, b))
	r.mustSay("one", "boot", "a")
	s := newFake(t, status(201))
	r.beat(s.URL, pagesOf(1, "", map[string]int{"zero": 1}))
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	for _, source := range []string{"deployment", "presence"} {
		if got := r.says("two", source, "a"); got.status != 503 || got.header.Get("Retry-After") == "" {
			t.Errorf("%s: %v", source, got)
		}
	}
	if got := r.says("one", "presence", "a"); got.status != 503 {
		t.Errorf("the current token: %v", got)
	}
	if got := r.beat(s.URL, nil).header.Get(wire.HeaderRelease); got != "1 one" {
		t.Errorf("heartbeats go on from memory: %q", got)
	}
	if got := r.do("POST", "/prerender-visit", visitBody()); got.status != 201 {
		t.Errorf("renders go on: %v", got)
	}
	if got := r.do("POST", "/run-command", visitBody("command", "x")); got.status != 503 || s.calls() != 1 {
		t.Errorf("commands are refused: %v", got)
	}
	if got := r.do("GET", "/readyz", ""); got.status != 503 {
		t.Errorf("ready: %v", got)
	}
	eventually(t, "the rollout is held", func() bool { return r.fleet.progress(time.Now()).Phase != wire.RolloutComplete && r.storeAway.Load() })
}

func TestW05_ConvergenceDependsOnPagesNotOnReports(t *testing.T) {
	r := start(t)
	r.mustSay("old", "boot", "a")
	r.mustSay("new", "deployment", "a")
	r.mustSay("new", "presence", "a") // equal: a no-op for the release, and for the permission
	got := r.beat("http://s", pagesOf(2, "old", map[string]int{"old": 2}))
	if got.header.Get(wire.HeaderShellHash) != "new" {
		t.Fatalf("not permitted: %v", got.header)
	}
	// It moved, but a load balancer gave it the old shell once more.
	r.beat("http://s", pagesOf(2, "new", map[string]int{"new": 1, "old": 1}))
	if view := r.progressOf(); view.Phase == wire.RolloutComplete {
		t.Error("complete with an old page")
	}
	if got := r.beat("http://s", pagesOf(2, "new", map[string]int{"old": 2})); got.header.Get(wire.HeaderShellHash) != "new" {
		t.Error("the permission was taken back")
	}
	r.beat("http://s", pagesOf(2, "new", map[string]int{"new": 2}))
	if view := r.progressOf(); view.Phase != wire.RolloutComplete || view.FinishedAt.IsZero() {
		t.Errorf("got %+v", view)
	}
}

func TestW09_StalenessIsVisible(t *testing.T) {
	r := start(t)
	r.mustSay("old", "boot", "a")
	r.mustSay("new", "deployment", "a")
	r.beat("http://s", map[string]any{"hostShell": map[string]any{"release": 1, "desired": "old", "pages": map[string]int{"old": 3}, "phase": "waiting", "detail": "why"}, "capacity": 2})
	health := r.do("GET", "/", "")
	for _, part := range []string{`"hostShell":{"token":"new","sequence":2,"since":"`, `(UTC+00:00)"`, `"pages":{"old":3}`, `"phase":"waiting"`, `"detail":"why"`, `"capacity":2`} {
		if !strings.Contains(health.body, part) {
			t.Errorf("health lacks %s: %s", part, health.body)
		}
	}
	if got := r.do("GET", "/metrics", "").body; !strings.Contains(got, "rewarm_manager_superseded_pages 3") || !strings.Contains(got, "rewarm_manager_release_sequence 2") {
		t.Errorf("metrics: %s", got)
	}
	if got := r.do("GET", "/", "", "Accept", "text/html,*/*"); !strings.Contains(got.body, "<td>waiting why") || !strings.HasPrefix(got.header.Get("Content-Type"), "text/html") {
		t.Errorf("page: %s", got.body)
	}
}

func TestAnUnknownTokenMakesTheManagerAsk(t *testing.T) {
	token := "v1"
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/_host-shell-hash" {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write([]byte(token + "\n"))
	}))
	t.Cleanup(site.Close)
	r := start(t)
	if got := r.do("POST", "/host-shell", attrs(map[string]any{"hash": "v0", "source": "boot", "reporter": "a", "realms": []string{site.URL + "/"}})); got.status != 204 {
		t.Fatal(got)
	}
	r.beat("http://s", pagesOf(1, "v0", map[string]int{"invented": 1}))
	r.beat("http://s", pagesOf(1, "v0", map[string]int{"v1": 1}))
	eventually(t, "the release that no report named is recorded", func() bool { return r.fleet.current().Token == "v1" })
	if view := r.hostShells(); len(view.History) != 2 || view.Current.Source != "presence" {
		t.Errorf("a token that no realm serves was recorded: %+v", view)
	}
}

func withSkews(n int) map[string]any {
	return map[string]any{"instance": "i", "hostShell": map[string]any{"release": 1, "desired": "v0", "pages": map[string]int{"v0": 1}, "skews": n}}
}

func TestASkewMakesTheManagerAskWhatTheRealmsServe(t *testing.T) {
	var token atomic.Value
	token.Store("v0")
	var asked atomic.Int32
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(token.Load().(string)))
		asked.Add(1)
	}))
	t.Cleanup(site.Close)
	r := start(t)
	if got := r.do("POST", "/host-shell", attrs(map[string]any{"hash": "v0", "source": "boot", "reporter": "a", "realms": []string{site.URL + "/"}})); got.status != 204 {
		t.Fatal(got)
	}
	r.beat("http://s", withSkews(1))
	eventually(t, "the realm is asked", func() bool { return asked.Load() == 1 })
	// It serves the new release from here on, and the next skew comes sooner
	// than a realm is asked again: it is asked all the same, later.
	token.Store("v1")
	r.beat("http://s", withSkews(2))
	eventually(t, "the release that no report named is recorded", func() bool { return r.fleet.current().Token == "v1" })
	if view := r.hostShells(); len(view.History) != 2 || view.Current.Source != "presence" {
		t.Errorf("history: %+v", view)
	}
}

func TestSkewsAreHeardOnce(t *testing.T) {
	f := newFleet(1, time.Minute)
	heard := func(instance string, skews uint64) bool {
		h := wire.Heartbeat{URL: "http://s", Instance: instance}
		h.HostShell.Skews = skews
		_, skewed := f.heard(time.Now(), h)
		return skewed
	}
	for i, c := range []struct {
		instance string
		skews    uint64
		want     bool
	}{{"i", 0, false}, {"i", 2, true}, {"i", 2, false}, {"i", 3, true}, {"j", 1, true}, {"j", 1, false}, {"j", 0, false}} {
		if got := heard(c.instance, c.skews); got != c.want {
			t.Errorf("%d: %+v: %t", i, c, got)
		}
	}
}

func TestManagersAgree(t *testing.T) {
	b := newStore(t)
	one, two := startOn(t, newLedger(t, b)), startOn(t, newLedger(t, b))
	one.mustSay("v1", "boot", "a")
	eventually(t, "the other knows the release", func() bool { return two.fleet.current().Sequence == 1 })
	s := newFake(t, status(201))
	one.beat(s.URL, map[string]any{"capacity": 9, "warmedAffinities": []string{"realm:x"}})
	eventually(t, "the other knows the server", func() bool { return strings.Contains(two.do("GET", "/", "").body, `"capacity":9`) })
	if got := two.do("POST", "/prerender-visit", visitBody()); got.status != 201 {
		t.Errorf("the other cannot use it: %v", got)
	}
	two.do("POST", "/rollout/pause", "")
	eventually(t, "the pause is known", func() bool { return one.progressOf().Phase == wire.RolloutPaused })
	one.do("DELETE", "/prerender-servers?url="+s.URL, "")
	one.beat(s.URL, map[string]any{"capacity": 8})
	eventually(t, "it left and came back", func() bool { return strings.Contains(two.do("GET", "/", "").body, `"capacity":8`) })
	if !strings.Contains(one.do("GET", "/", "").body, `"capacity":8`) {
		t.Error("the echo of its own deletion removed a server that had returned")
	}
	one.do("DELETE", "/prerender-servers?url="+s.URL, "")
	eventually(t, "the other forgot it", func() bool { return two.fleet.presence() == nobody })
	// Both judge at the same time: sequences are never given twice.
	done := make(chan string, 20)
	for i := range 20 {
		r, token := one, "x"
		if i%2 == 1 {
			r, token = two, "y"
		}
		go func() { done <- r.mustSay(token, "deployment", "a") }()
	}
	for range 20 {
		<-done
	}
	seen := map[uint64]bool{}
	for _, it := range one.hostShells().History {
		if seen[it.Sequence] {
			t.Errorf("sequence %d was given twice", it.Sequence)
		}
		seen[it.Sequence] = true
	}
}

func TestRolloutIsSteered(t *testing.T) {
	r := start(t)
	if got := r.do("POST", "/rollout/undo", ""); got.status != 400 {
		t.Errorf("nothing to undo: %v", got)
	}
	r.mustSay("v1", "boot", "a")
	r.mustSay("v2", "deployment", "a")
	if got := r.do("POST", "/rollout/pause", ""); got.status != 200 || !strings.Contains(got.body, `"phase":"waiting"`) {
		t.Errorf("pause: %v", got)
	}
	if got := r.beat("http://s", pagesOf(2, "v1", map[string]int{"v1": 1})); got.header.Get(wire.HeaderShellHash) != "" || got.header.Get(wire.HeaderRelease) != "2 v2" {
		t.Errorf("paused, and yet: %v", got.header)
	}
	if view := r.progressOf(); view.Phase != wire.RolloutPaused || !strings.Contains(view.Detail, "keeps its old pages") || view.Servers[0].Permitted {
		t.Errorf("got %+v", view)
	}
	r.do("POST", "/rollout/resume", "")
	if got := r.beat("http://s", pagesOf(2, "v1", map[string]int{"v1": 1})); got.header.Get(wire.HeaderShellHash) != "v2" {
		t.Errorf("resumed: %v", got.header)
	}
	if got := r.do("POST", "/rollout/undo", ""); got.status != 200 || got.header.Get(wire.HeaderRelease) != "3 v1" {
		t.Errorf("undo: %v", got)
	}
	// Its answer was lost, or a pipeline runs again.
	for _, path := range []string{"/rollout/undo", "/rollout/undo?release=v2"} {
		if got := r.do("POST", path, ""); got.status != 200 || got.header.Get(wire.HeaderRelease) != "3 v1" || !strings.Contains(got.body, `"unchanged":"release v2 was undone already`) {
			t.Errorf("%s again: %v", path, got)
		}
	}
	if got := r.do("POST", "/rollout/restart", ""); got.status != 200 {
		t.Errorf("restart: %v", got)
	}
	if got := r.do("POST", "/rollout/dance", ""); got.status != 404 {
		t.Errorf("unknown: %v", got)
	}
}

func TestW19_WavesOverHTTP(t *testing.T) {
	r := start(t)
	r.mustSay("old", "boot", "a")
	urls := []string{"http://s1", "http://s2", "http://s3", "http://s4"}
	for _, url := range urls {
		r.beat(url, pagesOf(1, "old", map[string]int{"old": 2}))
	}
	r.mustSay("new", "deployment", "a")
	moved := map[string]bool{}
	for len(moved) < len(urls) {
		told := ""
		for _, url := range urls {
			h := pagesOf(2, "old", map[string]int{"old": 2})
			if moved[url] {
				h = pagesOf(2, "new", map[string]int{"new": 2})
			}
			if r.beat(url, h).header.Get(wire.HeaderShellHash) == "new" && !moved[url] {
				if told != "" {
					t.Fatalf("%s and %s may move at a time", told, url)
				}
				told = url
			}
		}
		if told == "" {
			t.Fatal("nobody may move")
		}
		moved[told] = true
		r.beat(told, pagesOf(2, "new", map[string]int{"new": 2}))
	}
	if view := r.progressOf(); view.Phase != wire.RolloutComplete {
		t.Errorf("got %+v", view)
	}
}
