package e2e

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rewarm/rewarm/internal/app"
	"github.com/rewarm/rewarm/internal/cli"
	"github.com/rewarm/rewarm/internal/realm"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// replicated is a gated fleet with a second realm server on the same host
// directory, as a load balancer would have it.
type replicated struct {
	*fleet
	addr, replicaData string
	stopReplica       func()
}

func startReplicated(t *testing.T) *replicated {
	t.Helper()
	r := &replicated{addr: freeAddr(t), replicaData: t.TempDir()}
	r.fleet = startFleet(t, func(o *app.UpOptions) { o.CanaryURLs, o.Promotion = []string{"/", "/products"}, realm.PromoteGated })
	r.startReplica()
	r.until("both realm servers are heard", func() bool {
		releases, err := r.asks().Releases(t.Context())
		return err == nil && len(releases.Reporters) == 2 && releases.Reporters[0].Promotion == wire.PromotionGated && releases.Reporters[1].Promotion == wire.PromotionGated
	})
	return r
}

func (r *replicated) startReplica() {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- app.RunRealm(ctx, app.Fleet{NATS: []string{r.nats}, Replicas: 1, DataDir: r.replicaData, Log: slog.New(slog.NewTextHandler(r.log, nil)).With("replica", 2)}, app.RealmOptions{
			Addr: r.addr, Host: r.host, RealmURL: r.up.RealmURL(), ManagerURL: r.up.ManagerURL(), Promotion: realm.PromoteGated,
		})
	}()
	r.stopReplica = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			r.t.Errorf("the replica ended with: %v", err)
		}
	})
	r.t.Cleanup(r.stopReplica)
	r.until("the replica answers", func() bool {
		response, err := r.http.Get(r.urls()[1] + "/livez")
		if err == nil {
			_ = response.Body.Close()
		}
		return err == nil
	})
}

// urls are where the realm servers answer.
func (r *replicated) urls() []string { return []string{r.up.RealmURL(), "http://" + r.addr} }

// hooks has both realm servers read the host, and returns the candidate.
func (r *replicated) hooks(release string) (candidate words.Token) {
	r.t.Helper()
	for _, r.origin = range r.urls() {
		answer := r.postDeployment()
		if !answer.Accepted || answer.Candidate == "" {
			r.t.Fatalf("%s at %s: %+v", release, r.origin, answer)
		}
		candidate = answer.Candidate
	}
	r.origin = ""
	r.note(release, candidate)
	return candidate
}

// serve is the tokens that visitors of the realm servers get.
func (r *replicated) served() (tokens []words.Token) {
	r.t.Helper()
	for _, r.origin = range r.urls() {
		header, _ := r.get("/products")
		tokens = append(tokens, words.Token(header.Get(wire.HeaderDocumentShell)))
	}
	r.origin = ""
	return tokens
}

func (r *replicated) bothServe(token words.Token) {
	r.t.Helper()
	r.until("both realm servers serve "+r.nameOf(token), func() bool { return slices.Equal(r.served(), []words.Token{token, token}) })
}

func (r *replicated) order(action string) {
	r.t.Helper()
	if _, err := r.asks().RolloutAction(r.t.Context(), action, ""); err != nil {
		r.t.Fatal(err)
	}
}

// pipeline runs steps of the pipeline on the fleet.
func (r *replicated) pipeline(steps string) (code int, said string) {
	r.t.Helper()
	path, err := binary()
	if err != nil {
		r.t.Fatal(err)
	}
	return runPipeline(r.t.Context(), steps, []string{"REALM_URLS=" + strings.Join(r.urls(), " "), "REWARM_MANAGER_URL=" + r.up.ManagerURL(), "REWARM=" + path, "STABLE_FOR=1"})
}

// untilRefused waits until the candidate is refused, and returns why.
func (r *replicated) untilRefused(token words.Token) (why *wire.CandidateReport) {
	r.t.Helper()
	r.until(r.nameOf(token)+" is refused", func() bool {
		why = r.rollout().Candidate
		return why != nil && why.Token == token && why.Phase == wire.CandidateRefused
	})
	return why
}

// visitorsOf come to both realm servers until stop, which returns the tokens
// that they got. What they get was current when they got it, or before.
func (r *replicated) visitorsOf() (stop func() map[words.Token]bool) {
	ctx, cancel := context.WithCancel(context.Background())
	var visitors sync.WaitGroup
	var mu sync.Mutex
	got := map[words.Token]bool{}
	for _, url := range r.urls() {
		visitors.Go(func() {
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				response, err := r.http.Get(url + "/about")
				if err != nil {
					continue // the replica restarts
				}
				_ = response.Body.Close()
				token := words.Token(response.Header.Get(wire.HeaderDocumentShell))
				mu.Lock()
				known := got[token]
				got[token] = true
				mu.Unlock()
				if known || response.StatusCode != http.StatusOK {
					continue
				}
				releases, err := r.asks().Releases(ctx)
				if err == nil && !slices.ContainsFunc(releases.History, func(w words.Release) bool { return w.Token == token }) {
					r.t.Errorf("a visitor of %s got %s, which was never promoted", url, token)
				}
			}
		})
	}
	return func() map[words.Token]bool {
		cancel()
		visitors.Wait()
		return got
	}
}

