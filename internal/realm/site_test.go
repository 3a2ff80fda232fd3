package realm

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rewarm/rewarm/internal/client"
	"github.com/rewarm/rewarm/internal/ledger"
	"github.com/rewarm/rewarm/internal/wire"
)

// of asks as a caller who named a host does; [ask] cannot, for a client sends
// Host from its URL.
func of(t testing.TB, s *Server, host, target string, headers ...string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.Addr()+target, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = host
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return answerTo(t, r)
}

const (
	siteA = "https://a.example"
	siteB = "https://b.example"
	shop  = "https://b.example/shop"
)

// several starts a server of three realms, with a store, whose fleet shows every
// page as its URL.
func several(t *testing.T) (*Server, *fleet, *ledger.Ledger) {
	t.Helper()
	f, o := newFleet(), options(t)
	store := openStore(t)
	f.visited = shows
	o.Manager, o.Store, o.Realms = f, store, tableOf(t, siteA, siteB, shop)
	s, _ := start(t, o)
	return s, f, store
}

// hits asks until the page is there.
func hits(t *testing.T, s *Server, host, target string) (got answer) {
	t.Helper()
	until(t, host+target+" is a hit", func() bool {
		got = of(t, s, host, target)
		return got.state() == stateHit
	})
	return got
}

func TestEachRealmHasItsOwnPages(t *testing.T) {
	s, f, store := several(t)
	for _, test := range []struct{ host, target, realm, page string }{
		{"a.example", "/shop/x", siteA, siteA + "/shop/x"},
		{"b.example", "/x", siteB, siteB + "/x"},
		{"b.example", "/shop/x", shop, shop + "/x"},
		{"b.example", "/shop", shop, shop + "/"},
	} {
		contains(t, hits(t, s, test.host, test.target).body, "page "+test.page+"<")
		if _, found, err := store.Snapshot(t.Context(), test.realm, s.Token(), test.page); !found {
			t.Errorf("%s is not stored in %s: %v", test.page, test.realm, err)
		}
	}
	var last wire.Report
	until(t, "a report", func() bool { last = <-f.reports; return true })
	if want := []string{siteA, siteB, shop}; !slices.Equal(last.Realms, want) {
		t.Errorf("realms %q are reported, want %q", last.Realms, want)
	}
}

func TestPurgeOfOneRealmLeavesTheOthers(t *testing.T) {
	s, f, store := several(t)
	for _, host := range []string{"a.example", "b.example"} {
		hits(t, s, host, "/x")
	}
	f.mu.Lock()
	f.visited = func(visit wire.VisitRequest, call client.Call) (client.VisitAnswer, error) {
		return ready(call.Pin, "anew "+visit.URL), nil
	}
	f.mu.Unlock()
	for _, site := range s.served.Load().all {
		until(t, "purges are heard", func() bool { _, known := site.invalidated.now(); return known })
	}
	if _, _, err := store.PurgeSnapshots(t.Context(), siteA, ledger.Selection{All: true}); err != nil {
		t.Fatal(err)
	}
	until(t, "the purged page is made anew", func() bool { return strings.Contains(of(t, s, "a.example", "/x").body, "anew "+siteA+"/x") })
	contains(t, hits(t, s, "b.example", "/x").body, "page "+siteB+"/x")
}

func TestHostOfNoRealmIsMisdirected(t *testing.T) {
	s, _, _ := several(t)
	for _, target := range []string{"/", "/x", "/shop/x", "/robots.txt", "/_standby", "/_modules?url=" + siteA + "/m"} {
		got := of(t, s, `evil.example"><script>`, target)
		if got.code != http.StatusMisdirectedRequest && got.code != http.StatusBadRequest || strings.Contains(got.body, "evil") {
			t.Errorf("%s: %d %q", target, got.code, got.body)
		}
		if got := of(t, s, "evil.example", target); got.code != http.StatusMisdirectedRequest || strings.Contains(got.body, "evil") || got.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %q %q", target, got.code, got.body, got.header)
		}
	}
	for _, target := range []string{"/livez", "/readyz", "/metrics", "/_host-shell-hash"} {
		if got := get(t, s, target); got.code != http.StatusOK {
			t.Errorf("%s under the address: %d %q", target, got.code, got.body)
		}
	}
}

