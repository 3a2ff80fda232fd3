package page

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chromedp/cdproto/runtime"
)

var errNoSign = errors.New("the page gave no sign of life")

// sign is the sign of life that a page has to give in time. A transition gives
// it by starting. A document that is to be loaded says nothing of the thread
// that it is to be loaded on, so that one is asked. The nil sign is one that
// nobody waits for.
type sign struct {
	ctx    context.Context // ends with errNoSign when none came in time
	end    context.CancelCauseFunc
	late   *time.Timer
	given  atomic.Bool
	asked  bool // only who renders uses it
	asking sync.WaitGroup
}

// watchSign waits for a sign from now on, and for so long; 0 waits for none. The
// context ends when none came.
func (p *Page) watchSign(ctx context.Context, within time.Duration) (context.Context, *sign) {
	if within == 0 {
		return ctx, nil
	}
	g := &sign{}
	g.ctx, g.end = context.WithCancelCause(ctx)
	g.late = time.AfterFunc(within, func() {
		if !g.given.Load() {
			g.end(errNoSign)
		}
	})
	p.state.setSign(g)
	return g.ctx, g
}

// give notes the sign; anybody may call it.
func (g *sign) give() {
	if g != nil {
		g.given.Store(true)
	}
}

// ask asks the page, once. What is asked of it next need not wait for the answer.
func (g *sign) ask(p *Page) {
	if g == nil || g.asked || g.given.Load() {
		return
	}
	g.asked = true
	sent := p.session.Send(runtime.CommandEvaluate, runtime.EvaluateParams{Expression: "1"})
	g.asking.Go(func() {
		if err := sent.Wait(g.ctx, nil); err == nil || isRemote(err) {
			g.give()
		}
	})
}

// stop ends the waiting and says whether the sign came.
func (g *sign) stop(p *Page) bool {
	if g == nil {
		return true
	}
	p.state.setSign(nil)
	g.late.Stop()
	g.end(context.Canceled)
	g.asking.Wait()
	return g.given.Load()
}
