package prerender

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/rewarm/rewarm/internal/pool"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// A page that does not close holds up nobody: neither renders nor a recycle.
func TestF05_StuckCloseIsNobodysWait(t *testing.T) {
	w := newWorld(t, nil)
	release := make(chan struct{})
	t.Cleanup(func() { close(release) }) // before the world is taken down
	w.set(func() { w.onClose = func() { <-release } })
	w.untilFresh(shell1)
	w.set(func() { w.shell = shell2 })
	w.orders(2, shell2)
	w.untilFresh(shell2)
	if a := w.visit(nil); a.status != http.StatusCreated {
		t.Fatalf("answer %d %s", a.status, a.body)
	}
}

// A page that dies between its grant and its render costs its caller nothing.
func TestF07_DeadPagesAreNotHandedOut(t *testing.T) {
	w := newWorld(t, nil)
	w.untilFresh(shell1)
	for range 5 {
		w.mu.Lock()
		browser := w.browser
		w.mu.Unlock()
		var asking sync.WaitGroup
		for range 4 {
			asking.Go(func() {
				if a := w.visit(nil); a.status != http.StatusCreated || a.doc.Data.Attributes.Status != words.StatusReady {
					t.Errorf("answer %d %s", a.status, a.body)
				}
			})
		}
		browser.die()
		asking.Wait()
		w.untilFresh(shell1)
	}
}

// More callers than the server can serve are refused at once, with a time to
// come back; nobody waits beyond the budget.
func TestF14_FullQueueRefusesAtOnce(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Pool = pool.Options{Size: 2, Queue: 3} })
	w.untilFresh(shell1)
	release := make(chan struct{})
	w.set(func() {
		whole := w.render
		w.render = func(ctx context.Context, p *fakePage, visit words.Visit) (words.Capture, error) {
			<-release
			return whole(ctx, p, visit)
		}
	})
	answers := make(chan answer, 30)
	for range 30 {
		go func() {
			a, err := w.post(t.Context(), fmt.Sprintf(`{"data":{"attributes":{"url":"%s/x"}}}`, w.realm.URL), nil)
			if err != nil {
				t.Error(err)
			}
			answers <- a
		}()
	}
	for range 25 { // two render, three wait
		if a := <-answers; a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
			t.Fatalf("answer %d %v", a.status, a.header)
		}
	}
	close(release)
	for range 5 {
		if a := <-answers; a.status != http.StatusCreated {
			t.Fatalf("answer %d %s", a.status, a.body)
		}
	}
}

// A Chrome that does not start the first time is started again, and readiness
// is a page that answered.
func TestF16_FailedStartIsTriedAgain(t *testing.T) {
	tries := 0
	w := newWorld(t, func(o *Options) {
		launch := o.Launch
		o.Launch = func(ctx context.Context) (Browser, error) {
			if tries++; tries < 3 {
				return nil, errors.New("no space left on device")
			}
			return launch(ctx)
		}
	})
	root := func() int {
		response, err := http.Get("http://" + w.server.Addr().String() + "/")
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		return response.StatusCode
	}
	if got := root(); got != http.StatusServiceUnavailable {
		t.Errorf("GET / before a page has answered: %d", got)
	}
	w.untilFresh(shell1)
	w.until("the server is ready", func() bool { return root() == http.StatusOK })
}

// What the pool, the heartbeat and the metrics count is what there is.
func TestW09_StalenessIsVisible(t *testing.T) {
	w := newWorld(t, nil)
	w.untilFresh(shell1)
	w.orders(2, shell2)
	w.until("a heartbeat names expected and loaded", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		last := w.beats[len(w.beats)-1].HostShell
		return last.Release == 2 && last.Desired == token(shell2) && last.Pages[token(shell1)] == 2
	})
	if got := stalePages(w.server.keeper.status()); got != 2 {
		t.Errorf("%v stale pages are counted, want 2", got)
	}
}

// A caller with a fleet secret is served, one without is not.
func TestW10_RendersNeedTheSecret(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Guard.Secrets = []string{"s3cret"} })
	w.untilFresh(shell1)
	for authorization, want := range map[string]int{"": 401, "Bearer wrong": 401, "s3cret": 401, "Bearer s3cret": 201} {
		if a := w.visit(map[string]string{"Authorization": authorization, wire.HeaderBudget: "20000"}); a.status != want {
			t.Errorf("Authorization %q: %d, want %d", authorization, a.status, want)
		}
	}
}
