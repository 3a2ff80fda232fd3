package client

import (
	"context"
	"fmt"
	"net/http"

	"github.com/rewarm/rewarm/internal/wire"
)

// TakeoverCheck asks for a takeover check. A refusal is a [*StatusError].
func (m *Manager) TakeoverCheck(ctx context.Context, check wire.TakeoverRequest, call Call) (wire.TakeoverResult, error) {
	body, _, err := m.call(ctx, http.MethodPost, "/takeover-check", resource("takeover-check", check), call.header())
	if err != nil {
		return wire.TakeoverResult{}, err
	}
	var doc wire.Document[wire.TakeoverResult]
	if err := wire.Decode(body, &doc); err != nil {
		return wire.TakeoverResult{}, fmt.Errorf("takeover check of %s: answer: %w", check.URL, err)
	}
	return doc.Data.Attributes, nil
}
