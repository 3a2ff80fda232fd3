package manager

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rewarm/rewarm/internal/wire"
)

func TestChecksComeInOrder(t *testing.T) {
	r := start(t)
	r.mustSay("old", "deployment", "a")
	r.mustSay("new", "deployment", "a")
	for name, c := range map[string]struct {
		path, body string
		header     []string
		status     int
		message    string
	}{
		"no JSON":                {"/prerender-visit", "{", nil, 400, "Invalid JSON body"},
		"empty":                  {"/prerender-visit", "", nil, 400, "Invalid JSON body"},
		"a URL twice":            {"/prerender-visit", `{"data":{"attributes":{"url":"` + realm + `","url":"http://elsewhere.example/"}}}`, nil, 400, `Invalid JSON body: "/data/attributes/url" is there twice; send each name once`},
		"a URL in capitals":      {"/prerender-visit", attrs(map[string]any{"URL": realm}), nil, 400, "Missing required attribute: affinityType"},
		"a wrong type":           {"/prerender-visit", visitBody("affinityType", "page"), nil, 400, "Missing required attribute: affinityType"},
		"a type of another type": {"/prerender-visit", visitBody("affinityType", 7), nil, 400, "Missing required attribute: affinityType"},
		"an empty value":         {"/prerender-visit", visitBody("affinityValue", ""), nil, 400, "Missing required attribute: affinityValue"},
		"no realm":               {"/prerender-visit", attrs(map[string]any{"url": "http://elsewhere.example/"}), nil, 400, "Missing required attribute: affinityType"},
		"a neighbour of a realm": {"/prerender-visit", attrs(map[string]any{"url": realm + "lication"}), nil, 400, "Missing required attribute: affinityType"},
		"a command without":      {"/run-command", attrs(map[string]any{"url": realm, "command": "x"}), nil, 400, "Missing required attribute: affinityType"},
		"pinned to the past":     {"/prerender-visit", visitBody(), []string{wire.HeaderShellHash, "old"}, 409, "Release old is superseded by release 2 (new)"},
		"nobody":                 {"/prerender-visit", visitBody(), nil, 503, "No servers"},
		"nobody, filled":         {"/prerender-visit", attrs(map[string]any{"url": realm + "/x?y"}), nil, 503, "No servers"},
		"nobody for a command":   {"/run-command", visitBody("command", "x"), nil, 503, "No servers"},
	} {
		t.Run(name, func(t *testing.T) {
			got := r.do("POST", c.path, c.body, c.header...)
			if got.status != c.status || got.message() != c.message {
				t.Errorf("got %d %s, want %d %s", got.status, got.message(), c.status, c.message)
			}
			if got.status == 503 && got.header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
			if got.status == 409 && got.header.Get(wire.HeaderShellHash) != "new" {
				t.Errorf("the current token is not named: %v", got.header)
			}
			if got.header.Get(wire.HeaderRequestID) == "" {
				t.Error("no request id")
			}
		})
	}
}

