package page

import (
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
func (p *Page) carryOnLoad(id string) (commands []chrome.Command) {
	if old := p.carrier.Identifier; old != "" {
		commands = append(commands, chrome.Command{Method: cdpage.CommandRemoveScriptToEvaluateOnNewDocument,
			Params: cdpage.RemoveScriptToEvaluateOnNewDocumentParams{Identifier: old}})
		p.carrier.Identifier = ""
	}
	if id != "" {
		commands = append(commands, chrome.Command{Method: cdpage.CommandAddScriptToEvaluateOnNewDocument,
			Params: cdpage.AddScriptToEvaluateOnNewDocumentParams{Source: carrying(id)}, Result: &p.carrier})
	}
	return commands
}