func TestFilesAreAtTheRootAndBelowAPrefix(t *testing.T) {
	o := options(t)
	put(t, o.Host, map[string]string{"shop/only.txt": "of the directory", "shop/robots.txt": "of the directory too"})
	o.Realms = tableOf(t, "https://a.example/shop", "https://a.example/blog")
	s, _ := start(t, o)
	for _, test := range []struct {
		target string
		code   int
		body   string
	}{
		{"/assets/main-aaaaaaa1.js", 200, "console.log"},
		{"/shop/assets/main-aaaaaaa1.js", 200, "console.log"},
		{"/shop/deep/assets/main-aaaaaaa1.js", 404, ""},
		{"/shop/assets/gone.js", 404, ""},
		{"/robots.txt", 200, "robots of"},
		{"/blog/robots.txt", 200, "robots of"},
		{"/shop/robots.txt", 200, "of the directory too"}, // what is there as it is named goes first
		{"/blog/only.txt", 404, ""},
		{"/shop/_standby", 200, shellOf("aaaaaaa1")},
		{"/shop/_host-shell-hash", 200, string(s.Token())},
		{"/shop/index.html", 200, shellOf("aaaaaaa1")},
		{"/shop/x", 200, shellOf("aaaaaaa1")},
		{"/shop", 200, shellOf("aaaaaaa1")},
		{"/shop/livez", 200, shellOf("aaaaaaa1")}, // a page like any other
		{"/_standby", 404, ""},                    // no realm is there
		{"/x", 404, ""},
		{"/index.html", 404, ""},
		{"/shopping", 404, ""},
	} {
		if got := of(t, s, "a.example", test.target); got.code != test.code || !strings.Contains(got.body, test.body) {
			t.Errorf("%s: %d %.60q, want %d %.60q", test.target, got.code, got.body, test.code, test.body)
		}
	}
}

func TestRealmsHaveSettingsOfTheirOwn(t *testing.T) {
	f, o := newFleet(), options(t)
	f.visited = func(visit wire.VisitRequest, call client.Call) (client.VisitAnswer, error) {
		got := ready(call.Pin, "page "+visit.URL)
		got.Result.Headers = map[string]string{"Surrogate-Key": "k"}
		return got, nil
	}
	o.Manager, o.Store, o.QueryAllow, o.PageHeaders = f, openStore(t), []string{"page"}, []string{"Surrogate-Key"}
	table := tableOf(t, siteB)
	if err := table.Add(Realm{URL: siteA, Query: []string{}, PageHeaders: []string{}, OnMiss: MissWait, WaitAtMost: 10 * time.Second}); err != nil {
		t.Fatal(err)
	}
	o.Realms = table
	s, _ := start(t, o)
	if got := of(t, s, "a.example", "/x"); got.state() != stateHit || got.header.Get("Surrogate-Key") != "" {
		t.Errorf("a visitor who is to wait: %q, %q", got.state(), got.header)
	}
	if got := of(t, s, "b.example", "/x"); got.state() != stateMiss {
		t.Errorf("a visitor who is not to wait: %q", got.state())
	}
	if got := hits(t, s, "b.example", "/x?page=2"); got.header.Get("Surrogate-Key") != "k" {
		t.Errorf("as the options say: %q", got.header)
	}
	if got := of(t, s, "a.example", "/x?page=2"); got.state() != stateBypass {
		t.Errorf("a realm without parameters: %q", got.state())
	}
}

