package page

import (
	"context"

	cdpage "github.com/chromedp/cdproto/page"

	"github.com/rewarm/rewarm/internal/chrome"
)

// carrying is a statement that has the document's requests carry the id of the
// render that they are for, so that a render its backend asks for meanwhile is
// known to be one that the page waits for. What is asked without the page's
// scripts, and by workers, does not carry it.
func carrying(id string) string {
	return "window.__rewarm&&__rewarm.io&&__rewarm.io.carry(" + quote(id) + ");"
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
