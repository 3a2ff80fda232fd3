package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// ModuleAnswer is a module's answer with the token of its document.
type ModuleAnswer struct {
	Result wire.ModuleResult
	Token  words.Token
}

// Module asks for the module of a URL. A refusal is a [*StatusError].
func (m *Manager) Module(ctx context.Context, visit wire.VisitRequest, call Call) (ModuleAnswer, error) {
	body, answer, err := m.call(ctx, http.MethodPost, "/prerender-module", resource("prerender-module", visit), call.header())
	if err != nil {
		return ModuleAnswer{}, err
	}
	var doc wire.Document[wire.ModuleResult]
	if err := wire.Decode(body, &doc); err != nil {
		return ModuleAnswer{}, fmt.Errorf("module %s: answer: %w", visit.URL, err)
	}
	result := ModuleAnswer{Result: doc.Data.Attributes}
	result.Token, _ = words.ParseToken(answer.Get(wire.HeaderShellHash))
	return result, nil
}

// Index queues a realm, or some of its pages, to be indexed again.
func (m *Manager) Index(ctx context.Context, request wire.IndexRequest) (status wire.IndexStatus, err error) {
	body, _, err := m.call(ctx, http.MethodPost, "/index", resource("index-request", request), nil)
	if err == nil {
		err = wire.Decode(body, &status)
	}
	return status, err
}

// IndexStatus is GET /index.
func (m *Manager) IndexStatus(ctx context.Context, realm string) (wire.IndexStatus, error) {
	return ask[wire.IndexStatus](ctx, m, http.MethodGet, "/index?realm="+url.QueryEscape(realm))
}

// Purge is DELETE /index. The query names what, as the protocol's table does.
func (m *Manager) Purge(ctx context.Context, query url.Values) (purged wire.Purged, err error) {
	body, _, err := m.call(ctx, http.MethodDelete, "/index?"+query.Encode(), nil, nil)
	if err == nil {
		err = wire.Decode(body, &purged)
	}
	return purged, err
}
