package client

import (
	"context"
	"fmt"
	"net/http"

	"github.com/rewarm/rewarm/internal/wire"
)

// Screenshot asks for a picture of a page. A refusal is a [*StatusError].
func (m *Manager) Screenshot(ctx context.Context, visit wire.VisitRequest, call Call) (wire.ScreenshotResult, error) {
	body, _, err := m.call(ctx, http.MethodPost, "/prerender-screenshot", resource("prerender-screenshot", visit), call.header())
	if err != nil {
		return wire.ScreenshotResult{}, err
	}
	var doc wire.Document[wire.ScreenshotResult]
	if err := wire.Decode(body, &doc); err != nil {
		return wire.ScreenshotResult{}, fmt.Errorf("screenshot of %s: answer: %w", visit.URL, err)
	}
	return doc.Data.Attributes, nil
}
