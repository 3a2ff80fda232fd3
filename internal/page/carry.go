package page

import (
	"context"
	"encoding/json"
	"strings"

	_ "embed"

	cdpage "github.com/chromedp/cdproto/page"

	"github.com/rewarm/rewarm/internal/chrome"
	"github.com/rewarm/rewarm/internal/wire"
)

//go:embed carry.js
var carryJS string

// carryScript has the page's own requests carry the id of the render that they
// are for, so that a render its backend asks for meanwhile is known to be one
// that the page waits for. What is asked without the page's scripts, and by
// workers, does not carry it.
func (p *Page) carryScript() cdpage.AddScriptToEvaluateOnNewDocumentParams {
	cfg := struct {
		Origins []string `json:"origins"`
		Header  string   `json:"header"`
	}{Origins: []string{}, Header: wire.HeaderRequestID}
	for _, r := range p.realms {
		cfg.Origins = append(cfg.Origins, origin(r))
	}
	raw, _ := json.Marshal(cfg) // strings always marshal
	return cdpage.AddScriptToEvaluateOnNewDocumentParams{Source: strings.Replace(carryJS, "= CONFIG,", "= "+string(raw)+",", 1)}
}

// carrying is a statement that has the document's requests carry the id.
func carrying(id string) string {
	return "window.__rewarm&&__rewarm.carry&&__rewarm.carry(" + quote(id) + ");"
}

// carryOnLoad has the requests of the documents to come carry the id.
func (p *Page) carryOnLoad(ctx context.Context, id string) error {
	if p.carrier != "" {
		_ = p.session.Post(cdpage.CommandRemoveScriptToEvaluateOnNewDocument, cdpage.RemoveScriptToEvaluateOnNewDocumentParams{Identifier: p.carrier})
		p.carrier = ""
	}
	if id == "" {
		return nil
	}
	r, err := chrome.Call(ctx, p.session, cdpage.AddScriptToEvaluateOnNewDocument, cdpage.AddScriptToEvaluateOnNewDocumentParams{Source: carrying(id)})
	p.carrier = r.Identifier
	return err
}
