package manager

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rewarm/rewarm/internal/ledger"
	"github.com/rewarm/rewarm/internal/release"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// candidateRig is a manager with two gated realm servers on t1, and a prerender
// server that gives the verdict that a test says.
type candidateRig struct {
	*canaryRig
	asked  atomic.Value // the candidate that was asked about last
	checks atomic.Int64
}

func startCandidate(t *testing.T, verdict string) *candidateRig {
	t.Helper()
	c := &candidateRig{canaryRig: &canaryRig{realm: "http://realm.test"}}
	c.verdict.Store(verdict)
	c.asked.Store("")
	c.server = newFake(t, func(w http.ResponseWriter, r *http.Request) {
		var doc wire.Document[wire.TakeoverRequest]
		_ = json.NewDecoder(r.Body).Decode(&doc)
		asked, verdict := string(doc.Data.Attributes.Release), c.verdict.Load().(string)
		var code int
		switch {
		case r.URL.Path != "/takeover-check":
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		case asked == "": // what is current
			w.WriteHeader(http.StatusNotFound)
			return
		case isStatus(verdict, &code):
			w.WriteHeader(code)
		default:
			_, _ = fmt.Fprintf(w, `{"data":{"attributes":{"url":"x","token":%q,"verdict":%q,"findings":[{"kind":"exception","severity":"break","message":"boom"}]}}}`, asked, verdict)
		}
		c.asked.Store(asked)
		c.checks.Add(1)
	})
	c.rig = start(t, func(o *Options) { o.CanaryURLs = []string{"/"} })
	// The manager has known them for long: who is live is settled.
	for _, name := range []string{"r1", "r2"} {
		if err := c.store.PutReporter(t.Context(), release.Reporter{Name: name, Token: "t1", Gated: true, Known: time.Now().Add(-time.Minute), LastSeenAt: time.Now()}); err != nil {
			t.Fatal(err)
		}
		c.serve(name, "t1", "")
	}
	c.on(1, "t1")
	return c
}

// serve is a presence of a gated realm server, and its candidate's.
func (c *candidateRig) serve(name, serves, holds string) {
	c.t.Helper()
	said := map[string]any{"hash": serves, "source": "presence", "reporter": name, "realms": []string{c.realm}, "promotion": "gated", "candidate": holds}
	if got := c.do("POST", "/host-shell", attrs(said)); got.status != 204 {
		c.t.Fatalf("report: %d %s", got.status, got.body)
	}
	if holds == "" {
		return
	}
	said["hash"], said["state"], said["deploymentId"] = holds, "candidate", "d-"+holds
	if got := c.do("POST", "/host-shell", attrs(said)); got.status != 204 {
		c.t.Fatalf("report: %d %s", got.status, got.body)
	}
}

func (c *candidateRig) both(serves, holds string) {
	c.t.Helper()
	c.serve("r1", serves, holds)
	c.serve("r2", serves, holds)
}

// untilCandidate waits for a phase of the candidate; "" for none.
func (c *candidateRig) untilCandidate(phase wire.CandidatePhase) (r wire.Rollout) {
	c.t.Helper()
	eventually(c.t, fmt.Sprintf("the candidate is %q", phase), func() bool {
		r = c.rollout()
		return phase == "" && r.Candidate == nil || r.Candidate != nil && r.Candidate.Phase == phase
	})
	return r
}

// untilJudged waits until the candidate is promoted or refused.
func (c *candidateRig) untilJudged(token words.Token) (r wire.Rollout) {
	c.t.Helper()
	eventually(c.t, "it is promoted or refused", func() bool {
		r = c.rollout()
		return r.Release.Token == token || r.Candidate != nil && r.Candidate.Phase == wire.CandidateRefused
	})
	return r
}

func (c *candidateRig) order(action string) {
	c.t.Helper()
	if got := c.do("POST", "/rollout/"+action, ""); got.status != 200 {
		c.t.Fatalf("%s: %d %s", action, got.status, got.body)
	}
}

