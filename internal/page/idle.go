package page

import (
	"context"
	"fmt"

	"github.com/chromedp/cdproto/emulation"
	cdpage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"

	"github.com/rewarm/rewarm/internal/chrome"
)

// Memory is what the page's JavaScript heap, its DOM and its buffers take, in
// bytes: what an application can leak. It costs the page's thread a tenth of a
// millisecond and collects no garbage, so what was let go of may still count.
// Decoded pictures and code are shared or dropped under pressure, and do not.
func (p *Page) Memory(ctx context.Context) (uint64, error) {
	var r struct {
		Used     float64 `json:"usedSize"`
		Embedder float64 `json:"embedderHeapUsedSize"`
		Backing  float64 `json:"backingStorageSize"`
	}
	if err := p.session.Call(ctx, runtime.CommandGetHeapUsage, nil, &r); err != nil {
		return 0, fmt.Errorf("measuring the page: %w", err)
	}
	return uint64(r.Used + r.Embedder + r.Backing), nil
}

// Freeze lets the page rest until Thaw: timers, animations and frames stop, and
// it costs no processor. It does not wait; what is asked of the page afterwards
// finds it frozen, and is answered all the same. Chrome freezes only a page
// that nobody sees, so the focus that it is made to believe in goes first.
func (p *Page) Freeze() {
	_ = p.session.Post(emulation.CommandSetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{})
	_ = p.session.Post(cdpage.CommandSetWebLifecycleState, cdpage.SetWebLifecycleStateParams{State: cdpage.SetWebLifecycleStateStateFrozen})
}

// Thaw wakes a frozen page; it was never told that it slept.
func (p *Page) Thaw(ctx context.Context) error {
	err := p.session.CallAll(ctx,
		chrome.Command{Method: emulation.CommandSetFocusEmulationEnabled, Params: emulation.SetFocusEmulationEnabledParams{Enabled: true}},
		chrome.Command{Method: cdpage.CommandSetWebLifecycleState, Params: cdpage.SetWebLifecycleStateParams{State: cdpage.SetWebLifecycleStateStateActive}},
	)
	if err != nil {
		return fmt.Errorf("thawing the page: %w", err)
	}
	return nil
}