func TestProxiedRequestAndAnswer(t *testing.T) {
	s := newFake(t, status(201, wire.HeaderShellHash, "tok", "X-Custom", "yes", "Connection", "X-Hop", "X-Hop", "no", "Content-Type", "application/vnd.api+json"))
	r := start(t, func(o *Options) { o.Guard.Secrets = []string{secret, "older"} })
	auth := []string{"Authorization", "Bearer older"}
	if got := r.do("POST", "/host-shell", attrs(map[string]any{"hash": "tok", "realms": []string{realm}}), auth...); got.status != 204 {
		t.Fatal(got)
	}
	if got := r.do("POST", "/prerender-servers", attrs(map[string]any{"url": s.URL + "/?q#f"}), auth...); got.header.Get(wire.HeaderServerID) != s.URL {
		t.Fatal(got)
	}
	got := r.do("POST", "/prerender-visit", attrs(map[string]any{"url": realm + "/a", "card": map[string]any{"x": 1.50}}), append(auth,
		wire.HeaderRequestID, "abc-123", wire.HeaderJobID, "1.2", wire.HeaderJobPriority, "7", wire.HeaderBudget, "10000",
		"Traceparent", "00-x", "Tracestate", "y", "Cookie", "mine")...)
	if got.status != 201 || got.header.Get(wire.HeaderTarget) != s.URL || got.header.Get(wire.HeaderAffinity) != "realm:"+realm ||
		got.header.Get(wire.HeaderRequestID) != "abc-123" || got.header.Get("X-Custom") != "yes" || got.header.Get("X-Hop") != "" ||
		got.header.Get(wire.HeaderRelease) != "1 tok" || got.header.Get(wire.HeaderShellHash) != "tok" || !strings.Contains(got.body, "from") {
		t.Errorf("answer: %+v", got)
	}
	seen := s.seen[0]
	for name, want := range map[string]string{
		"Authorization": "Bearer " + secret, wire.HeaderServerID: s.URL, wire.HeaderRelease: "1 tok", wire.HeaderRequestID: "abc-123",
		wire.HeaderJobID: "1.2", wire.HeaderJobPriority: "7", "Traceparent": "00-x", "Tracestate": "y", "Cookie": "",
	} {
		if seen.Header.Get(name) != want {
			t.Errorf("%s: got %q, want %q", name, seen.Header.Get(name), want)
		}
	}
	if left := wire.Budget(seen.Header.Get(wire.HeaderBudget), 0); left > 10*time.Second-wire.BudgetMargin || left < time.Second {
		t.Errorf("the budget forwarded is %v", left)
	}
	for _, part := range []string{`"affinityType":"realm"`, `"affinityValue":"` + realm + `"`, `"card":{"x":1.5}`} {
		if !strings.Contains(s.body[0], part) {
			t.Errorf("body %s lacks %s", s.body[0], part)
		}
	}
	given := visitBody("priority", 3)
	r.do("POST", "/prerender-module", given, append(auth, wire.HeaderJobID, "bad", wire.HeaderJobPriority, "-1")...)
	if s.body[1] != given || s.seen[1].Header.Get(wire.HeaderJobID) != "" || s.seen[1].Header.Get(wire.HeaderJobPriority) != "" {
		t.Errorf("body %s, header %v", s.body[1], s.seen[1].Header)
	}
}

func TestContentEncodingPasses(t *testing.T) {
	s := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "br")
		_, _ = w.Write([]byte("not really"))
	})
	r := start(t)
	r.beat(s.URL, nil)
	got := r.do("POST", "/prerender-visit", visitBody(), "Accept-Encoding", "br")
	if got.header.Get("Content-Encoding") != "br" || got.body != "not really" || s.seen[0].Header.Get("Accept-Encoding") != "br" {
		t.Errorf("got %+v", got)
	}
}

func TestAttempts(t *testing.T) {
	refuse := func(after string) http.HandlerFunc { return status(503, "Retry-After", after) }
	for name, c := range map[string]struct {
		servers []http.HandlerFunc
		status  int
		message string
		retry   string
	}{
		"4xx ends it":              {[]http.HandlerFunc{status(404), status(404)}, 404, "", ""},
		"3xx ends it":              {[]http.HandlerFunc{status(302, "Location", "/x")}, 302, "", "5"},
		"refusals go on":           {[]http.HandlerFunc{refuse("5"), status(201)}, 201, "", ""},
		"all refuse":               {[]http.HandlerFunc{refuse("9"), refuse("5"), refuse("7")}, 503, "All prerender servers refuse for now", "5"},
		"410 goes on":              {[]http.HandlerFunc{status(410), status(201)}, 201, "", ""},
		"the header too":           {[]http.HandlerFunc{status(200, wire.HeaderServerStatus, "draining"), status(201)}, 201, "", ""},
		"all drain":                {[]http.HandlerFunc{status(410), status(410)}, 410, "All prerender servers draining", ""},
		"one 5xx goes on":          {[]http.HandlerFunc{status(500), status(201)}, 201, "", ""},
		"a bare 503 is a 5xx":      {[]http.HandlerFunc{status(503), status(503)}, 503, "", ""},
		"nobody left":              {[]http.HandlerFunc{status(500)}, 503, "No servers", "1"},
		"a broken one and refusal": {[]http.HandlerFunc{status(500), refuse("3")}, 503, "All prerender servers refuse for now", "3"},
		"dead ones":                {[]http.HandlerFunc{nil, nil}, 503, "No servers", "1"},
		"a dead one goes on":       {[]http.HandlerFunc{nil, status(201)}, 201, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t)
			for _, h := range c.servers {
				if h == nil {
					r.beat(deadURL(t), nil)
					continue
				}
				r.beat(newFake(t, h).URL, nil)
			}
			got := r.do("POST", "/prerender-visit", visitBody())
			if got.status != c.status || c.message != "" && got.message() != c.message {
				t.Errorf("got %d %s", got.status, got.body)
			}
			if c.retry != "" && c.status == 503 && got.header.Get("Retry-After") != c.retry {
				t.Errorf("Retry-After %q, want %q", got.header.Get("Retry-After"), c.retry)
			}
			if c.status == 410 && got.header.Get(wire.HeaderServerStatus) != "draining" {
				t.Error("no draining header")
			}
		})
	}
}

