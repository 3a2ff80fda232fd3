package page

import (
	"context"
	"fmt"

	"github.com/chromedp/cdproto/runtime"
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
