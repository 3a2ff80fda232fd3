package realm

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rewarm/rewarm/internal/client"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// gated makes the fleet's renders wait until the returned function is called.
func gated(t *testing.T, f *fleet) (open func()) {
	t.Helper()
	gate := make(chan struct{})
	open = sync.OnceFunc(func() { close(gate) })
	t.Cleanup(open)
	f.visited = func(visit wire.VisitRequest, call client.Call) (client.VisitAnswer, error) {
		<-gate
		return shows(visit, call)
	}
	return open
}

func (s *Server) waits(n int) func() bool { return func() bool { return len(s.waiting) == n } }

func TestVisitorsWhoWaitGetThePageOfOneRender(t *testing.T) {
	o, f, _ := rendering(t)
	o.OnMiss, o.WaitAtMost = MissWait, time.Minute
	open := gated(t, f)
	s, _ := start(t, o)
	var visitors sync.WaitGroup
	for range 10 {
		visitors.Go(func() {
			a := get(t, s, "/products")
			contains(t, a.body, "<p>page "+s.URL()+"/products</p>")
			if a.state() != "hit" || !regexp.MustCompile(`^store;dur=[0-9.]+, render;dur=[0-9.]+$`).MatchString(a.header.Get("Server-Timing")) {
				t.Errorf("%v", a.header)
			}
		})
	}
	until(t, "all wait", s.waits(10))
	open()
	visitors.Wait()
	if f.count() != 1 {
		t.Errorf("%d renders", f.count())
	}
	until(t, "nobody waits", s.waits(0))
	if a := get(t, s, "/products"); a.header.Get("Server-Timing") != "cache" {
		t.Errorf("from memory: %v", a.header)
	}
}

func TestVisitorsGetTheShellWhenTheRenderTakesTooLong(t *testing.T) {
	o, f, _ := rendering(t)
	o.OnMiss, o.WaitAtMost = MissWait, 10*time.Millisecond
	open := gated(t, f)
	s, _ := start(t, o)
	a := get(t, s, "/")
	if a.state() != "miss" || a.body != shellOf("aaaaaaa1") || !strings.Contains(a.header.Get("Server-Timing"), "render;dur=") {
		t.Errorf("%+v", a)
	}
	open() // the render was not lost
	hit(t, s, "/")
	if f.count() != 1 {
		t.Errorf("%d renders", f.count())
	}
}

func TestNobodyWaitsForWhatWillNotCome(t *testing.T) {
	o, f, _ := rendering(t)
	o.OnMiss, o.WaitAtMost = MissWait, time.Hour
	f.visited = func(_ wire.VisitRequest, call client.Call) (client.VisitAnswer, error) {
		return client.VisitAnswer{}, errors.New("503")
	}
	s, _ := start(t, o)
	for range 3 { // a refusal, and those who come right after it
		if a := get(t, s, "/"); a.state() != "miss" || a.body != shellOf("aaaaaaa1") {
			t.Errorf("%+v", a)
		}
	}
	f.mu.Lock()
	gated(t, f)
	f.mu.Unlock()
	if a := get(t, s, "/of-a-script", "Sec-Fetch-Dest", "empty"); a.state() != "miss" {
		t.Errorf("%+v", a)
	}
	for range cap(s.waiting) {
		s.waiting <- struct{}{}
	}
	if a := get(t, s, "/more-than-may-wait"); a.state() != "miss" {
		t.Errorf("%+v", a)
	}
}

func TestVisitorWhoLeavesStopsWaiting(t *testing.T) {
	o, f, _ := rendering(t)
	o.OnMiss, o.WaitAtMost = MissWait, time.Hour
	open := gated(t, f)
	s, _ := start(t, o)
	ctx, leave := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL()+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	var visitor sync.WaitGroup
	visitor.Go(func() {
		if response, err := http.DefaultClient.Do(r); err == nil {
			_ = response.Body.Close()
			t.Error("answered")
		}
	})
	until(t, "it waits", s.waits(1))
	leave()
	visitor.Wait()
	until(t, "it waits no more", s.waits(0))
	open()
	hit(t, s, "/")
}

func TestStalePageIsServedWithoutWaiting(t *testing.T) {
	o, f, c := rendering(t)
	o.OnMiss, o.WaitAtMost = MissWait, time.Hour
	s, _ := start(t, o)
	get(t, s, "/")
	f.mu.Lock()
	open := gated(t, f)
	f.mu.Unlock()
	c.add(11 * time.Minute)
	if a := get(t, s, "/"); a.state() != "stale" || a.header.Get("Server-Timing") != "cache" {
		t.Errorf("%+v", a)
	}
	open()
	hit(t, s, "/")
}

