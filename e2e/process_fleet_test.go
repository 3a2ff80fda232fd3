package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// TestManagerKilledInADeploy: the manager, and the store in it, are killed
// right after a release was taken. Pages are served meanwhile; once it is back
// it knows every release, and the fleet arrives at the newest.
func TestManagerKilledInADeploy(t *testing.T) {
	f := startProcesses(t, 1)
	l, end := callersOf(f.fleet, words.ModeTransition, noManager)
	l.more(callers)
	f.completeOn(f.deploy("r1"))
	newest := f.deploy("r2")
	f.manager.signal(syscall.SIGKILL)
	f.manager.wait()
	for _, path := range routes {
		f.judgePage(path) // the realm server does not need it to answer
	}
	f.startManager()
	f.completeAgain(newest)
	l.more(2 * callers)
	f.visitors()
	end()

	f.judgeHistory("1 r0", "2 r1", "3 r2")
	judgeStore(t, f.fleet)
}

// completeAgain is completeOn while the manager may be away.
func (f *processes) completeAgain(token words.Token) {
	f.t.Helper()
	f.until("the fleet is complete on "+f.nameOf(token), func() bool {
		rollout, ok := f.progress()
		return ok && rollout.Phase == wire.RolloutComplete && rollout.Release.Token == token
	})
}

// noManager forgives what a caller sees of a manager that is away or has just
// started: no connection, or a refusal that says when to come again.
func noManager(answer visitAnswer, err error) bool {
	return answer.Status == 0 && err != nil || answer.Status == http.StatusServiceUnavailable && answer.RetryAfter != ""
}

// visitors come to every route, and come again until one of them was stored.
func (f *fleet) visitors() {
	f.t.Helper()
	f.until("a visitor gets a prerendered page", func() bool {
		for _, path := range routes {
			f.judgePage(path)
		}
		header, _ := f.get("/about")
		return f.t.Failed() || header.Get(wire.HeaderSnapshot) == "hit"
	})
}

// TestRealmServerKilledInADeploy: the origin is gone while pages are being
// moved. No prerender server dies of it, nothing stale is told meanwhile, and
// once it is back the fleet arrives.
func TestRealmServerKilledInADeploy(t *testing.T) {
	f := startProcesses(t, 1)
	pid := f.metricOf(f.servers()[0], "rewarm_prerender_browser_pid")
	// Without an origin pages cannot load their chunks. That is told, never
	// taken for a page; whatever is ready is judged.
	l, end := callersOf(f.fleet, words.ModeTransition, func(answer visitAnswer, err error) bool {
		return err == nil && (answer.Status == http.StatusServiceUnavailable ||
			answer.Status == http.StatusCreated && answer.Data.Attributes.Error != nil)
	})
	l.more(callers)
	newest := f.deploy("r1")
	f.realm.signal(syscall.SIGKILL)
	f.realm.wait()
	server := f.servers()
	if len(server) != 1 || f.status(server[0]+"/livez") != http.StatusOK {
		t.Errorf("servers %v: want one that lives", server)
	}
	f.startRealm()
	f.completeOn(newest)
	l.more(2 * callers)
	end()
	if now := f.metricOf(f.servers()[0], "rewarm_prerender_browser_pid"); now != pid {
		t.Errorf("chrome %v was replaced by %v", pid, now)
	}
}

// TestW21_SIGTERMDrainsEveryRole: what runs is finished, the manager is told,
// the exit code is 0, and no Chrome is left.
func TestW21_SIGTERMDrainsEveryRole(t *testing.T) {
	f := startProcesses(t, 1)
	chrome := int(f.metricOf(f.servers()[0], "rewarm_prerender_browser_pid"))
	// Four callers at all times: some of their renders run when it drains.
	// What comes later is told that nobody takes work.
	l, end := callersOf(f.fleet, words.ModeNavigate, func(answer visitAnswer, err error) bool {
		return answer.Status == http.StatusGone || answer.Status == http.StatusServiceUnavailable && strings.Contains(answer.Body, "No servers")
	})
	l.more(2 * callers)
	f.prerender[0].signal(syscall.SIGTERM)
	if code := f.prerender[0].wait(); code != 0 {
		t.Errorf("prerender-server: exit code %d", code)
	}
	end()
	f.groupGone(chrome)
	if left := f.profiles(0); len(left) > 0 {
		t.Errorf("profiles left: %v", left)
	}
	if servers := f.servers(); len(servers) > 0 {
		t.Errorf("still registered: %v", servers)
	}
	f.realm.signal(syscall.SIGTERM)
	if code := f.realm.wait(); code != 0 {
		t.Errorf("realm-server: exit code %d", code)
	}
	f.manager.signal(syscall.SIGTERM)
	if code := f.manager.wait(); code != 0 {
		t.Errorf("prerender-manager: exit code %d", code)
	}
}

