package page

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/cdproto/storage"
	"golang.org/x/net/html"

	"github.com/rewarm/rewarm/internal/chrome"
	"github.com/rewarm/rewarm/internal/words"
)

// left is what the page's instrumentation found of routes that the page has
// left, each as "kind: name".
type left struct {
	Shown []string `json:"shown"` // it may change what a later route shows
	Grown []string `json:"grown"` // it adds up with each transition
}

// residue is what is known of how a page's application leaves its routes. Only
// who renders uses it.
type residue struct {
	// known is what was shown not to matter: to a route, by its path and query;
	// and to all, under "", what the application has when it has started.
	known  map[string][]string
	names  int    // in known
	taught string // what the document has been told of it
	// dirty is whether the document holds on to routes that were left.
	dirty bool
	debt  int
	// stores are where routes were seen to leave something that mattered; every
	// document is loaded with them empty.
	stores []string
}

// What transitions cost that had to be done again, in arbitrary units, and what
// they may cost before the page gives them up for its life: two convictions
// with little between them. One transition in fifteen may be in vain, for it
// costs what three of them save.
const (
	convicted = 24 // something was left, and it mattered
	acquitted = 3  // it did not, which is known of that route from now on
	clean     = -2
	unworthy  = 40
)

// maxKnown bounds the names that are kept. What is not known is tried again,
// until it is not worth it.
const maxKnown = 2000

func (s *residue) owe(debt int) { s.debt = max(0, s.debt+debt) }

// learn notes what the application has when it has started.
func (p *Page) learn(ctx context.Context) {
	var start evaluated[[]string]
	// A page that does not answer is found out by who uses it.
	if p.evaluate(ctx, "window.__rewarm&&__rewarm.io?__rewarm.io.start():[]", &start) == nil {
		p.residue.know("", start.Result.Value)
	}
}

func (s *residue) know(route string, names []string) {
	if s.known == nil {
		s.known = map[string][]string{}
	}
	if s.names += len(names); s.names <= maxKnown {
		s.known[route] = append(s.known[route], names...)
	}
}

// teach tells the document what is known of a route: what another route may
// keep can be wrong in this one.
func (p *Page) teach(route string) {
	names := slices.Concat(p.residue.known[""], p.residue.known[route])
	list, _ := json.Marshal(names) // strings always marshal
	if len(names) == 0 && p.residue.taught == "" || p.residue.taught == string(list) {
		return
	}
	p.residue.taught = string(list)
	_ = p.session.Post(runtime.CommandEvaluate, runtime.EvaluateParams{
		Expression: "window.__rewarm&&__rewarm.io&&__rewarm.io.know(" + string(list) + "||[])"})
}

// isSuspect is whether a transition's result may show something of a route
// before it. The route is then rendered once more in a fresh document, and what
// comes of that is told.
func (r *render) isSuspect(result *Result) bool {
	p := r.page
	if p.report.Mode != words.ModeTransition {
		return false
	}
	if len(r.left.Grown) > 0 {
		p.convict(r.left.Grown)
	}
	switch {
	case len(r.left.Shown) == 0:
		if len(r.left.Grown) == 0 {
			p.residue.owe(clean)
		}
		return false
	case result.Status != words.StatusReady:
		p.convict(r.left.Shown)
		return false
	}
	r.suspect, r.suspected = result, r.left.Shown
	p.report.FellBack = true
	return true
}

// judge compares a suspect with what a fresh document gave.
func (r *render) judge(result Result) {
	p := r.page
	switch {
	case r.suspect == nil:
	case r.task.Kind == Document && result.Status == words.StatusReady && sameDocument(result.HTML, r.suspect.HTML):
		p.residue.owe(acquitted)
		p.residue.know(r.to.RequestURI(), r.suspected)
	default:
		p.convict(r.suspected)
		p.residue.stores = storesOf(append(r.suspected, p.residue.stores...))
		p.residue.dirty = false // this document is a fresh one
	}
}

// sameDocument is whether two documents are equal but for the order of
// attributes, which means nothing: a framework that updates an element in place
// adds at the end what it would have written elsewhere.
func sameDocument(a, b string) bool {
	if a == b {
		return true
	}
	left, right := html.NewTokenizer(strings.NewReader(a)), html.NewTokenizer(strings.NewReader(b))
	for {
		l, r := nextToken(left), nextToken(right)
		if l.String() != r.String() {
			return false
		}
		if l.Type == html.ErrorToken {
			return true
		}
	}
}

func nextToken(z *html.Tokenizer) html.Token {
	z.Next()
	t := z.Token()
	slices.SortFunc(t.Attr, func(a, b html.Attribute) int { return strings.Compare(a.Key, b.Key) })
	return t
}

func (p *Page) convict(names []string) {
	p.residue.owe(convicted)
	p.residue.dirty = true
	p.report.Residue = append(p.report.Residue, names...)
}

// ResidueKind is the kind of a piece of residue, as in [RenderReport].
func ResidueKind(name string) string {
	kind, _, _ := strings.Cut(name, ": ")
	return kind
}

var storageTypes = map[string]string{
	"localStorage": "local_storage", "sessionStorage": "", "cookie": "cookies", "indexedDB": "indexeddb", "cache": "cache_storage",
}

// storesOf are the kinds of names that are kept in storage.
func storesOf(names []string) (kinds []string) {
	for _, name := range names {
		if _, ok := storageTypes[ResidueKind(name)]; ok {
			kinds = append(kinds, ResidueKind(name))
		}
	}
	slices.Sort(kinds)
	return slices.Compact(kinds)
}

// emptyStores empties the storage of the visit's origin that a document would
// otherwise inherit from routes before it.
func (r *render) emptyStores(ctx context.Context) error {
	stores := storesOf(append(r.suspected, r.page.residue.stores...))
	var types []string
	for _, kind := range stores {
		if storageTypes[kind] != "" {
			types = append(types, storageTypes[kind])
			continue
		}
		_ = r.page.session.Post(runtime.CommandEvaluate, runtime.EvaluateParams{Expression: "try{sessionStorage.clear()}catch{}"})
	}
	if len(types) == 0 {
		return nil
	}
	return r.page.session.CallAll(ctx, chrome.Command{Method: storage.CommandClearDataForOrigin,
		Params: storage.ClearDataForOriginParams{Origin: origin(r.visit.URL), StorageTypes: strings.Join(types, ",")}})
}
