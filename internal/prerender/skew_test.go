package prerender

import (
	"context"
	"net/http"
	"testing"

	"github.com/rewarm/rewarm/internal/words"
)

// skews makes the first n renders find a file gone; pages are those that
// rendered.
func (w *world) skews(n int) (pages *[]*fakePage) {
	pages = &[]*fakePage{}
	w.set(func() {
		whole := w.render
		w.render = func(ctx context.Context, p *fakePage, visit words.Visit) (words.Capture, error) {
			c, err := whole(ctx, p, visit)
			w.set(func() { *pages = append(*pages, p) })
			if len(*pages) <= n {
				c.Status, c.Error = words.StatusError, &words.PageError{Kind: words.PageErrorSkew, Message: "/chunk.js: 404"}
			}
			return c, err
		}
	})
	return pages
}

// told is the highest count of skews that the manager was told.
func (w *world) told() (most uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, beat := range w.beats {
		most = max(most, beat.HostShell.Skews)
	}
	return most
}

func TestASkewIsRenderedOnceMoreOnAFreshPageAndTold(t *testing.T) {
	for _, c := range []struct {
		name  string
		skews int
		want  words.Status
	}{{"gone once", 1, words.StatusReady}, {"gone again", 2, words.StatusError}} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil)
			w.untilFresh(shell1)
			pages := w.skews(c.skews)
			a := w.visit(nil)
			if got := a.doc.Data.Attributes; a.status != http.StatusCreated || got.Status != c.want || got.Error != nil && got.Error.Kind != words.PageErrorSkew {
				t.Errorf("answer %d %s", a.status, a.body)
			}
			if len(*pages) != 2 || (*pages)[0] == (*pages)[1] {
				t.Errorf("rendered on %d pages; want two of them", len(*pages))
			}
			w.until("the manager was told", func() bool { return w.told() == 1 })
		})
	}
}

// A deploy that is known explains what is gone: there is nothing to tell.
func TestASkewOnASupersededReleaseIsNotTold(t *testing.T) {
	w := newWorld(t, nil)
	w.untilFresh(shell1)
	pages := w.skews(1)
	w.set(func() { w.shell = shell2 })
	w.orders(2, shell2)
	w.until("the release is known", func() bool { return w.server.keeper.status().Release == 2 })
	if a := w.visit(nil); a.status != http.StatusCreated {
		t.Errorf("answer %d %s", a.status, a.body)
	}
	w.untilFresh(shell2)
	if len(*pages) > 0 && (*pages)[0].token == words.TokenOf([]byte(shell1)) && w.server.skews.Load() != 0 {
		t.Error("a skew on a superseded release was counted")
	}
}