// TestPrerenderServerKilledLeavesNothing: SIGKILL gives nobody a chance to tidy
// up. Chrome is gone soon all the same, and the next start removes its files.
func TestPrerenderServerKilledLeavesNothing(t *testing.T) {
	f := startProcesses(t, 1)
	chrome := int(f.metricOf(f.servers()[0], "rewarm_prerender_browser_pid"))
	before := f.profiles(0)
	if len(before) != 1 {
		t.Fatalf("profiles of a server that runs: %v", before)
	}
	f.prerender[0].signal(syscall.SIGKILL)
	f.prerender[0].wait()
	gone, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	f.untilDone(gone, fmt.Sprintf("chrome %d is gone", chrome), func() bool { return orphansGone(chrome) })
	again := f.startPrerender(0)
	f.until("the next server is the only one, and ready", func() bool {
		servers := f.servers()
		return len(servers) == 1 && f.completeNow() && f.status(servers[0]+"/readyz") == http.StatusOK
	})
	after := f.profiles(0)
	if len(after) != 1 || after[0] == before[0] {
		t.Errorf("profiles %v before, %v after the next start", before, after)
	}
	again.signal(syscall.SIGTERM)
	if code := again.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// orphansGone is whether nothing of a group is left whose parent was killed. Its
// dead are this process's to reap if an earlier test ran a Chrome in it, for
// whoever does adopts the orphans below it.
func orphansGone(group int) bool {
	for {
		pid, err := syscall.Wait4(-group, nil, syscall.WNOHANG, nil)
		if pid <= 0 || err != nil {
			return errors.Is(syscall.Kill(-group, 0), syscall.ESRCH)
		}
	}
}

// untilDone polls a condition until ctx ends.
func (f *fleet) untilDone(ctx context.Context, what string, condition func() bool) {
	f.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-ctx.Done():
			f.t.Fatalf("not in time: %s", what)
		case <-tick.C:
		}
	}
}

// TestW19_ThreeServersMoveInWaves: ten deploys under load with three prerender
// servers. Every answer is judged by its text, and never do more than a quarter
// of the servers, here one, move at a time.
func TestW19_ThreeServersMoveInWaves(t *testing.T) {
	const servers, deploys = 3, 10
	f := startProcesses(t, servers)
	l, end := callersOf(f.fleet, words.ModeTransition, forgiveNothing)
	watching, stop := context.WithCancel(t.Context())
	watched := make(chan int)
	go func() { watched <- f.watchWaves(watching, max(1, servers/4)) }()
	for n := range deploys {
		l.more(callers)
		f.completeOn(f.deploy(fmt.Sprintf("r%d", n+1)))
	}
	l.more(callers)
	f.visitors()
	stop()
	if moving := <-watched; moving == 0 {
		t.Error("no server was ever seen moving: the test proves nothing")
	}
	end()
	for _, url := range f.servers() {
		if breaches := f.metricOf(url, `rewarm_prerender_invariant_violations_total{invariant="never_stale"}`); breaches != 0 {
			t.Errorf("%s: %v breaches of never_stale were caught", url, breaches)
		}
	}
	judgeStore(t, f.fleet)
}

// watchWaves looks at the rollout until ctx ends, and returns how often it saw
// a server move. A server that may move its pages and has others than those of
// the release is moving.
func (f *processes) watchWaves(ctx context.Context, most int) (seen int) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		rollout, _ := f.progress()
		var moving []string
		for _, s := range rollout.Servers {
			old := len(s.Pages) - min(1, s.Pages[rollout.Release.Token])
			if s.Permitted && old > 0 {
				moving = append(moving, s.URL)
			}
		}
		if len(moving) > most {
			f.t.Errorf("release %d: %s move at once, %d at most may", rollout.Release.Sequence, strings.Join(moving, " "), most)
			return seen
		}
		seen += len(moving)
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	return seen
}
