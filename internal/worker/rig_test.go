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
	"github.com/rewarm/rewarm/internal/ledger"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// rig is a manager and a realm that answer what the test says, on a real store.
type rig struct {
	t              testing.TB
	store          *ledger.Ledger
	address        string // of the store
	manager, realm *httptest.Server
	inner          []string // realms below the realm

	mu      sync.Mutex
	release wire.RolloutRelease
	phase   wire.RolloutPhase
	files   map[string]string                           // of the realm
	links   map[string][]string                         // by path
	renders map[string]int                              // by path
	render  func(path string, n int) (int, words.Token) // nil: ready on the pin
	order   []string
	arrive  func(ctx context.Context, path string) // nil: nothing; a render begins, r.mu is free
}

func newRig(t testing.TB) *rig {
	t.Helper()
	b, err := bus.Start(t.Context(), bus.Options{DataDir: t.TempDir(), Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	r := &rig{t: t, address: "nats://" + b.Addr(), phase: wire.RolloutComplete, release: wire.RolloutRelease{Sequence: 1, Token: "t1"},
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
	if request.URL.Path == "/prerender-visit" {
		r.serveVisit(w, request)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch request.URL.Path {
	case "/rollout":
		answer(w, 200, wire.Rollout{Release: r.release, Phase: r.phase, CanaryPassed: r.phase != wire.RolloutCanary})
	case "/host-shell":
		answer(w, 200, wire.Releases{Reporters: []wire.ReporterView{
			{Token: r.release.Token, Realms: append([]string{r.realm.URL}, r.inner...)}, {Token: "behind", Realms: []string{"http://behind"}},
		}})
	default:
		http.NotFound(w, request)
	}
}

func (r *rig) serveVisit(w http.ResponseWriter, request *http.Request) {
	var doc wire.Document[wire.VisitRequest]
	if err := json.NewDecoder(request.Body).Decode(&doc); err != nil {
		r.t.Error(err)
	}
	path := strings.TrimPrefix(doc.Data.Attributes.URL, r.realm.URL)
	if r.arrive != nil {
		r.arrive(request.Context(), path)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
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
	if fields := doc.Data.Attributes.Fields; !slices.Equal(fields, wire.Fields{wire.FieldHTML}) {
		r.t.Errorf("%s is asked for with fields %q", path, fields)
	}
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
	return r.storedIn(r.realm.URL, token)
}

// storedIn is stored, of a realm below the rig's.
func (r *rig) storedIn(realm string, token words.Token) (paths []string) {
	r.t.Helper()
	all, err := r.store.Snapshots(r.t.Context(), realm, token)
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

// told compares what the workers have told of the first run.
func (r *rig) told(want ledger.Progress) {
	r.t.Helper()
	if got, err := r.store.Progress(r.t.Context(), r.realm.URL, 1); err != nil || got != want {
		r.t.Errorf("told %+v, %v; want %+v", got, err, want)
	}
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
