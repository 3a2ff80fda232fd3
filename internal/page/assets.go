package page

import (
	"bytes"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/html"

	"github.com/rewarm/rewarm/internal/egress"
)

// assets are the scripts and styles that a shell names.
type assets struct {
	named   map[string]string // absolute URL -> "script" or "stylesheet"
	origins map[string]bool   // of the document and of all that is named
	scripts bool              // the shell has any script, inline ones included
	refs    []string          // of all scripts and links, as they are written
}

// assetsOf reads them from a shell as seen at base. A shell that is not well
// formed is read as far as a browser would: the tokenizer does not fail.
func assetsOf(shell []byte, base string) assets {
	a := assets{named: map[string]string{}, origins: map[string]bool{origin(base): true}}
	at, err := url.Parse(base)
	if err != nil {
		return a
	}
	based := false
	for z := html.NewTokenizer(bytes.NewReader(shell)); ; {
		switch z.Next() {
		case html.ErrorToken:
			return a
		case html.StartTagToken, html.SelfClosingTagToken:
			tok := z.Token()
			switch tok.Data {
			case "base": // the first that has one counts
				if href := attribute(tok, "href"); href != "" && !based {
					based = true
					if u, err := at.Parse(href); err == nil {
						at = u
					}
				}
			case "script":
				kind := attribute(tok, "type")
				a.scripts = a.scripts || runs(kind)
				if runs(kind) {
					a.refs = append(a.refs, attribute(tok, "src"))
				}
				if src := attribute(tok, "src"); runs(kind) && !a.stranger(at, src, kind, tok) {
					a.add(at, src, "script")
				}
			case "link":
				a.refs = append(a.refs, attribute(tok, "href"))
				rel := " " + strings.ToLower(attribute(tok, "rel")) + " "
				if strings.Contains(rel, " stylesheet ") && !strings.Contains(rel, " alternate ") {
					a.add(at, attribute(tok, "href"), "stylesheet")
				}
			}
		}
	}
}

// stranger is whether a script is none of the application's: a counter or an
// advertisement, which is loaded beside it (async) from elsewhere. Bundlers
// name an entry as a module or a deferred script.
func (a *assets) stranger(base *url.URL, src, kind string, tok html.Token) bool {
	u, err := base.Parse(strings.TrimSpace(src))
	return err == nil && has(tok, "async") && !strings.EqualFold(kind, "module") && !a.origins[u.Scheme+"://"+u.Host]
}

func (a *assets) add(base *url.URL, ref, kind string) {
	u, err := base.Parse(strings.TrimSpace(ref))
	if ref == "" || err != nil || u.Host == "" {
		return
	}
	if egress.Collects(u.Hostname()) && !a.origins[origin(u.String())] {
		return // it is refused on purpose, and no part of the application
	}
	u.Fragment = ""
	a.named[u.String()] = kind
	a.origins[u.Scheme+"://"+u.Host] = true
}

// runs is whether a script of this type is executed rather than data.
func runs(kind string) bool {
	switch kind = strings.ToLower(strings.TrimSpace(kind)); kind {
	case "", "module", "text/javascript", "application/javascript", "text/ecmascript", "application/ecmascript":
		return true
	}
	return false
}

func has(tok html.Token, name string) bool {
	return slices.ContainsFunc(tok.Attr, func(a html.Attribute) bool { return a.Key == name })
}

func attribute(tok html.Token, name string) string {
	for _, a := range tok.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}
