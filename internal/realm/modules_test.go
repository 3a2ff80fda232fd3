package realm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rewarm/rewarm/internal/client"
	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/ledger"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// moduleRig is a realm server on a real store, and a fleet that the test plays.
type moduleRig struct {
	*Server
	t     *testing.T
	fleet *fleet
	store *ledger.Ledger
	clock *clock
	host  string
}

func startModules(t *testing.T) *moduleRig {
	t.Helper()
	r := &moduleRig{t: t, fleet: newFleet(), store: openStore(t), clock: &clock{at: time.Now()}}
	o := options(t)
	r.host = o.Host
	o.Manager, o.Store, o.Now, o.PresenceInterval = r.fleet, r.store, r.clock.now, time.Hour
	r.fleet.module = r.gives(`{"n":1}`)
	r.Server, _ = start(t, o)
	until(t, "invalidations are heard", func() bool { _, known := only(r.Server).invalidated.now(); return known })
	return r
}

// gives renders every module as a JSON text that depends on deps.
func (r *moduleRig) gives(result string, deps ...string) func(context.Context, wire.VisitRequest, client.Call) (client.ModuleAnswer, error) {
	return func(_ context.Context, _ wire.VisitRequest, call client.Call) (client.ModuleAnswer, error) {
		return client.ModuleAnswer{Token: call.Pin, Result: wire.ModuleResult{Status: words.StatusReady, Result: json.RawMessage(result), Deps: deps}}, nil
	}
}

func (r *moduleRig) play(render func(context.Context, wire.VisitRequest, client.Call) (client.ModuleAnswer, error)) {
	r.fleet.mu.Lock()
	defer r.fleet.mu.Unlock()
	r.fleet.module = render
}

func (r *moduleRig) rendered() int {
	r.fleet.mu.Lock()
	defer r.fleet.mu.Unlock()
	return r.fleet.modules
}

func (r *moduleRig) module(path string, headers ...string) answer {
	r.t.Helper()
	return get(r.t, r.Server, "/_modules?url="+url.QueryEscape(r.URL()+path), headers...)
}

func (r *moduleRig) invalidate(path string) []string {
	r.t.Helper()
	got := ask(r.t, r.Server, http.MethodDelete, "/_modules?url="+url.QueryEscape(r.URL()+path))
	var said struct{ Invalidated []string }
	if err := json.Unmarshal([]byte(got.body), &said); err != nil || got.code != 200 {
		r.t.Fatalf("invalidate %s: %d %s", path, got.code, got.body)
	}
	return said.Invalidated
}

func (r *moduleRig) wants(got answer, code int, result string) {
	r.t.Helper()
	var view struct {
		URL    string
		Token  words.Token
		Result json.RawMessage
		Deps   []string
	}
	if got.code != code {
		r.t.Fatalf("%d %s, want %d", got.code, got.body, code)
	}
	if code != 200 {
		return
	}
	if err := json.Unmarshal([]byte(got.body), &view); err != nil || string(view.Result) != result || view.Deps == nil {
		r.t.Errorf("%s, %v; want the result %s", got.body, err, result)
	}
	if view.Token != r.Token() || got.header.Get(wire.HeaderDocumentShell) != string(view.Token) {
		r.t.Errorf("token %q, header %q, want %q", view.Token, got.header.Get(wire.HeaderDocumentShell), r.Token())
	}
}

func TestAModuleIsRenderedOnceHoweverManyAsk(t *testing.T) {
	r := startModules(t)
	release := make(chan struct{})
	give := r.gives(`{"n":1}`)
	r.play(func(ctx context.Context, visit wire.VisitRequest, call client.Call) (client.ModuleAnswer, error) {
		<-release
		return give(ctx, visit, call)
	})
	var asking sync.WaitGroup
	answers := make([]answer, 20)
	for i := range answers {
		asking.Go(func() { answers[i] = r.module("/m") })
	}
	until(t, "all wait", func() bool {
		only(r.Server).modules.mu.Lock()
		defer only(r.Server).modules.mu.Unlock()
		f := only(r.Server).modules.flights[moduleKey{r.Token(), r.URL() + "/m"}]
		return f != nil && f.waiting == len(answers)
	})
	close(release)
	asking.Wait()
	for _, got := range answers {
		r.wants(got, 200, `{"n":1}`)
	}
	r.wants(r.module("/m"), 200, `{"n":1}`) // from the store
	if n := r.rendered(); n != 1 {
		t.Errorf("%d renders", n)
	}
}