// TestGatedPromotion: a release is rendered and its takeover is checked before
// any visitor gets it, and two realm servers switch together; one that breaks
// never reaches a visitor, though a realm server restarts in the middle; undo
// goes back without the files of the release before.
func TestGatedPromotion(t *testing.T) {
	r := startReplicated(t)
	first := r.token()
	stop := r.visitorsOf()

	// One realm server alone moves nothing.
	r.write("r1")
	answer := r.postDeployment()
	if !answer.Accepted || answer.CurrentChecksum != first || answer.Candidate == "" {
		t.Fatalf("%+v", answer)
	}
	r.until("the other realm server is waited for", func() bool {
		c := r.rollout().Candidate
		return c != nil && c.Phase == wire.CandidateWaiting && len(c.Missing) == 1 && strings.HasSuffix(c.Missing[0], r.addr[strings.Index(r.addr, ":"):])
	})
	good := r.hooks("r1")
	r.bothServe(good)
	r.completeOn(good)
	if seen := stop(); !seen[first] || !seen[good] {
		t.Errorf("visitors got %v: the test proves nothing", seen)
	}

	stop = r.visitorsOf()
	r.write("r2")
	r.breakTakeover()
	bad := r.hooks("r2")
	if why := r.untilRefused(bad); !strings.Contains(why.Detail, "taken over badly") || why.Canary == nil || len(why.Canary.Checks) == 0 {
		t.Errorf("%+v", why)
	} else if seen := why.Canary.Checks[0]; seen.Snapshot != "hit" || seen.Token != bad {
		t.Errorf("it was not seen as visitors would have: %+v", seen)
	}
	for _, command := range []string{
		"rollout status --wait --release " + string(bad) + " --manager-url " + r.up.ManagerURL(),
		"check " + r.up.RealmURL() + "/about --release " + string(bad) + " --via " + r.up.ManagerURL(),
	} {
		var said bytes.Buffer
		if code := cli.Main(t.Context(), strings.Fields(command), cli.Streams{Out: &said, Err: &said}); code != 1 || !strings.Contains(said.String(), "taken over badly") {
			t.Errorf("%s: exit code %d:\n%s", command, code, said.String())
		}
	}
	if code, said := r.pipeline("realm recycle"); code != 1 || !strings.Contains(said, "restart: from the canary") || !strings.Contains(said, "taken over badly") {
		t.Errorf("pipeline: exit code %d:\n%s", code, said)
	}
	r.stopReplica()
	r.startReplica()
	if served := r.served(); !slices.Equal(served, []words.Token{good, good}) {
		t.Errorf("after the restart visitors get %v", served)
	}
	r.until("the replica has heard the manager", func() bool {
		c := r.rollout().Candidate
		return c != nil && len(c.Have) == 2
	})
	r.untilRefused(bad)
	if seen := stop(); len(seen) != 1 || !seen[good] {
		t.Errorf("visitors got %v of a release that was refused, want %s alone", seen, good)
	}

	// A newer one replaces it; undo goes back, and its files change nothing.
	stop = r.visitorsOf()
	r.write("r3")
	newest := r.hooks("r3")
	if code, said := r.pipeline("realm recycle"); code != 0 || !slices.Equal(r.served(), []words.Token{newest, newest}) {
		t.Errorf("pipeline: exit code %d, served %v:\n%s", code, r.served(), said)
	}
	r.order("undo")
	r.bothServe(good)
	if why := r.untilRefused(newest); !why.Dropped {
		t.Errorf("%+v", why)
	}
	for _, r.origin = range r.urls() {
		if answer := r.postDeployment(); answer.CurrentChecksum != good {
			t.Errorf("the hook brought %+v", answer)
		}
	}
	r.origin = ""
	r.completeOn(good)
	if served := r.served(); !slices.Equal(served, []words.Token{good, good}) {
		t.Errorf("after undo visitors get %v", served)
	}
	if seen := stop(); seen[bad] {
		t.Error("a visitor got the release that was refused")
	}
	if breaches := r.metric(`rewarm_prerender_invariant_violations_total{invariant="never_stale"}`); breaches > 0 {
		t.Errorf("%v breaches of never_stale", breaches)
	}
	judgeStore(t, r.fleet)
}
