package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rewarm/rewarm/internal/app"
	"github.com/rewarm/rewarm/internal/chrome"
	"github.com/rewarm/rewarm/internal/words"
)

// callersOf runs callers that judge every answer by its text until the returned
// function is called; that one waits for them. An answer that is not ready
// fails the test unless forgive says that this was to be expected.
func callersOf(f *fleet, mode words.Mode, forgive func(visitAnswer, error) bool) (l *load, end func()) {
	l = &load{f: f, mode: mode, older: map[int]int{}}
	ctx, stop := context.WithCancel(f.t.Context())
	var running sync.WaitGroup
	for caller := range callers {
		running.Go(func() {
			for n := caller; ctx.Err() == nil; n++ {
				path, deploys := routes[n%len(routes)], f.deploys()
				answer, err := f.visit(ctx, path, mode)
				switch {
				case ctx.Err() != nil:
				case err == nil && answer.Status == http.StatusCreated && answer.Data.Attributes.Status == words.StatusReady:
					l.judge(path, answer, deploys)
					l.answers.Add(1)
				case !forgive(answer, err):
					f.t.Errorf("%s failed: %d %v %.600s", path, answer.Status, err, answer.Body)
					return
				}
			}
		})
	}
	return l, func() { stop(); running.Wait() }
}

func forgiveNothing(visitAnswer, error) bool { return false }

// more waits until the callers have had n more answers than now.
func (l *load) more(n int64) {
	l.f.t.Helper()
	before := l.answers.Load()
	l.f.until(fmt.Sprintf("%d more answers", n), func() bool { return l.f.t.Failed() || l.answers.Load() >= before+n })
}

// wholeAgain waits until another Chrome than the one given has all its pages.
func (f *fleet) wholeAgain(pages, not int) {
	f.t.Helper()
	f.until("the fleet is whole again", func() bool {
		pid := f.browserPID()
		return f.t.Failed() || pid > 0 && pid != not && int(f.metric("rewarm_prerender_pages")) >= pages && f.completeNow()
	})
}

// groupGone waits until no process of the group is left.
func (f *fleet) groupGone(group int) {
	f.t.Helper()
	f.until(fmt.Sprintf("nothing is left of chrome %d", group), func() bool {
		return errors.Is(syscall.Kill(-group, 0), syscall.ESRCH)
	})
}

// TestF10_ChromeKilledUnderLoadLosesNoRender: whatever signal ends or freezes
// Chrome while callers render, each of them gets a right answer in the end.
// There are more pages than a render is ever tried on, so all of them dying at
// once must not use up its tries.
func TestF10_ChromeKilledUnderLoadLosesNoRender(t *testing.T) {
	const pages = 6
	f := startFleet(t, func(o *app.UpOptions) {
		o.Pages = pages
		o.Prerender.PingTimeout = 4 * time.Second // a busy machine must not look frozen
	})
	l, end := callersOf(f, words.ModeTransition, forgiveNothing)
	for _, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGSTOP, syscall.SIGKILL} {
		f.until("all pages are warm", func() bool { return int(f.metric("rewarm_prerender_pages")) >= pages })
		l.more(2 * callers)
		pid := f.browserPID()
		if err := syscall.Kill(pid, signal); err != nil {
			t.Fatalf("%v to chrome %d: %v", signal, pid, err)
		}
		f.wholeAgain(pages, pid)
		l.more(2 * callers)
		f.groupGone(pid)
	}
	end()
}

// TestF10_ChromeKilledInADeployStillConverges: Chrome dies while its pages are
// being replaced; the new one's pages are of the new release.
func TestF10_ChromeKilledInADeployStillConverges(t *testing.T) {
	f := startFleet(t, nil)
	l, end := callersOf(f, words.ModeNavigate, forgiveNothing)
	for n := range 3 {
		pid := f.browserPID()
		token := f.deploy(fmt.Sprintf("r%d", n+1))
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		f.completeOn(token)
		f.wholeAgain(3, pid)
		l.more(callers)
	}
	end()
}