func TestF08_AModulesErrorIsKeptForSecondsOnly(t *testing.T) {
	r := startModules(t)
	r.play(func(_ context.Context, _ wire.VisitRequest, call client.Call) (client.ModuleAnswer, error) {
		return client.ModuleAnswer{Token: call.Pin, Result: wire.ModuleResult{Status: words.StatusError, Error: &words.PageError{Kind: words.PageErrorPage, Message: "it threw"}}}, nil
	})
	for range 3 {
		got := r.module("/m")
		r.wants(got, 500, "")
		contains(t, got.body, "it threw")
	}
	if n := r.rendered(); n != 1 {
		t.Errorf("%d renders", n)
	}
	r.play(r.gives(`{"n":2}`))
	r.clock.add(errorHold)
	r.wants(r.module("/m"), 200, `{"n":2}`)
}

// What the fleet or the time broke is no word on the module, and not kept.
func TestF08_WhatTheFleetBrokeIsNotKeptAtAll(t *testing.T) {
	r := startModules(t)
	of := func(status words.Status, kind words.PageErrorKind) error {
		return moduleError(client.ModuleAnswer{Token: "t", Result: wire.ModuleResult{Status: status, Error: &words.PageError{Kind: kind}}}, nil, "t")
	}
	for name, test := range map[string]struct {
		err    error
		status int
	}{
		"full":       {moduleError(client.ModuleAnswer{}, &client.StatusError{Status: 503, RetryAfter: 3 * time.Second}, "t"), 503},
		"superseded": {moduleError(client.ModuleAnswer{}, &client.StatusError{Status: 409}, "t"), 503},
		"broken":     {moduleError(client.ModuleAnswer{}, &client.StatusError{Status: 500}, "t"), 502},
		"forbidden":  {moduleError(client.ModuleAnswer{}, &client.StatusError{Status: 403}, "t"), 403},
		"partial":    {of(words.StatusPartial, words.PageErrorTimeout), 503},
		"skew":       {of(words.StatusError, words.PageErrorSkew), 503},
		"navigation": {of(words.StatusError, words.PageErrorNavigation), 502},
		"another":    {moduleError(client.ModuleAnswer{Token: "u", Result: wire.ModuleResult{Status: words.StatusReady, Result: []byte("1")}}, nil, "t"), 503},
	} {
		f := &moduleFlight{key: moduleKey{"t", name}, done: make(chan struct{}), err: test.err}
		only(r.Server).modules.land(f, r.clock.now())
		if got := fault.From(test.err).Status(); got != test.status {
			t.Errorf("%s: %d, want %d", name, got, test.status)
		}
	}
	if len(only(r.Server).modules.failed) > 0 {
		t.Errorf("kept: %v", only(r.Server).modules.failed)
	}
}

func TestF09_ARunningRenderNeverPutsBackWhatWasInvalidated(t *testing.T) {
	r := startModules(t)
	began, goOn := make(chan struct{}, 8), make(chan struct{})
	n := 0
	r.play(func(ctx context.Context, visit wire.VisitRequest, call client.Call) (client.ModuleAnswer, error) {
		n++ // one flight: no two at a time
		result := `{"n":` + string(rune('0'+n)) + `}`
		began <- struct{}{}
		<-goOn
		return r.gives(result, "dep")(ctx, visit, call)
	})
	answers := make(chan answer, 1)
	go func() { answers <- r.module("/dir/m") }()
	<-began
	r.invalidate("/dir/dep") // what it was made of, which it does not know yet
	close(goOn)
	r.wants(<-answers, 200, `{"n":2}`)
	m, _, found, err := r.store.Module(t.Context(), r.URL(), r.Token(), r.URL()+"/dir/m")
	if err != nil || !found || string(m.Result) != `{"n":2}` {
		t.Errorf("stored: %s %t, %v", m.Result, found, err)
	}
}

// Another realm server, which has not heard of the invalidation yet, stores an
// older result: it is not believed.
func TestF09_WhatWasStoredBeforeAnInvalidationIsNotBelieved(t *testing.T) {
	r := startModules(t)
	r.invalidate("/m")
	old := words.Module{Realm: r.URL(), Token: r.Token(), URL: r.URL() + "/m", Result: []byte(`"old"`), Deps: []string{}, Generation: 0}
	if err := r.store.PutModule(t.Context(), old, 0); err != nil {
		t.Fatal(err)
	}
	r.wants(r.module("/m"), 200, `{"n":1}`)
	if m, _, _, err := r.store.Module(t.Context(), r.URL(), r.Token(), old.URL); err != nil || string(m.Result) != `{"n":1}` {
		t.Errorf("stored: %s, %v", m.Result, err)
	}
}

