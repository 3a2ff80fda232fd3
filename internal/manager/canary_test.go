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
	"github.com/rewarm/rewarm/internal/wire"
)

// canaryRig is a manager that checks releases, a realm that serves token, and a
// prerender server that gives the verdict that a test says.
type canaryRig struct {
	*rig
	server  *fake
	realm   string
	token   atomic.Value // what the realm serves
	verdict atomic.Value // "ok", "broken", or a status
}

func startCanary(t *testing.T, verdict string) *canaryRig {
	t.Helper()
	c := &canaryRig{}
	c.token.Store("t1")
	c.verdict.Store(verdict)
	served := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(wire.HeaderSnapshot, "hit")
		w.Header().Set(wire.HeaderDocumentShell, c.token.Load().(string))
	}))
	t.Cleanup(served.Close)
	c.realm = served.URL
	c.server = newFake(t, func(w http.ResponseWriter, r *http.Request) {
		var code int
		switch verdict := c.verdict.Load().(string); {
		case r.URL.Path != "/takeover-check":
			w.WriteHeader(http.StatusInternalServerError)
		case isStatus(verdict, &code):
			w.WriteHeader(code)
		default:
			_, _ = fmt.Fprintf(w, `{"data":{"attributes":{"url":"x","token":%q,"verdict":%q,"findings":[{"kind":"exception","severity":"break","message":"boom"}]}}}`, c.token.Load(), verdict)
		}
	})
	c.rig = start(t, func(o *Options) { o.CanaryURLs = []string{"/", "/products"} })
	c.report("t1")
	c.on(1, "t1")
	return c
}

func isStatus(verdict string, code *int) bool {
	n, _ := fmt.Sscan(verdict, code)
	return n == 1
}

func (c *canaryRig) report(token string) {
	c.t.Helper()
	c.token.Store(token)
	got := c.do("POST", "/host-shell", attrs(map[string]any{"hash": token, "source": "deployment", "reporter": "r", "realms": []string{c.realm}}))
	if got.status != 204 {
		c.t.Fatalf("report: %d %s", got.status, got.body)
	}
}

// on has the server be on the token with all its pages.
func (c *canaryRig) on(sequence uint64, token string) {
	c.t.Helper()
	c.beat(c.server.URL, pagesOf(sequence, token, map[string]int{token: 2}))
}

func (c *canaryRig) rollout() (r wire.Rollout) {
	c.t.Helper()
	if err := json.Unmarshal([]byte(c.do("GET", "/rollout", "").body), &r); err != nil {
		c.t.Fatal(err)
	}
	return r
}

func (c *canaryRig) until(phase wire.RolloutPhase) (r wire.Rollout) {
	c.t.Helper()
	eventually(c.t, "the rollout is "+string(phase), func() bool { r = c.rollout(); return r.Phase == phase })
	return r
}

func TestCanaryThatPassesLetsTheReleaseGoOn(t *testing.T) {
	c := startCanary(t, "ok")
	r := c.until(wire.RolloutComplete)
	if !r.CanaryPassed || r.Canary == nil || !r.Canary.Passed || len(r.Canary.Checks) != 2 || r.Canary.Server != c.server.URL {
		t.Errorf("%+v %+v", r, r.Canary)
	}
	if calls := c.server.calls(); calls != 2 {
		t.Errorf("%d checks of two pages", calls)
	}
}

func TestCanaryThatBreaksPausesTheRolloutWithTheEvidence(t *testing.T) {
	c := startCanary(t, "ok")
	c.until(wire.RolloutComplete)
	c.verdict.Store("broken")
	c.report("t2")
	c.on(2, "t2")
	r := c.until(wire.RolloutPaused)
	if r.CanaryPassed || r.Canary == nil || r.Canary.Passed || !strings.Contains(r.Detail, "exception: boom") || len(r.Canary.Checks) != 1 || r.Canary.Checks[0].Findings[0].Message != "boom" {
		t.Fatalf("%+v %+v", r, r.Canary)
	}
	t.Run("resume overrules it", func(t *testing.T) {
		if got := c.do("POST", "/rollout/resume", ""); got.status != 200 {
			t.Fatalf("%d %s", got.status, got.body)
		}
		if r := c.until(wire.RolloutComplete); !strings.Contains(r.Canary.Detail, "resumed by an operator") {
			t.Errorf("%+v", r.Canary)
		}
	})
	t.Run("restart checks again", func(t *testing.T) {
		if got := c.do("POST", "/rollout/restart", ""); got.status != 200 {
			t.Fatalf("%d %s", got.status, got.body)
		}
		c.until(wire.RolloutPaused)
	})
	t.Run("undo goes back", func(t *testing.T) {
		c.verdict.Store("ok")
		c.token.Store("t1")
		if got := c.do("POST", "/rollout/undo", ""); got.status != 200 {
			t.Fatalf("%d %s", got.status, got.body)
		}
		c.on(3, "t1")
		if r := c.until(wire.RolloutComplete); r.Release.Token != "t1" || r.Release.Sequence != 3 {
			t.Errorf("%+v", r)
		}
	})
}

// A verdict outlives the manager that had it.
func TestCanaryVerdictIsKept(t *testing.T) {
	c := startCanary(t, "broken")
	c.until(wire.RolloutPaused)
	calls := c.server.calls()
	l := c.store
	c.stop()
	c.rig = startOn(t, l, func(o *Options) { o.CanaryURLs = []string{"/"} })
	c.on(1, "t1")
	if r := c.until(wire.RolloutPaused); !strings.Contains(r.Detail, "exception: boom") {
		t.Errorf("%+v", r)
	}
	if n := c.server.calls(); n != calls {
		t.Errorf("it was checked %d times more", n-calls)
	}
}

// What an operator, or another manager, said of a release holds, whatever comes
// of a check that began before.
func TestCanaryDoesNotOverruleWhatWasSaidMeanwhile(t *testing.T) {
	c := startCanary(t, "503")
	eventually(t, "the check has begun", func() bool { return c.server.calls() > 0 })
	said := ledger.Canary{Sequence: 1, Passed: true, Detail: "said meanwhile", At: time.Now()}
	if _, err := c.store.PutCanary(t.Context(), said, 0); err != nil {
		t.Fatal(err)
	}
	c.verdict.Store("broken")
	c.until(wire.RolloutComplete)
	c.stop()
	stored, _, err := c.store.Canary(t.Context())
	if err != nil || stored.Detail != said.Detail {
		t.Errorf("%+v, %v", stored, err)
	}
}

// A server that refuses for now is asked again; one that knows no check is no
// reason to hold a release back.
func TestCanaryThatCannotBeChecked(t *testing.T) {
	c := startCanary(t, "503")
	eventually(t, "it was asked twice", func() bool { return c.server.calls() > 1 })
	if r := c.rollout(); r.Phase != wire.RolloutCanary || r.Canary != nil {
		t.Errorf("without a verdict: %+v", r)
	}
	c.verdict.Store("404")
	if r := c.until(wire.RolloutComplete); !strings.Contains(r.Canary.Detail, "cannot check") {
		t.Errorf("%+v", r.Canary)
	}
}
