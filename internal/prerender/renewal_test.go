package prerender

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/rewarm/rewarm/internal/words"
)

// live are the pages that are not closed, by their browser's process id.
func (w *world) live() map[int]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	live := map[int]int{}
	for _, p := range w.pages {
		if !p.closed.Load() {
			live[p.browser.pid]++
		}
	}
	return live
}

// A browser that has opened too many pages is replaced: the next one runs
// beside it until its last render is done, and no render fails.
func TestWornBrowserIsReplacedWithoutAFailedRender(t *testing.T) {
	w := newWorld(t, func(o *Options) {
		o.PingEvery = 20 * time.Millisecond
		o.Wear.Pages = 4
	})
	w.untilFresh(shell1)
	first := w.browser
	let := make(chan struct{})
	began := make(chan struct{}, 1)
	w.set(func() {
		whole := w.render
		w.render = func(ctx context.Context, p *fakePage, visit words.Visit) (words.Capture, error) {
			if visit.Priority == 7 {
				began <- struct{}{}
				<-let
			}
			return whole(ctx, p, visit)
		}
	})
	var slow sync.WaitGroup
	slow.Go(func() {
		if a, err := w.post(t.Context(), `{"data":{"attributes":{"url":"`+w.realm.URL+`/slow","priority":7}}}`, nil); err != nil || a.status != http.StatusCreated {
			t.Errorf("the render that outlasted the replacement: %d %s %v", a.status, a.body, err)
		}
	})
	<-began
	for n := 0; w.starts.Load() == 1; n++ { // a page that grows is replaced, and so more are opened
		w.mu.Lock()
		for _, p := range w.pages {
			p.memory.Store(1 << 40)
		}
		w.mu.Unlock()
		if a := w.visit(nil); a.status != http.StatusCreated {
			t.Fatalf("render %d: %d %s", n, a.status, a.body)
		}
		w.server.weigh(t.Context())
	}
	w.until("new pages are in the second browser", func() bool { return w.live()[2] > 0 && w.live()[1] == 1 })
	if first.hasEnded() {
		t.Error("the first browser ended under a render")
	}
	close(let)
	slow.Wait()
	w.until("the first browser has ended", func() bool { return w.live()[1] == 0 && first.hasEnded() })
	w.until("the metrics say why", func() bool { return w.says(`rewarm_prerender_browsers_replaced_total{reason="pages"} 1`) })
}

func (b *fakeBrowser) hasEnded() bool {
	select {
	case <-b.done:
		return true
	default:
		return false
	}
}

// The next browser that does not start takes nothing from the one that runs.
func TestWornBrowserGoesOnWhenTheNextDoesNotStart(t *testing.T) {
	w := newWorld(t, func(o *Options) {
		o.PingEvery = 10 * time.Millisecond
		o.Wear.Age = 200 * time.Millisecond
	})
	w.until("chrome is there", func() bool { return w.server.slot.pid() > 0 })
	w.set(func() { w.launchError = errors.New("no memory") })
	w.until("a start failed", func() bool { return w.says(`rewarm_prerender_browser_starts_total{outcome="failed"} 1`) })
	if a := w.visit(nil); a.status != http.StatusCreated {
		t.Errorf("%d %s", a.status, a.body)
	}
}