// TestWornChromeIsReplacedUnderLoad: after so many pages another Chrome takes
// over, in the middle of deploys; the callers hear nothing of it.
func TestWornChromeIsReplacedUnderLoad(t *testing.T) {
	f := startFleet(t, func(o *app.UpOptions) { o.Prerender.Wear.Pages = 8 })
	l, end := callersOf(f, words.ModeTransition, forgiveNothing)
	for n := range 3 {
		pid := f.browserPID()
		f.completeOn(f.deploy(fmt.Sprintf("r%d", 2*n+1)))
		token := f.deploy(fmt.Sprintf("r%d", 2*n+2))
		f.completeOn(token)
		f.wholeAgain(3, pid)
		f.groupGone(pid)
		l.more(callers)
	}
	end()
	if replaced := f.metric(`rewarm_prerender_browsers_replaced_total{reason="pages"}`); replaced < 3 {
		t.Errorf("%v browsers were replaced", replaced)
	}
}

// TestF16_AFirstStartThatFailsIsTriedAgain: a Chrome that does not come up at
// first leaves a server that comes up by itself.
func TestF16_AFirstStartThatFailsIsTriedAgain(t *testing.T) {
	dir := t.TempDir()
	found, err := chrome.Find("")
	if err != nil {
		t.Fatal(err)
	}
	wrapper := filepath.Join(dir, "chrome")
	script := fmt.Sprintf("#!/bin/sh\nif mkdir %s/tried 2>/dev/null; then echo no luck >&2; exit 1; fi\nexec %s \"$@\"\n", dir, found)
	if err := os.WriteFile(wrapper, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	f := startFleet(t, func(o *app.UpOptions) { o.Chrome = wrapper })
	if failed := f.metric(`rewarm_prerender_browser_starts_total{outcome="failed"}`); failed < 1 {
		t.Errorf("%v failed starts: the test proves nothing", failed)
	}
	f.until("the server is ready", func() bool { return f.status(f.up.PrerenderURL()+"/readyz") == http.StatusOK })
	answer, err := f.visit(t.Context(), "/about", words.ModeDefault)
	if err != nil || answer.Status != http.StatusCreated || answer.Data.Attributes.Status != words.StatusReady {
		t.Errorf("after the second start: %d %v %.300s", answer.Status, err, answer.Body)
	}
}

// TestF14_ThirtyCallersAreAnsweredWithinTheirBudget: more work than two pages
// can do in the callers' time. Each caller hears within it: a render, or when
// to come again.
func TestF14_ThirtyCallersAreAnsweredWithinTheirBudget(t *testing.T) {
	const (
		crowd  = 30
		budget = 4 * time.Second
		// slack is for this machine, not for the fleet: thirty readers, the
		// fleet and Chrome share its processors.
		slack = 4 * time.Second
	)
	f, _ := startHostile(t, func(o *app.UpOptions) { o.Pages = 2 })
	var (
		mu       sync.Mutex
		statuses []int
		calling  sync.WaitGroup
	)
	for n := range crowd {
		calling.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), budget+slack)
			defer cancel()
			answer, header, err := f.ask(ctx, f.up.ManagerURL(), fmt.Sprintf("/slow/%d", n), words.ModeDefault, budget)
			seconds, _ := strconv.Atoi(header.Get("Retry-After"))
			switch {
			case err != nil:
				t.Errorf("caller %d: %v", n, err)
			case answer.Status == http.StatusServiceUnavailable && seconds < 1:
				t.Errorf("caller %d: 503 without Retry-After: %s", n, answer.Body)
			case answer.Status != http.StatusServiceUnavailable && answer.Status != http.StatusCreated:
				t.Errorf("caller %d: %d %.300s", n, answer.Status, answer.Body)
			}
			mu.Lock()
			defer mu.Unlock()
			statuses = append(statuses, answer.Status)
		})
	}
	calling.Wait()
	if !slices.Contains(statuses, http.StatusCreated) || !slices.Contains(statuses, http.StatusServiceUnavailable) {
		t.Errorf("statuses %v: want renders and refusals, else the crowd was none", statuses)
	}
	f.good("after the crowd")
}
