package realm

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	history "github.com/rewarm/rewarm/internal/release"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

func tokenOf(release string) words.Token { return words.TokenOf([]byte(shellOf(release))) }

// gatedOn are the options of a gated server on a host with release aaaaaaa1.
func gatedOn(t *testing.T, f *fleet) Options {
	t.Helper()
	o := options(t)
	o.Manager, o.Promotion = f, PromoteGated
	return o
}

// serves fails unless visitors get the release, whole.
func serves(t *testing.T, s *Server, release string) {
	t.Helper()
	for _, path := range []string{"/", "/about", "/index.html", "/_standby"} {
		if a := get(t, s, path); a.body != shellOf(release) || a.header.Get(wire.HeaderDocumentShell) != string(tokenOf(release)) {
			t.Errorf("%s: %d %q, want release %s", path, a.code, a.body, release)
		}
	}
	if a := get(t, s, "/_host-shell-hash"); a.body != string(tokenOf(release)) {
		t.Errorf("hash %s", a.body)
	}
}

func TestAGatedReleaseIsHeldUntilItsPromotion(t *testing.T) {
	f := newFleet()
	o := gatedOn(t, f)
	s, _ := start(t, o)
	f.promote(1, tokenOf("aaaaaaa1"))
	deploy(t, o.Host, "bbbbbbb2")
	got := ask(t, s, http.MethodPost, "/_post-deployment", "Content-Type", "application/json")
	contains(t, got.body, `"accepted":true`, `"currentChecksum":"`+string(tokenOf("aaaaaaa1"))+`"`, `"candidateChecksum":"`+string(tokenOf("bbbbbbb2"))+`"`)
	serves(t, s, "aaaaaaa1")
	contains(t, get(t, s, "/readyz").body, `"candidate":"`+string(tokenOf("bbbbbbb2"))+`"`)
	if a := get(t, s, "/_standby?release="+string(tokenOf("bbbbbbb2"))); a.body != shellOf("bbbbbbb2") || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("the candidate's shell: %d %q", a.code, a.body)
	}
	if a := get(t, s, "/_standby?release=0123"); a.code != http.StatusNotFound {
		t.Errorf("a release that is not here: %d", a.code)
	}
	if a := get(t, s, "/assets/main-bbbbbbb2.js"); a.code != http.StatusOK {
		t.Errorf("the candidate's script: %d", a.code)
	}
	if a := get(t, s, "/robots.txt"); a.body != "robots of aaaaaaa1" {
		t.Errorf("robots.txt is %q", a.body)
	}
	f.promote(2, tokenOf("bbbbbbb2"))
	until(t, "it is served", func() bool { return s.Token() == tokenOf("bbbbbbb2") })
	serves(t, s, "bbbbbbb2")
	if a := get(t, s, "/assets/main-aaaaaaa1.js"); a.code != http.StatusOK {
		t.Errorf("the script of the release before: %d", a.code)
	}
	t.Run("and goes back without its files", func(t *testing.T) {
		f.promote(3, tokenOf("aaaaaaa1"))
		until(t, "the release before is served", func() bool { return s.Token() == tokenOf("aaaaaaa1") })
		serves(t, s, "aaaaaaa1")
		f.promote(2, tokenOf("bbbbbbb2")) // a manager that lags
		until(t, "it was heard again", func() bool { return len(f.reports) > 4 })
		serves(t, s, "aaaaaaa1")
	})
}

