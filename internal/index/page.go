package index

import (
	"maps"
	"net/url"
	"path"
	"slices"
	"strings"

	"golang.org/x/net/html"
)

// MaxURL bounds a page's URL in bytes, as the realm server does.
const MaxURL = 4 << 10

// PageURL is the identity of a realm's page that u names: without its fragment,
// its query in one order. ok is false when it is none of the realm's, or a
// variant that has no identity: one with a parameter that is not in allow.
// The realm server looks a page up under what this says of the request.
func PageURL(realm string, u *url.URL, allow []string) (page string, ok bool) {
	base, err := url.Parse(realm)
	if err != nil || !strings.EqualFold(u.Scheme, base.Scheme) || !strings.EqualFold(u.Host, base.Host) || u.User != nil {
		return "", false
	}
	p := u.EscapedPath()
	if p == "" {
		p = "/"
	}
	prefix := strings.TrimSuffix(base.EscapedPath(), "/")
	below, inside := strings.CutPrefix(p, prefix)
	if below == "" {
		below = "/" // of a realm below a path: the realm server has one page for both
	}
	if !inside || !strings.HasPrefix(below, "/") || untidy(u.Path) {
		return "", false
	}
	return Identity(realm, below, u.RawQuery, allow)
}

// Named is the page that somebody who asks for it names, with any parameters:
// whoever asks knows which ones make a page.
func Named(realm, raw string) (page string, ok bool) {
	u, err := url.Parse(raw)
	if err != nil {
		return "", false
	}
	return PageURL(realm, u, slices.Collect(maps.Keys(u.Query())))
}

// Identity is PageURL of a path below the realm, escaped, and a query.
func Identity(realm, below, rawQuery string, allow []string) (page string, ok bool) {
	page = strings.TrimSuffix(realm, "/") + below
	if rawQuery == "" { // nearly always, and asked for every visitor
		return page, len(page) <= MaxURL
	}
	query, err := url.ParseQuery(rawQuery)
	if err != nil {
		return "", false
	}
	for name := range query {
		if !slices.Contains(allow, name) {
			return "", false
		}
	}
	if len(query) > 0 {
		page += "?" + query.Encode() // sorted by name: the order is no part of the identity
	}
	return page, len(page) <= MaxURL
}

// untidy paths are answered with an error or have a page under another name.
func untidy(p string) bool {
	if strings.Contains(p, "//") || strings.ContainsFunc(p, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		return true
	}
	for segment := range strings.SplitSeq(p, "/") {
		if segment == "." || segment == ".." {
			return true
		}
	}
	return false
}

// Linked is the page that a link leads to, if it is one to be indexed: a page
// of the realm, and no file or route of the realm server's own.
func Linked(realm, link string, allow []string) (page string, ok bool) {
	if len(link) > 2*MaxURL {
		return "", false
	}
	u, err := url.Parse(link)
	if err != nil {
		return "", false
	}
	switch ext := strings.ToLower(path.Ext(u.Path)); {
	case ext == "" || ext == ".html" || ext == ".htm":
	case len(ext) <= 6 && ext[1:] != "" && ext[1] >= 'a' && ext[1] <= 'z':
		// A file, by its looks. A page with such a name is rendered when a visitor
		// asks for it, or when a sitemap lists it.
		return "", false
	}
	page, ok = PageURL(realm, u, allow)
	return page, ok && !strings.HasPrefix(page, strings.TrimSuffix(realm, "/")+"/_")
}

// Owner is the realm that serves a page of a realm: the innermost of all that
// contains it.
func Owner(realm, page string, all []string) string {
	for _, other := range all {
		if below, ok := strings.CutPrefix(page, other); ok && len(other) > len(realm) && (below == "" || below[0] == '/' || below[0] == '?') {
			realm = other
		}
	}
	return realm
}

// maxLinks bounds the links taken from one page.
const maxLinks = 2000

// Links are where the links of a page's HTML lead, for a page that is stored
// already and so is not rendered to be asked.
func Links(page, document string) (links []string) {
	base, err := url.Parse(page)
	if err != nil {
		return nil
	}
	tokens := html.NewTokenizer(strings.NewReader(document))
	for len(links) < maxLinks {
		switch tokens.Next() {
		case html.ErrorToken:
			return links
		case html.StartTagToken, html.SelfClosingTagToken:
			name, more := tokens.TagName()
			tag := string(name)
			if tag != "a" && tag != "area" && tag != "base" {
				continue
			}
			for more {
				var key, value []byte
				key, value, more = tokens.TagAttr()
				if string(key) != "href" {
					continue
				}
				target, err := base.Parse(strings.TrimSpace(string(value)))
				switch {
				case err != nil:
				case tag == "base":
					base = target
				default:
					links = append(links, target.String())
				}
			}
		}
	}
	return links
}