// TestVisitorWaitsForAnotherRealmServersRender has two servers share a store:
// one renders, the visitor of the other gets it.
func TestVisitorWaitsForAnotherRealmServersRender(t *testing.T) {
	o, f, _ := rendering(t)
	o.RealmURL = "http://realm.example"
	open := gated(t, f)
	one, _ := start(t, o)
	second := options(t)
	second.Manager, second.Store, second.Now, second.RealmURL = f, o.Store, o.Now, o.RealmURL
	second.OnMiss, second.WaitAtMost = MissWait, time.Hour
	two, _ := start(t, second)
	get(t, one, "/x")
	until(t, "one renders", func() bool { return f.count() == 1 })
	var visitor sync.WaitGroup
	visitor.Go(func() {
		if a := get(t, two, "/x"); a.state() != "hit" {
			t.Errorf("%+v", a)
		}
	})
	until(t, "two waits", two.waits(1))
	open()
	visitor.Wait()
	if f.count() != 1 {
		t.Errorf("%d renders", f.count())
	}
}

func TestWaitsEndWithTheServer(t *testing.T) {
	o, f, _ := rendering(t)
	o.OnMiss, o.WaitAtMost, o.DrainGrace = MissWait, time.Hour, time.Millisecond
	open := gated(t, f)
	s, stop := start(t, o)
	var visitor sync.WaitGroup
	visitor.Go(func() {
		if response, err := http.Get(s.URL() + "/"); err == nil { // an answer or none, but soon
			_ = response.Body.Close()
		}
	})
	until(t, "it waits", s.waits(1))
	open()
	stop()
	visitor.Wait()
}

func TestVisitorsSecretsAreNoPartOfARender(t *testing.T) {
	o, f, _ := rendering(t)
	asked := make(chan wire.VisitRequest, 1)
	f.visited = func(visit wire.VisitRequest, call client.Call) (client.VisitAnswer, error) {
		asked <- visit
		return shows(visit, call)
	}
	s, _ := start(t, o)
	get(t, s, "/", "Cookie", "session=secret", "Authorization", "Bearer secret")
	realm, kind := s.URL(), string(words.AffinityRealm)
	if visit := <-asked; visit.Auth != "" || visit.URL != realm+"/" || *visit.AffinityType != kind || *visit.AffinityValue != realm {
		t.Errorf("%+v", visit)
	}
}

func TestUnknownWayToAnswerAMissIsRefused(t *testing.T) {
	o := options(t)
	o.OnMiss = "guess"
	if _, err := New(o); err == nil || !strings.Contains(err.Error(), "--on-miss") {
		t.Error(err)
	}
}

// lostStore is a store that may be away.
type lostStore struct {
	Store
	away atomic.Bool
}

var errAway = errors.New("away")

func (s *lostStore) Snapshot(ctx context.Context, realm string, token words.Token, url string) (words.Snapshot, bool, error) {
	if s.away.Load() {
		return words.Snapshot{}, false, errAway
	}
	return s.Store.Snapshot(ctx, realm, token, url)
}

func (s *lostStore) Claim(ctx context.Context, key string, ttl time.Duration) (bool, error) {
	if s.away.Load() {
		return false, errAway
	}
	return s.Store.Claim(ctx, key, ttl)
}

func TestStoreAwayCostsNoPageInMemoryAndNoWait(t *testing.T) {
	o, _, c := rendering(t)
	store := &lostStore{Store: o.Store}
	o.Store, o.OnMiss, o.WaitAtMost = store, MissWait, time.Hour
	s, _ := start(t, o)
	get(t, s, "/known")
	hit(t, s, "/known")
	store.away.Store(true)
	if a := get(t, s, "/known"); a.state() != "hit" {
		t.Errorf("%+v", a)
	}
	c.add(time.Hour)
	if a := get(t, s, "/known"); a.state() != "stale" {
		t.Errorf("%+v", a)
	}
	if a := get(t, s, "/unknown"); a.state() != "miss" || a.body != shellOf("aaaaaaa1") {
		t.Errorf("%+v", a)
	}
	store.away.Store(false)
	for _, path := range []string{"/unknown", "/known"} {
		// Time goes on meanwhile: a render may find out only now that the store was
		// away, and then the page is held for a second.
		until(t, path+" is a hit", func() bool {
			c.add(2 * time.Second)
			return get(t, s, path).state() == "hit"
		})
	}
}