func TestACandidateThatPassesIsPromoted(t *testing.T) {
	c := startCandidate(t, "ok")
	c.serve("r1", "t1", "t2")
	r := c.untilCandidate(wire.CandidateWaiting)
	if r.Candidate.Token != "t2" || !strings.Contains(r.Candidate.Detail, "r2") || len(r.Candidate.Missing) != 1 || r.Release.Token != "t1" {
		t.Errorf("%+v", r.Candidate)
	}
	if c.asked.Load() != "" {
		t.Error("it is checked before all have it")
	}
	c.serve("r2", "t1", "t2")
	eventually(t, "it is current", func() bool { r = c.rollout(); return r.Release.Token == "t2" })
	if r.Candidate != nil || c.asked.Load() != "t2" {
		t.Errorf("%+v, asked about %v", r.Candidate, c.asked.Load())
	}
	state, _, err := c.store.Releases(t.Context())
	if err != nil || state.History[0].DeploymentID != "d-t2" || state.History[0].Source != words.SourceDeployment {
		t.Errorf("%+v, %v", state, err)
	}
	c.both("t1", "t2") // they have not heard yet
	if r := c.rollout(); r.Release.Sequence != 2 || r.Candidate != nil {
		t.Errorf("%+v", r)
	}
}

func TestABrokenCandidateIsRefusedForGood(t *testing.T) {
	c := startCandidate(t, "broken")
	c.both("t1", "t2")
	r := c.untilCandidate(wire.CandidateRefused)
	if r.Release.Token != "t1" || !strings.Contains(r.Candidate.Detail, "exception: boom") || len(r.Candidate.Canary.Checks) != 1 || r.Candidate.Canary.Server != c.server.URL {
		t.Fatalf("%+v %+v", r.Candidate, r.Candidate.Canary)
	}
	l, calls := c.store, c.checks.Load()
	c.stop()
	c.verdict.Store("ok")
	c.rig = startOn(t, l, func(o *Options) { o.CanaryURLs = []string{"/"} })
	c.on(1, "t1")
	c.both("t1", "t2")
	if r := c.untilCandidate(wire.CandidateRefused); r.Release.Token != "t1" || r.Candidate.Dropped {
		t.Errorf("after a restart: %+v", r)
	}
	if n := c.checks.Load(); n != calls {
		t.Errorf("it was checked %d times more", n-calls)
	}
	t.Run("restart has it checked again", func(t *testing.T) {
		c.order("restart")
		eventually(t, "it is current", func() bool { return c.rollout().Release.Token == "t2" })
	})
	t.Run("undo goes back, and its files bring it back no more", func(t *testing.T) {
		c.both("t2", "")
		c.order("undo")
		c.both("t1", "t2")
		r := c.untilCandidate(wire.CandidateRefused)
		if r.Release.Token != "t1" || r.Release.Sequence != 3 || !r.Candidate.Dropped || !strings.Contains(r.Candidate.Detail, "undone by an operator") {
			t.Errorf("%+v %+v", r.Release, r.Candidate)
		}
		c.order("resume")
		c.order("restart")
		if r := c.untilCandidate(wire.CandidateRefused); r.Release.Sequence != 3 {
			t.Errorf("it is back: %+v", r.Release)
		}
	})
}

func TestAnOperatorPromotesWhatWaitsOrWasRefused(t *testing.T) {
	c := startCandidate(t, "broken")
	c.serve("r1", "t1", "t2") // r2 never gets it
	c.untilCandidate(wire.CandidateWaiting)
	c.order("resume")
	if r := c.rollout(); r.Release.Token != "t2" {
		t.Errorf("%+v", r)
	}
	c.both("t2", "t3")
	c.untilCandidate(wire.CandidateRefused)
	c.order("resume")
	if r := c.rollout(); r.Release.Token != "t3" {
		t.Errorf("%+v", r)
	}
	c.both("t3", "t4")
	c.untilCandidate(wire.CandidateRefused)
	c.order("undo")
	if r := c.rollout(); r.Release.Token != "t3" || !r.Candidate.Dropped {
		t.Errorf("undo of a candidate: %+v %+v", r.Release, r.Candidate)
	}
}

