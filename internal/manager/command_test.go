package manager

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/rewarm/rewarm/internal/wire"
)

func hangUp(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }

func TestF02_ACommandRunsAtMostOnce(t *testing.T) {
	id := []string{wire.HeaderRequestID, "c0ffee"}
	body := visitBody("command", "publish")
	for name, c := range map[string]struct {
		servers []http.HandlerFunc
		status  int
		message string
		calls   int
	}{
		"done":             {[]http.HandlerFunc{status(201, "X-A", "b")}, 201, "", 1},
		"it failed":        {[]http.HandlerFunc{status(500), status(500)}, 500, "", 1},
		"connection lost":  {[]http.HandlerFunc{hangUp, hangUp}, 502, "command outcome unknown", 1},
		"one drains":       {[]http.HandlerFunc{status(410), status(410)}, 410, "All prerender servers draining", 2},
		"all refuse":       {[]http.HandlerFunc{status(503, "Retry-After", "2")}, 503, "All prerender servers refuse for now", 1},
		"its own mistake":  {[]http.HandlerFunc{status(400), status(400)}, 400, "", 1},
		"no server, ready": {nil, 503, "No servers", 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t)
			var fakes []*fake
			for _, h := range c.servers {
				f := newFake(t, h)
				fakes = append(fakes, f)
				r.beat(f.URL, nil)
			}
			first := r.do("POST", "/run-command", body, id...)
			second := r.do("POST", "/run-command", body, id...)
			calls := 0
			for _, f := range fakes {
				calls += f.calls()
			}
			if calls != c.calls {
				t.Errorf("%d dispatches, want %d", calls, c.calls)
			}
			if first.status != c.status || second.status != c.status || c.message == "" && first.body != second.body {
				t.Errorf("first %v, second %v", first, second)
			}
			if c.message != "" && (first.message() != c.message || second.message() != c.message) {
				t.Errorf("first %v, second %v", first, second)
			}
		})
	}
}

func TestF02_ManyAskOneRuns(t *testing.T) {
	release := make(chan struct{})
	s := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		<-release
		status(201)(w, r)
	})
	b := newStore(t)
	one, two := startOn(t, newLedger(t, b)), startOn(t, newLedger(t, b))
	one.beat(s.URL, nil)
	two.beat(s.URL, nil)
	var wait sync.WaitGroup
	for i := range 10 {
		r := one
		if i%2 == 1 {
			r = two
		}
		wait.Go(func() {
			got, err := r.try(t.Context(), "POST", "/run-command", visitBody("command", "x"), wire.HeaderRequestID, "abc")
			if err != nil || got.status != 201 || !strings.Contains(got.body, "from") || got.header.Get(wire.HeaderTarget) != s.URL {
				t.Errorf("got %v %v", got, err)
			}
		})
	}
	eventually(t, "all ask", func() bool { return one.working.Load()+two.working.Load() == 10 && s.calls() == 1 })
	close(release)
	wait.Wait()
	if s.calls() != 1 {
		t.Errorf("it ran %d times", s.calls())
	}
}

func TestF02_ACommandThatWasNeverSentMayBeSentAgain(t *testing.T) {
	r := start(t)
	r.beat(deadURL(t), nil)
	id := []string{wire.HeaderRequestID, "abc"}
	if got := r.do("POST", "/run-command", visitBody("command", "x"), id...); got.message() != "No servers" {
		t.Fatal(got)
	}
	r.beat(newFake(t, status(201)).URL, nil)
	if got := r.do("POST", "/run-command", visitBody("command", "x"), id...); got.status != 201 {
		t.Errorf("got %v", got)
	}
}

func TestF02_ACommandWhoseCallerLeftIsNotRunAgain(t *testing.T) {
	began := make(chan struct{})
	var once sync.Once
	s := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		once.Do(func() { close(began) })
		<-r.Context().Done()
	})
	r := start(t)
	r.beat(s.URL, nil)
	id := []string{wire.HeaderRequestID, "abc"}
	ctx, cancel := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	wait.Go(func() { _, _ = r.try(ctx, "POST", "/run-command", visitBody("command", "x"), id...) })
	<-began
	cancel()
	wait.Wait()
	got := r.do("POST", "/run-command", visitBody("command", "x"), id...)
	if got.status != 502 || got.message() != "command outcome unknown" || s.calls() != 1 {
		t.Errorf("%d calls: %v", s.calls(), got)
	}
}
