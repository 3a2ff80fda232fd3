package page

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"strings"

	cdpage "github.com/chromedp/cdproto/page"

	"github.com/rewarm/rewarm/internal/wire"
)

// The instrumentation: one script, in the order of its parts.
var (
	//go:embed inject/rest.js
	restJS string
	//go:embed inject/say.js
	sayJS string
	//go:embed inject/wrap.js
	wrapJS string
	//go:embed inject/quiet.js
	quietJS string
	//go:embed inject/residue.js
	residueJS string
	//go:embed inject/carry.js
	carryJS string
	//go:embed inject/styles.js
	stylesJS string
	//go:embed inject/markup.js
	markupJS string
	//go:embed inject/capture.js
	captureJS string
	//go:embed inject/io.js
	ioJS string
)

// A visitor's page has another, smaller one.
var (
	//go:embed inject/read.js
	readJS string
	//go:embed inject/visitor.js
	visitorJS string
)

// binding is how the page's instrumentation speaks; it takes it away from the
// page before the page's own scripts run.
const binding = "__rewarmSend"

// initScript is the instrumentation with this page's realm origins and auth. It
// runs in every document before any script of its own, and lives in a function
// of its own, so the page sees none of its names.
func (p *Page) initScript() cdpage.AddScriptToEvaluateOnNewDocumentParams {
	cfg := struct {
		Origins []string `json:"origins"`
		Auth    string   `json:"auth"`
		Header  string   `json:"header"`  // that names a render
		Shadows bool     `json:"shadows"` // the shell's own markup has shadow roots
		Refs    []string `json:"refs"`    // of the shell's scripts and links
	}{Origins: []string{}, Auth: p.auth, Header: wire.HeaderRequestID, Refs: append([]string{}, p.assets.refs...), Shadows: bytes.Contains(bytes.ToLower(p.options.Shell.Bytes), []byte("shadowrootmode"))}
	for _, r := range p.realms {
		cfg.Origins = append(cfg.Origins, origin(r))
	}
	raw, _ := json.Marshal(cfg) // strings always marshal
	source := strings.Join([]string{
		"(() => {\nconst cfg = " + string(raw) + ";", restJS, sayJS, wrapJS, quietJS, carryJS, residueJS, stylesJS, markupJS, captureJS, ioJS, "})();",
	}, "\n")
	return cdpage.AddScriptToEvaluateOnNewDocumentParams{Source: source}
}