func TestAnOrderMayNameItsRelease(t *testing.T) {
	c := startCandidate(t, "503")
	c.both("t1", "t2")
	c.untilCandidate(wire.CandidateChecking)
	for order, code := range map[string]int{
		"resume": 409, "resume?release=t9": 409, "undo?release=t9": 409, "resume?release=a%20b": 400, "pause?release=t2": 400,
	} {
		if got := c.do("POST", "/rollout/"+order, ""); got.status != code {
			t.Errorf("%s: %d %s", order, got.status, got.body)
		}
	}
	if r := c.rollout(); r.Release.Token != "t1" {
		t.Errorf("%+v", r.Release)
	}
	c.order("resume?release=t2")
	if r := c.rollout(); r.Release.Token != "t2" {
		t.Errorf("%+v", r.Release)
	}
	c.order("undo?release=t2")
	if r := c.rollout(); r.Release.Token != "t1" {
		t.Errorf("%+v", r.Release)
	}
}

func TestAPausedFleetPromotesNothing(t *testing.T) {
	c := startCandidate(t, "ok")
	c.order("pause")
	c.both("t1", "t2")
	if got := c.do("POST", "/rollout/restart", ""); got.status != 409 {
		t.Errorf("a restart in vain: %d %s", got.status, got.body)
	}
	if r := c.untilCandidate(wire.CandidateWaiting); !strings.Contains(r.Candidate.Detail, "an operator paused") || c.asked.Load() != "" {
		t.Errorf("%+v", r.Candidate)
	}
	c.order("resume")
	eventually(t, "it was checked, and is current", func() bool { return c.rollout().Release.Token == "t2" && c.asked.Load() == "t2" })
}

// A release whose canary broke is rolled out again though another is next.
func TestARestartIsForTheCurrentReleaseToo(t *testing.T) {
	c := startCandidate(t, "503")
	c.both("t1", "t2")
	c.untilCandidate(wire.CandidateChecking)
	eventually(t, "the canary broke", func() bool {
		err := c.ruleCanary(t.Context(), func(stored *ledger.Canary) bool {
			*stored = ledger.Canary{Sequence: 1, Detail: "broken"}
			return true
		})
		return err == nil && c.fleet.canaryBroke()
	})
	c.order("restart")
}

// What cannot be checked is refused: nobody has seen that it works.
func TestACandidateThatCannotBeCheckedIsRefused(t *testing.T) {
	c := startCandidate(t, "403")
	c.both("t1", "t2")
	if r := c.untilCandidate(wire.CandidateRefused); !strings.Contains(r.Candidate.Detail, "403") {
		t.Errorf("%+v", r.Candidate)
	}
}