func TestF01_OneRequestTakesOutOneServer(t *testing.T) {
	poison := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/prerender-module" {
			status(500)(w, r)
			return
		}
		status(201)(w, r)
	}
	r := start(t)
	for range 4 {
		r.beat(newFake(t, poison).URL, nil)
	}
	if got := r.do("POST", "/prerender-module", visitBody()); got.status != 500 || !strings.Contains(got.body, "from") {
		t.Fatalf("the second 5xx is returned: %d %s", got.status, got.body)
	}
	out := 0
	r.fleet.mu.Lock()
	for _, s := range r.fleet.servers {
		if s.out {
			out++
		}
	}
	r.fleet.mu.Unlock()
	if out != 1 {
		t.Errorf("%d servers left rotation", out)
	}
	if got := r.do("POST", "/prerender-visit", visitBody()); got.status != 201 {
		t.Errorf("the innocent request got %d", got.status)
	}
}

func TestW14_RefusalsKeepServersInRotation(t *testing.T) {
	var mu sync.Mutex
	full := true
	s := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if full {
			status(503, "Retry-After", "1")(w, r)
			return
		}
		status(201)(w, r)
	})
	r := start(t)
	r.beat(s.URL, nil)
	if got := r.do("POST", "/prerender-visit", visitBody()); got.status != 503 {
		t.Fatal(got)
	}
	mu.Lock()
	full = false
	mu.Unlock()
	if got := r.do("POST", "/prerender-visit", visitBody()); got.status != 201 {
		t.Errorf("got %d %s", got.status, got.body)
	}
}

func TestAServerTakenOutReturnsWithItsHeartbeat(t *testing.T) {
	r := start(t)
	s := newFake(t, status(500))
	r.beat(s.URL, nil)
	r.do("POST", "/prerender-visit", visitBody())
	if got := r.do("POST", "/prerender-visit", visitBody()); got.message() != "No servers" || s.calls() != 1 {
		t.Fatalf("it was asked %d times: %v", s.calls(), got)
	}
	r.beat(s.URL, nil)
	r.do("POST", "/prerender-visit", visitBody())
	if s.calls() != 2 {
		t.Error("it did not return to rotation")
	}
}

func TestPins(t *testing.T) {
	old := newFake(t, status(201, wire.HeaderShellHash, "old"))
	liar := newFake(t, status(201, wire.HeaderShellHash, "old"))
	r := start(t)
	r.mustSay("old", "deployment", "a")
	r.mustSay("new", "deployment", "a")
	r.beat(old.URL, pagesOf(2, "", map[string]int{"old": 1}))
	pin := []string{wire.HeaderShellHash, "new"}
	if got := r.do("POST", "/prerender-visit", visitBody(), pin...); got.status != 503 || got.header.Get("Retry-After") == "" || old.calls() != 0 {
		t.Errorf("nobody is on the token: %v", got)
	}
	r.beat(liar.URL, pagesOf(2, "new", map[string]int{"new": 1}))
	if got := r.do("POST", "/prerender-visit", visitBody(), pin...); got.status != 503 || liar.calls() != 1 {
		t.Errorf("an answer of another release was passed on: %v", got)
	}
	if got := r.do("POST", "/prerender-visit", visitBody(), wire.HeaderShellHash, "b d"); got.status != 400 {
		t.Errorf("a malformed pin: %v", got)
	}
}

// A deploy's first pinned renders come before its first warm page: they wait
// for it instead of being refused.
func TestPinnedWorkWaitsForTheFirstWarmPage(t *testing.T) {
	s := newFake(t, status(201, wire.HeaderShellHash, "new"))
	r := start(t, func(o *Options) { o.DiscoveryWait = time.Minute })
	r.mustSay("old", "deployment", "a")
	r.beat(s.URL, pagesOf(1, "old", map[string]int{"old": 1}))
	r.mustSay("new", "deployment", "a")
	answered := make(chan reply, 1)
	go func() { answered <- r.do("POST", "/prerender-visit", visitBody(), wire.HeaderShellHash, "new") }()
	eventually(t, "the visit is under way", func() bool { return r.working.Load() == 1 })
	r.beat(s.URL, pagesOf(2, "new", map[string]int{"old": 1, "new": 1}))
	if got := <-answered; got.status != 201 || s.calls() != 1 {
		t.Errorf("asked %d times: %v", s.calls(), got)
	}
}