func TestAGatedServerReportsBothReleases(t *testing.T) {
	f := newFleet()
	o := gatedOn(t, f)
	s, _ := start(t, o)
	if first := <-f.reports; first.Promotion != wire.PromotionGated || first.State != "" || first.Source != words.SourceBoot || !slices.Equal(first.Kept, []words.Token{tokenOf("aaaaaaa1")}) {
		t.Errorf("%+v", first)
	}
	deploy(t, o.Host, "bbbbbbb2")
	if _, err := s.Accept(t.Context(), "d7"); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	until(t, "both are reported, and again", func() bool {
		switch r := <-f.reports; {
		case r.Hash == tokenOf("aaaaaaa1") && r.State == "" && r.Promotion == wire.PromotionGated:
			seen["served"] = true
			if r.Source == words.SourceDeployment {
				t.Errorf("%+v: it was not deployed", r)
			}
		case r.Hash == tokenOf("bbbbbbb2") && r.State == wire.StateCandidate && r.DeploymentID == "d7":
			seen[string(r.Source)] = true
		}
		return seen["served"] && seen["deployment"] && seen["presence"]
	})
	f.promote(2, tokenOf("bbbbbbb2"))
	until(t, "what it could go back to is reported", func() bool {
		return slices.Equal((<-f.reports).Kept, []words.Token{tokenOf("bbbbbbb2"), tokenOf("aaaaaaa1")})
	})
}

func TestAGatedServerThatRestartsServesWhatWasPromoted(t *testing.T) {
	f := newFleet()
	o := gatedOn(t, f)
	s, stop := start(t, o)
	f.promote(1, tokenOf("aaaaaaa1"))
	deploy(t, o.Host, "bbbbbbb2")
	mustAccept(t, s)
	stop()
	f.setDown(true) // and without a manager to ask
	s, stop = start(t, o)
	serves(t, s, "aaaaaaa1")
	if held := s.releases.Load().held(); held == nil || held.token != tokenOf("bbbbbbb2") {
		t.Error("the candidate is lost")
	}
	stop()
	f.promote(2, tokenOf("bbbbbbb2")) // while it was down
	f.setDown(false)
	s, stop = start(t, o)
	until(t, "it has heard of the promotion", func() bool { return s.Token() == tokenOf("bbbbbbb2") })
	stop()
	f.setDown(true)
	s, _ = start(t, o)
	serves(t, s, "bbbbbbb2")
}

func TestAGatedServerWithoutThePromotedReleaseTakesItAtOnce(t *testing.T) {
	f := newFleet()
	o := gatedOn(t, f)
	s, _ := start(t, o)
	f.promote(2, tokenOf("bbbbbbb2")) // the others had it
	until(t, "it has heard", func() bool {
		s.switching.Lock()
		defer s.switching.Unlock()
		return s.promoted.missed
	})
	serves(t, s, "aaaaaaa1")
	deploy(t, o.Host, "bbbbbbb2")
	if a := hook(t, s); a.Current != tokenOf("bbbbbbb2") || a.Candidate != "" {
		t.Errorf("%+v", a)
	}
	serves(t, s, "bbbbbbb2")
}

func TestAHostThatGoesBackHasNoCandidate(t *testing.T) {
	f := newFleet()
	o := gatedOn(t, f)
	s, _ := start(t, o)
	f.promote(1, tokenOf("aaaaaaa1"))
	deploy(t, o.Host, "bbbbbbb2")
	mustAccept(t, s)
	deploy(t, o.Host, "ccccccc3")
	mustAccept(t, s)
	if held := s.releases.Load().held(); held.token != tokenOf("ccccccc3") {
		t.Errorf("held: %s", held.token)
	}
	if a := get(t, s, "/_standby?release="+string(tokenOf("bbbbbbb2"))); a.code != http.StatusNotFound {
		t.Errorf("the candidate that was replaced: %d", a.code)
	}
	deploy(t, o.Host, "aaaaaaa1")
	mustAccept(t, s)
	if held := s.releases.Load().held(); held != nil {
		t.Errorf("held: %s", held.token)
	}
	serves(t, s, "aaaaaaa1")
}