func TestRealmsAreReplacedAsAWhole(t *testing.T) {
	s, f, _ := several(t)
	for _, host := range []string{"a.example", "b.example"} {
		hits(t, s, host, "/x")
	}
	kept := s.served.Load().all[0]
	if err := s.SetRealms(tableOf(t, siteA, "https://c.example")); err != nil {
		t.Fatal(err)
	}
	if s.served.Load().all[0] != kept {
		t.Error("a realm that did not change began anew")
	}
	if got := of(t, s, "b.example", "/x"); got.code != http.StatusMisdirectedRequest {
		t.Errorf("a realm that is gone answers %d", got.code)
	}
	if got := of(t, s, "a.example", "/x"); got.state() != stateHit {
		t.Errorf("a realm that stayed: %q", got.state())
	}
	hits(t, s, "c.example", "/x")
	until(t, "the realms are reported", func() bool {
		return slices.Equal((<-f.reports).Realms, []string{siteA, "https://c.example"})
	})
	until(t, "nothing is counted of what is gone", func() bool { return !strings.Contains(get(t, s, "/metrics").body, siteB) })
	// A realm below another takes its pages over.
	if err := s.SetRealms(tableOf(t, siteA, siteA+"/x")); err != nil {
		t.Fatal(err)
	}
	contains(t, hits(t, s, "a.example", "/x/y").body, "page "+siteA+"/x/y")

	bad := tableOf(t, siteB)
	if err := bad.Add(Realm{URL: siteA, PageHeaders: []string{"Set-Cookie"}}); err != nil {
		t.Fatal(err)
	}
	if err := s.SetRealms(bad); err == nil {
		t.Error("a realm whose pages may set cookies is served")
	}
	if want := []string{siteA, siteA + "/x"}; !slices.Equal(s.URLs(), want) {
		t.Errorf("after a table that is refused %q are served, want %q", s.URLs(), want)
	}
}

func TestRealmsThatAreRefusedAreTold(t *testing.T) {
	s, _, _ := several(t)
	told := func(when, refused string) {
		t.Helper()
		if got := get(t, s, "/metrics").body; !strings.Contains(got, "\nrewarm_realm_config_refused "+refused+"\n") {
			t.Errorf("%s: the gauge is not %s", when, refused)
		}
		if ready := get(t, s, "/readyz").body; strings.Contains(ready, "configuration") != (refused == "1") {
			t.Errorf("%s: ready says %q", when, ready)
		}
	}
	told("at the start", "0")
	if err := s.SetRealms(nil); err != nil {
		t.Fatal(err)
	}
	told("a file that cannot be read", "1")
	if err := s.SetRealms(tableOf(t, siteA)); err != nil {
		t.Fatal(err)
	}
	told("one that is taken", "0")
	bad := &Table{}
	if err := bad.Add(Realm{URL: siteA, OnMiss: "both"}); err != nil {
		t.Fatal(err)
	}
	if err := s.SetRealms(bad); err == nil {
		t.Error("a realm that waits and does not is served")
	}
	told("one that this server refuses", "1")
	if err := s.SetRealms(tableOf(t, siteA)); err != nil {
		t.Fatal(err)
	}
	told("the one before again", "0")
}

func TestProxyRulesTakeNoRealm(t *testing.T) {
	o := options(t)
	o.ProxyRules = []ProxyRule{{Prefix: "/api", Target: &url.URL{Scheme: "http", Host: "127.0.0.1:1"}}}
	o.Realms = tableOf(t, "https://a.example/api/v1")
	if s, err := New(o); err == nil {
		s.Close()
		t.Error("a realm that nobody can reach is served")
	}
}

// A caller who waits for a module of a realm that goes away is told, and does
// not wait until its own patience ends.
func TestRealmThatGoesLetsNobodyWait(t *testing.T) {
	s, f, _ := several(t)
	began := make(chan struct{})
	f.mu.Lock()
	f.module = func(ctx context.Context, _ wire.VisitRequest, _ client.Call) (client.ModuleAnswer, error) {
		close(began)
		<-ctx.Done()
		return client.ModuleAnswer{}, ctx.Err()
	}
	f.mu.Unlock()
	done := make(chan answer, 1)
	go func() { done <- of(t, s, "b.example", "/_modules?url="+siteB+"/m") }()
	<-began
	if err := s.SetRealms(tableOf(t, siteA)); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-done:
		if got.code != http.StatusServiceUnavailable {
			t.Errorf("%d %q", got.code, got.body)
		}
	case <-t.Context().Done():
	}
}