func TestF06_ACallerThatLeavesAbortsItsRender(t *testing.T) {
	for _, path := range []string{"/prerender-visit", "/prerender-screenshot"} {
		began, aborted := make(chan struct{}), make(chan struct{})
		s := newFake(t, func(w http.ResponseWriter, r *http.Request) {
			close(began)
			<-r.Context().Done()
			close(aborted)
		})
		r := start(t)
		r.beat(s.URL, nil)
		ctx, cancel := context.WithCancel(t.Context())
		var wait sync.WaitGroup
		wait.Go(func() { _, _ = r.try(ctx, "POST", path, visitBody()) })
		<-began
		cancel()
		<-aborted
		wait.Wait()
		eventually(t, "nothing is in flight", func() bool { return r.working.Load() == 0 })
		eventually(t, "nothing is in flight at the server, which stays in rotation", func() bool {
			r.fleet.mu.Lock()
			defer r.fleet.mu.Unlock()
			it := r.fleet.servers[s.URL]
			return !it.out && len(it.inFlight) == 0
		})
	}
}

func TestBudgetEnds(t *testing.T) {
	s := newFake(t, func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	r := start(t)
	r.beat(s.URL, nil)
	for _, path := range []string{"/prerender-visit", "/prerender-module"} {
		got := r.do("POST", path, visitBody(), wire.HeaderBudget, "300")
		if got.status != 503 || got.message() != "No answer within the budget" || got.header.Get("Retry-After") == "" {
			t.Errorf("%s: %v", path, got)
		}
	}
}

// Who wants what the page shows from now on gets a render of its own.
func TestNoCacheJoinsNoOlderRender(t *testing.T) {
	release := make(chan struct{})
	s := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
			status(201)(w, r)
		case <-r.Context().Done():
		}
	})
	r := start(t)
	r.beat(s.URL, nil)
	var wait sync.WaitGroup
	for n, header := range [][]string{nil, {"Cache-Control", "no-cache"}} {
		wait.Go(func() {
			if got, err := r.try(t.Context(), "POST", "/prerender-visit", visitBody(), header...); err != nil || got.status != 201 {
				t.Errorf("%v: %d %v", header, got.status, err)
			}
		})
		eventually(t, "it has a render of its own", func() bool { return s.calls() == n+1 })
	}
	close(release)
	wait.Wait()
}

func TestOneFlightForIdenticalVisits(t *testing.T) {
	release := make(chan struct{})
	s := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
			status(201)(w, r)
		case <-r.Context().Done():
		}
	})
	r := start(t)
	r.beat(s.URL, nil)
	first, leave := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	wait.Go(func() { _, _ = r.try(first, "POST", "/prerender-visit", visitBody()) })
	eventually(t, "the first is there", func() bool { return s.calls() == 1 })
	codes := make(chan int, 10)
	for range 10 {
		wait.Go(func() {
			got, _ := r.try(t.Context(), "POST", "/prerender-visit", visitBody("priority", 2))
			codes <- got.status
		})
	}
	waiting := func(n int) func() bool {
		return func() bool {
			r.flights.mu.Lock()
			defer r.flights.mu.Unlock()
			for _, f := range r.flights.running {
				if f.waiting == n {
					return true
				}
			}
			return false
		}
	}
	eventually(t, "all wait for it", waiting(11))
	leave()
	eventually(t, "the first has left", waiting(10))
	close(release)
	wait.Wait()
	for range 10 {
		if code := <-codes; code != 201 {
			t.Errorf("got %d", code)
		}
	}
	if s.calls() != 1 {
		t.Errorf("%d renders", s.calls())
	}
	for _, other := range []string{visitBody("auth", "me"), visitBody("affinityValue", "x"), visitBody("fields", []string{"html"}), visitBody("renderOptions", map[string]any{"mode": "isolated"})} {
		before := s.calls()
		if got := r.do("POST", "/prerender-visit", other); got.status != 201 || s.calls() != before+1 {
			t.Errorf("%s was not rendered for itself", other)
		}
	}
}