// What a visitor of the release before could come upon by a name that is known
// beforehand stays as it was.
func TestACandidateAddsNothingThatVisitorsFind(t *testing.T) {
	f := newFleet()
	o := gatedOn(t, f)
	s, _ := start(t, o)
	deploy(t, o.Host, "bbbbbbb2")
	put(t, o.Host, map[string]string{"sw.js": "worker", "feed.xml": "feed", "docs/page.html": "page", "docs/chart.js": "chart"})
	mustAccept(t, s)
	for _, path := range []string{"/sw.js", "/feed.xml"} {
		if a := get(t, s, path); a.code != http.StatusNotFound {
			t.Errorf("%s: %d", path, a.code)
		}
	}
	for _, path := range []string{"/docs/page.html", "/docs/intro"} {
		if a := get(t, s, path); a.body != shellOf("aaaaaaa1") {
			t.Errorf("%s: %d %q", path, a.code, a.body)
		}
	}
	if a := get(t, s, "/docs/chart.js"); a.code != http.StatusOK {
		t.Errorf("a script of the candidate's: %d", a.code)
	}
	deploy(t, o.Host, "aaaaaaa1")
	mustAccept(t, s)
	if a := get(t, s, "/docs/chart.js"); a.code != http.StatusNotFound {
		t.Errorf("a script of a candidate that is gone: %d", a.code)
	}
}

func TestGatedPromotionNeedsAManager(t *testing.T) {
	o := options(t)
	o.Promotion = PromoteGated
	if s, err := New(o); err == nil || !strings.Contains(err.Error(), "--manager-url") {
		t.Errorf("%v, %v", s, err)
	}
}

// The store tells at once, though presence is an hour away.
func TestAPromotionIsHeardFromTheStore(t *testing.T) {
	f, store := newFleet(), openStore(t)
	o := gatedOn(t, f)
	o.Store, o.PresenceInterval = store, time.Hour
	s, _ := start(t, o)
	deploy(t, o.Host, "bbbbbbb2")
	mustAccept(t, s)
	state := history.State{Sequence: 2, History: []words.Release{{Sequence: 2, Token: tokenOf("bbbbbbb2")}, {Sequence: 1, Token: tokenOf("aaaaaaa1")}}}
	if _, err := store.PutReleases(t.Context(), state, 0); err != nil {
		t.Fatal(err)
	}
	until(t, "it is served", func() bool { return s.Token() == tokenOf("bbbbbbb2") })
	until(t, "it is reported", func() bool { return (<-f.reports).Hash == tokenOf("bbbbbbb2") })
}

// One that begins with an empty data directory has nothing else to serve, so
// load balancers are told to send nobody; unless there is no manager to wait for.
func TestAnUnpromotedServerIsNotReady(t *testing.T) {
	f := newFleet()
	f.promote(7, tokenOf("bbbbbbb2"))
	o := gatedOn(t, f)
	s, _ := start(t, o)
	until(t, "it has heard that another is current", func() bool {
		a := get(t, s, "/readyz")
		return a.code == http.StatusServiceUnavailable && strings.Contains(a.body, "waits for its promotion")
	})
	f.promote(8, tokenOf("aaaaaaa1"))
	until(t, "it is ready once its release is promoted", func() bool { return get(t, s, "/readyz").code == http.StatusOK })

	f = newFleet()
	f.setDown(true)
	s, _ = start(t, gatedOn(t, f))
	until(t, "a manager that is away keeps nobody out", func() bool { return get(t, s, "/readyz").code == http.StatusOK })
}

// A server that was added while b was current has only that, whether or not it
// was restarted since. When b is undone it has to say so.
func TestAServerThatLacksThePromotedReleaseIsNotReady(t *testing.T) {
	f := newFleet()
	f.promote(2, tokenOf("bbbbbbb2"))
	o := gatedOn(t, f)
	deploy(t, o.Host, "bbbbbbb2")
	s, stop := start(t, o)
	isReady := func() bool { return get(t, s, "/readyz").code == http.StatusOK }
	until(t, "it is ready", isReady)
	stop()
	s, stop = start(t, o)
	until(t, "it is ready again", isReady)
	f.promote(3, tokenOf("aaaaaaa1"))
	until(t, "it is no more", func() bool { return !isReady() })
	contains(t, get(t, s, "/readyz").body, string(tokenOf("aaaaaaa1"))+" is promoted, and is not here", "/_post-deployment")
	serves(t, s, "bbbbbbb2") // to whoever comes all the same
	stop()

	unasked, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if why := unasked.unpromoted(); why == "" {
		t.Error("ready before it has asked what is promoted")
	}
	unasked.Close()

	s, _ = start(t, o)
	deploy(t, o.Host, "aaaaaaa1")
	until(t, "it has heard", func() bool { return strings.Contains(get(t, s, "/readyz").body, "not here") })
	mustAccept(t, s)
	until(t, "it is ready with the files in place", isReady)
	serves(t, s, "aaaaaaa1")
}