// One server that cannot check it, an older one or one with another secret, does
// not refuse what others can check.
func TestACandidateIsCheckedByWhoeverCan(t *testing.T) {
	c := startCandidate(t, "ok")
	var unable atomic.Value // whoever is asked first
	checks := func(w http.ResponseWriter, r *http.Request) {
		unable.CompareAndSwap(nil, r.Host)
		if unable.Load() == r.Host {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = w.Write([]byte(`{"data":{"attributes":{"url":"x","token":"t2","verdict":"ok"}}}`))
	}
	c.order("pause")
	if got := c.do("DELETE", "/prerender-servers?url="+c.server.URL, ""); got.status != 204 {
		t.Fatal(got)
	}
	for range 2 {
		c.beat(newFake(t, checks).URL, pagesOf(1, "t1", map[string]int{"t1": 2}))
	}
	c.both("t1", "t2")
	c.order("resume")
	if r := c.untilJudged("t2"); r.Release.Token != "t2" {
		t.Errorf("%+v", r.Candidate)
	}
}

func TestACandidateWaitsForAServerToCheckIt(t *testing.T) {
	c := startCandidate(t, "ok")
	if got := c.do("DELETE", "/prerender-servers?url="+c.server.URL, ""); got.status != 204 {
		t.Fatal(got)
	}
	c.both("t1", "t2")
	if r := c.untilCandidate(wire.CandidateWaiting); !strings.Contains(r.Candidate.Detail, "waits for a prerender server") {
		t.Errorf("%+v", r.Candidate)
	}
	c.on(1, "t1")
	eventually(t, "it is current", func() bool { return c.rollout().Release.Token == "t2" })
}

// A newer candidate ends the check of the one before, whose verdict counts for
// nothing.
func TestANewerCandidateReplacesTheOneThatIsChecked(t *testing.T) {
	c := startCandidate(t, "503")
	c.both("t1", "t2")
	eventually(t, "the check has begun", func() bool { return c.asked.Load() == "t2" })
	c.both("t1", "t3")
	c.verdict.Store("ok")
	eventually(t, "the newer one is current", func() bool { return c.rollout().Release.Token == "t3" })
	if state, _, err := c.store.Releases(t.Context()); err != nil || state.Sequence != 2 || len(state.Refused) != 0 {
		t.Errorf("%+v, %v", state, err)
	}
}

// Nor does a verdict on files that a realm server has replaced under the token.
func TestACandidateWhoseFilesChangedIsCheckedAnew(t *testing.T) {
	c := startCandidate(t, "ok")
	var asked atomic.Int64
	c.order("pause")
	if got := c.do("DELETE", "/prerender-servers?url="+c.server.URL, ""); got.status != 204 {
		t.Fatal(got)
	}
	checks := newFake(t, func(w http.ResponseWriter, _ *http.Request) {
		verdict := "broken" // a page that breaks is looked at twice
		switch asked.Add(1) {
		case 1:
			said := map[string]any{"hash": "t2", "state": "candidate", "source": "presence", "reporter": "r1", "since": time.Now()}
			if got := c.do("POST", "/host-shell", attrs(said)); got.status != 204 {
				t.Errorf("report: %d %s", got.status, got.body)
			}
		case 2:
		default:
			verdict = "ok"
		}
		_, _ = fmt.Fprintf(w, `{"data":{"attributes":{"url":"x","token":"t2","verdict":%q}}}`, verdict)
	})
	c.beat(checks.URL, pagesOf(1, "t1", map[string]int{"t1": 2}))
	c.both("t1", "t2")
	c.order("resume")
	if r := c.untilJudged("t2"); r.Release.Token != "t2" {
		t.Errorf("the files of before are judged: %+v", r.Candidate)
	}
}

// A render may not be pinned to what no server has pages of.
func TestACandidatesTokenPinsNoRender(t *testing.T) {
	c := startCandidate(t, "503")
	c.both("t1", "t2")
	got := c.do("POST", "/prerender-visit", attrs(map[string]any{"url": c.realm + "/a"}), wire.HeaderShellHash, "t2", wire.HeaderBudget, "1000")
	if got.status != http.StatusServiceUnavailable {
		t.Errorf("%d %s", got.status, got.body)
	}
}

// A page on a release that nobody promoted makes no release of it: the realm
// server that gave it is gated, whoever asks it.
func TestWhatAGatedRealmIsFoundToServeIsNoRelease(t *testing.T) {
	c := startCandidate(t, "ok")
	asked := make(chan struct{}, 1)
	served := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		select {
		case asked <- struct{}{}:
		default:
		}
		_, _ = w.Write([]byte("t9"))
	}))
	t.Cleanup(served.Close)
	c.realm = served.URL
	c.both("t1", "")
	c.asker.ask(t.Context(), "t9")
	if r := c.rollout(); r.Release.Token != "t1" || len(asked) > 0 {
		t.Errorf("%+v", r.Release)
	}
}

// Two managers may both check; the release is made once, and both know it.
func TestTwoManagersPromoteOnce(t *testing.T) {
	c := startCandidate(t, "503")
	other := startOn(t, c.store, func(o *Options) { o.CanaryURLs = []string{"/"} })
	c.both("t1", "t2")
	eventually(t, "both have begun", func() bool {
		c.serve("r1", "t1", "t2")
		_, servers := other.fleet.uncheckedCandidate()
		return len(servers) == 1 && c.checks.Load() > 3
	})
	c.verdict.Store("ok")
	eventually(t, "both say that it is current, and nothing is next", func() bool {
		var r wire.Rollout
		_ = json.Unmarshal([]byte(other.do("GET", "/rollout", "").body), &r)
		own := c.rollout()
		return r.Release.Token == "t2" && own.Release.Token == "t2" && r.Candidate == nil && own.Candidate == nil
	})
	if state, _, err := c.store.Releases(t.Context()); err != nil || state.Sequence != 2 || len(state.Refused) != 0 {
		t.Errorf("%+v, %v", state, err)
	}
}
