package prerender

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rewarm/rewarm/internal/pool"
	"github.com/rewarm/rewarm/internal/words"
)

// says reports whether the server's metrics have the line.
func (w *world) says(line string) bool {
	w.t.Helper()
	response, err := http.Get("http://" + w.server.Addr().String() + "/metrics")
	if err != nil {
		w.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return strings.Contains(string(body), "\n"+line+"\n")
}

// A page that has grown too large is replaced, warm first, and the log and the
// metrics say why.
func TestGrownPageIsReplaced(t *testing.T) {
	w := newWorld(t, nil)
	w.untilFresh(shell1)
	w.visit(nil)
	w.mu.Lock()
	for _, p := range w.pages {
		p.memory.Store(1 << 40)
	}
	w.mu.Unlock()
	w.server.weigh(t.Context())
	w.until("the page that rendered is replaced", func() bool { return w.says(`rewarm_prerender_pages_closed_total{reason="memory"} 1`) })
	w.untilFresh(shell1)
	if a := w.visit(nil); a.status != http.StatusCreated {
		t.Fatalf("answer %d %s", a.status, a.body)
	}
	if n := w.starts.Load(); n != 1 {
		t.Errorf("chrome was started %d times", n)
	}
}

// A page that rests is woken before it renders, and is no less ready meanwhile.
func TestFrozenPageIsWokenForItsRender(t *testing.T) {
	w := newWorld(t, nil)
	w.untilFresh(shell1)
	w.server.keeper.tell(func(p *pool.Pool, now time.Time) []pool.Action { return p.Tick(now.Add(time.Minute)) })
	frozen := func() (n int) {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, p := range w.pages {
			if p.frozen.Load() && !p.closed.Load() {
				n++
			}
		}
		return n
	}
	if n := frozen(); n != 2 {
		t.Fatalf("%d pages rest, want both", n)
	}
	if err := w.server.probeOne(t.Context()); err != nil {
		t.Error(err)
	}
	w.set(func() {
		whole := w.render
		w.render = func(ctx context.Context, p *fakePage, visit words.Visit) (words.Capture, error) {
			if p.frozen.Load() {
				return words.Capture{}, errors.New("the page rests")
			}
			return whole(ctx, p, visit)
		}
	})
	for range 3 {
		if a := w.visit(nil); a.status != http.StatusCreated {
			t.Fatalf("answer %d %s", a.status, a.body)
		}
	}
	if n := frozen(); n != 1 {
		t.Fatalf("%d pages rest, want the one that was not needed", n)
	}
}