func TestAnInvalidationReachesWhatWasMadeOfIt(t *testing.T) {
	r := startModules(t)
	for path, deps := range map[string][]string{"/a": {"b"}, "/b": {"c", "a"}, "/c": nil, "/other": {"x"}} {
		r.play(r.gives(`"`+path+`"`, deps...))
		r.wants(r.module(path), 200, `"`+path+`"`)
	}
	r.play(r.gives(`"new"`))
	gone := r.invalidate("/c")
	slices.Sort(gone)
	if want := []string{r.URL() + "/a", r.URL() + "/b", r.URL() + "/c"}; !slices.Equal(gone, want) {
		t.Errorf("invalidated %q, want %q", gone, want)
	}
	for path, want := range map[string]string{"/a": `"new"`, "/b": `"new"`, "/c": `"new"`, "/other": `"/other"`} {
		r.wants(r.module(path), 200, want)
	}
	// Another server of the realm hears of it.
	o := options(t)
	o.Host, o.RealmURL, o.Manager, o.Store, o.PresenceInterval = r.host, r.URL(), r.fleet, r.store, time.Hour
	second, _ := start(t, o)
	if _, err := r.store.InvalidateModule(t.Context(), r.URL(), r.Token(), r.URL()+"/other"); err != nil {
		t.Fatal(err)
	}
	for _, server := range []*Server{r.Server, second} {
		until(t, "it is heard", func() bool {
			only(server).invalidated.mu.Lock()
			defer only(server).invalidated.mu.Unlock()
			return only(server).invalidated.modules[r.URL()+"/other"].generation > 0
		})
	}
}

func TestW22_AModuleIsNeverServedUnderAnotherTokenThanItsDocuments(t *testing.T) {
	r := startModules(t)
	old := r.Token()
	r.wants(r.module("/m"), 200, `{"n":1}`)
	r.play(r.gives(`{"n":2}`))
	deploy(t, r.host, "bbbbbbb2")
	mustAccept(t, r.Server)
	r.wants(r.module("/m"), 200, `{"n":2}`)
	for token, want := range map[words.Token]string{old: `{"n":1}`, r.Token(): `{"n":2}`} {
		if m, _, found, err := r.store.Module(t.Context(), r.URL(), token, r.URL()+"/m"); err != nil || !found || m.Token != token || string(m.Result) != want {
			t.Errorf("%s: %s %t, %v", token, m.Result, found, err)
		}
	}
}

// W23: the fleet still has pages of the old release when the realm has switched;
// what they give is neither stored nor served.
func TestW23_AnOldPageCannotFillTheNewCache(t *testing.T) {
	r := startModules(t)
	r.play(func(ctx context.Context, visit wire.VisitRequest, call client.Call) (client.ModuleAnswer, error) {
		call.Pin = "of an old page"
		return r.gives(`"old"`)(ctx, visit, call)
	})
	got := r.module("/m")
	r.wants(got, 503, "")
	if got.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	for _, token := range []words.Token{r.Token(), "ofanoldpage"} {
		if _, _, found, err := r.store.Module(t.Context(), r.URL(), token, r.URL()+"/m"); found || err != nil {
			t.Errorf("stored under %s: %t, %v", token, found, err)
		}
	}
	r.play(r.gives(`"new"`))
	r.wants(r.module("/m"), 200, `"new"`) // and not held against it
}

func TestAModuleThatTakesTooLongIsRefusedAndItsPageFreed(t *testing.T) {
	r := startModules(t)
	freed := make(chan struct{})
	r.play(func(ctx context.Context, _ wire.VisitRequest, _ client.Call) (client.ModuleAnswer, error) {
		<-ctx.Done()
		close(freed)
		return client.ModuleAnswer{}, ctx.Err()
	})
	got := r.module("/m", wire.HeaderBudget, "50")
	r.wants(got, 503, "")
	if got.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	<-freed
}