// A host URL that is polled is read once for a candidate, not at every look.
func TestAGatedHostURLIsHeldToo(t *testing.T) {
	c, f := newCDN(t, built("/", "aaaaaaa1")), newFleet()
	o := urlOptions(t, c.URL)
	o.Manager, o.Promotion, o.NoPoll = f, PromoteGated, false
	s, _ := start(t, o)
	f.promote(1, tokenOf("aaaaaaa1"))
	next := built("/", "bbbbbbb2")
	next["/worker.js"], next["/assets/plain.png"] = "worker of bbbbbbb2", "picture of bbbbbbb2"
	c.deploy(next)
	until(t, "it is held", func() bool {
		held := s.releases.Load().held()
		return held != nil && held.token == tokenOf("bbbbbbb2")
	})
	looks, reads := c.count("/index.html"), c.count("/assets/main-bbbbbbb2.js")
	until(t, "it was looked at again", func() bool { return c.count("/index.html") > looks+3 })
	if n := c.count("/assets/main-bbbbbbb2.js"); n != reads {
		t.Errorf("its script was fetched %d times more", n-reads)
	}
	serves(t, s, "aaaaaaa1")
	// What the host has under other names may be the held release's.
	if a := get(t, s, "/worker.js"); a.code != http.StatusNotFound {
		t.Errorf("a file of the held release: %d %q", a.code, a.body)
	}
	if a := get(t, s, "/assets/plain.png"); a.code != http.StatusOK || a.header.Get("Cache-Control") != "no-cache" {
		t.Errorf("a picture: %d %v", a.code, a.header)
	}
	if _, kept := s.releases.Load().current().files["assets/plain.png"]; kept {
		t.Error("the picture has become the served release's")
	}
	f.promote(2, tokenOf("bbbbbbb2"))
	until(t, "it is served", func() bool { return s.Token() == tokenOf("bbbbbbb2") })
	serves(t, s, "bbbbbbb2")
	if a := get(t, s, "/assets/chunk-bbbbbbb2.js"); a.code != http.StatusOK {
		t.Errorf("a file on demand: %d", a.code)
	}
}

// Whatever is promoted while they come, visitors get one release or the other,
// whole.
func TestVisitorsGetWholeReleasesWhileOthersArePromoted(t *testing.T) {
	f := newFleet()
	o := gatedOn(t, f)
	s, _ := start(t, o)
	f.promote(1, tokenOf("aaaaaaa1"))
	names := map[string]string{string(tokenOf("aaaaaaa1")): "aaaaaaa1", string(tokenOf("bbbbbbb2")): "bbbbbbb2"}
	ctx, stop := context.WithCancel(t.Context())
	var visitors sync.WaitGroup
	for _, path := range []string{"/", "/about", "/_standby"} {
		visitors.Go(func() {
			for ctx.Err() == nil {
				a := get(t, s, path)
				release := names[a.header.Get(wire.HeaderDocumentShell)]
				if a.code != http.StatusOK || a.body != shellOf(release) {
					t.Errorf("%s: %d %q", path, a.code, a.body)
					return
				}
				if script := get(t, s, "/assets/main-"+release+".js"); script.code != http.StatusOK {
					t.Errorf("the script of %s: %d", release, script.code)
					return
				}
			}
		})
	}
	deploy(t, o.Host, "bbbbbbb2")
	mustAccept(t, s)
	for i := range 10 {
		next := []string{"bbbbbbb2", "aaaaaaa1"}[i%2]
		f.promote(uint64(i+2), tokenOf(next))
		until(t, next+" is served", func() bool { return s.Token() == tokenOf(next) })
		mustAccept(t, s) // the host still has the other, or the same
	}
	stop()
	visitors.Wait()
}