func TestModulesAreOfThisRealmAndInvalidatedByWhoMay(t *testing.T) {
	r := startModules(t)
	for query, want := range map[string]int{
		"": 400, "?url=": 400, "?url=http://elsewhere.example/m": 403, "?url=%zz": 400, "?url=/m": 403,
		"?url=" + url.QueryEscape(r.URL()+"evil/m"): 400, "?url=" + url.QueryEscape(r.URL()+"/"+strings.Repeat("a", maxPath)): 400,
	} {
		if got := get(t, r.Server, "/_modules"+query); got.code != want {
			t.Errorf("%.60s: %d, want %d", query, got.code, want)
		}
	}
	if n := r.rendered(); n != 0 {
		t.Errorf("%d renders", n)
	}
	r.o.Guard.Secrets = []string{"s3cret"}
	target := "/_modules?url=" + url.QueryEscape(r.URL()+"/m")
	if got := ask(t, r.Server, http.MethodDelete, target); got.code != 401 {
		t.Errorf("without the secret: %d", got.code)
	}
	if got := ask(t, r.Server, http.MethodDelete, target, "Authorization", "Bearer s3cret"); got.code != 200 {
		t.Errorf("with the secret: %d %s", got.code, got.body)
	}
	if got := ask(t, r.Server, http.MethodPost, target); got.code != 405 {
		t.Errorf("POST: %d", got.code)
	}
}

func TestModulesWithoutAStoreAreRefused(t *testing.T) {
	s, _ := start(t, options(t))
	if got := get(t, s, "/_modules?url="+url.QueryEscape(s.URL()+"/m")); got.code != 503 {
		t.Errorf("%d %s", got.code, got.body)
	}
}

// A purge reaches what a realm server has in its memory.
func TestAPurgedPageIsServedNoMore(t *testing.T) {
	r := startModules(t)
	page := words.Snapshot{Realm: r.URL(), Token: r.Token(), URL: r.URL() + "/p", RenderedAt: r.clock.now(), Status: words.StatusReady, HTTPStatus: 200, HTML: `<html><body><div id="app">x</div></body></html>`}
	if err := r.store.PutSnapshot(t.Context(), page); err != nil {
		t.Fatal(err)
	}
	if got := get(t, r.Server, "/p"); got.state() != "hit" {
		t.Fatalf("before: %s", got.state())
	}
	r.fleet.mu.Lock()
	r.fleet.visited = func(wire.VisitRequest, client.Call) (client.VisitAnswer, error) {
		return client.VisitAnswer{}, &client.StatusError{Status: 503}
	}
	r.fleet.mu.Unlock()
	if _, _, err := r.store.PurgeSnapshots(t.Context(), r.URL(), ledger.Selection{Prefix: r.URL() + "/"}); err != nil {
		t.Fatal(err)
	}
	until(t, "the page is gone", func() bool { return get(t, r.Server, "/p").state() == "miss" })
	// The fleet refuses: the page is left to a worker.
	until(t, "a job is queued", func() bool {
		n, err := r.store.PendingJobs(t.Context(), r.URL())
		return err == nil && n == 1
	})
}

// deafStore hears of no invalidation.
type deafStore struct{ Store }

func (deafStore) WatchInvalidations(context.Context, string) (*ledger.InvalidationWatch, error) {
	return nil, errors.New("no connection")
}

func TestF09_APurgeThatIsNotHeardIsNotUndoneByARender(t *testing.T) {
	o, f, _ := rendering(t)
	store := o.Store.(*ledger.Ledger)
	o.Store, o.RealmURL = deafStore{store}, "http://realm.example"
	f.visited = func(visit wire.VisitRequest, call client.Call) (client.VisitAnswer, error) {
		n := f.count()
		if n == 1 {
			if _, _, err := store.PurgeSnapshots(context.Background(), o.RealmURL, ledger.Selection{All: true}); err != nil {
				t.Error(err)
			}
		}
		return ready(call.Pin, fmt.Sprint("render ", n)), nil
	}
	s, _ := start(t, o)
	contains(t, hit(t, s, "/").body, "<p>render 2</p>")
}

func TestInvalidationsAreForgottenWithTheModulesTheyAreAbout(t *testing.T) {
	i, now := newInvalidated(), time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for n := range uint64(1000) {
		i.hear(ledger.Invalidation{Module: fmt.Sprint("http://r/", n), Generation: n + 1}, now)
	}
	i.hear(ledger.Invalidation{Module: "http://r/0", Generation: 2000}, now.Add(24*time.Hour))
	if !i.since(words.Module{URL: "http://r/1"}) {
		t.Error("forgotten after a day")
	}
	i.hear(ledger.Invalidation{Module: "http://r/new", Generation: 2001}, now.Add(ledger.InvalidationTTL+time.Second))
	if len(i.modules) != 2 || !i.since(words.Module{URL: "http://r/0", Generation: 1999}) {
		t.Errorf("%d are kept, want the two that were heard since", len(i.modules))
	}
}
