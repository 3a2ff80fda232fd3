package realm

import (
	"cmp"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/wire"
)

// MaxRealms bounds the realms of one server: each has queues of its own, and
// all are named in every report.
const MaxRealms = 500

// Realm is a site that the server serves the host as. What is zero is as the
// server's [Options] say.
type Realm struct {
	URL         string // base URL; see [Table.Add]
	MaxAge      time.Duration
	Query       []string // nil is as the options say, none is none
	OnMiss      Miss
	WaitAtMost  time.Duration
	PageHeaders []string // nil is as the options say, none is none
}

// or is the realm with what it leaves open as the options say.
func (r Realm) or(o *Options) Realm {
	r.MaxAge = cmp.Or(r.MaxAge, o.MaxAge)
	r.OnMiss = cmp.Or(r.OnMiss, o.OnMiss)
	r.WaitAtMost = cmp.Or(r.WaitAtMost, o.WaitAtMost)
	if r.Query == nil {
		r.Query = o.QueryAllow
	}
	if r.PageHeaders == nil {
		r.PageHeaders = o.PageHeaders
	}
	return r
}

// Table is the realms of one host, found by what a request names. The zero
// value has none. It is not changed once it is served.
type Table struct {
	realms []Realm
	byHost map[string][]below // the longest prefix first
}

// below is a realm's place among those of its host.
type below struct {
	prefix string // "" or "/shop"
	realm  int    // in the table
}

// Add adds a realm. Its URL has a scheme, a host and perhaps a path of plain
// segments; the error says what else it has. No two realms may have the same
// host and path: behind a load balancer nobody knows a request's scheme.
func (t *Table) Add(r Realm) error {
	given := r.URL
	u, err := url.Parse(given)
	normalized, ok := wire.NormalizeURL(given)
	switch {
	case err != nil || !ok:
		return fault.New(fault.Usage, "%.200q is no http or https URL such as https://example.com/shop", given)
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || strings.Contains(given, "#"):
		return fault.New(fault.Usage, "%.200q has a user, a query or a fragment, which no base URL has; leave it out", given)
	}
	if u, err = url.Parse(normalized); err != nil {
		return fault.New(fault.Usage, "%.200q is no http or https URL such as https://example.com/shop", given)
	}
	if strings.ContainsFunc(u.Host, func(c rune) bool { return c <= ' ' || c >= 0x7f }) || strings.HasSuffix(u.Hostname(), ".") {
		return fault.New(fault.Usage, "%.200q has a host that no browser asks for so; write it in ASCII (xn--...), without a dot at its end", given)
	}
	if !plain(u.EscapedPath()) {
		return fault.New(fault.Usage, "%.200q has a path that is not of plain segments such as /shop/de; the first may not begin with _", given)
	}
	if len(t.realms) >= MaxRealms {
		return fault.New(fault.Usage, "more than %d realms", MaxRealms)
	}
	for _, other := range t.byHost[u.Host] {
		if other.prefix == u.Path {
			return fault.New(fault.Usage, "%s is there twice, as %s too; the scheme makes no other realm, for behind a load balancer it is not known", normalized, t.realms[other.realm].URL)
		}
	}
	r.URL = normalized
	if t.byHost == nil {
		t.byHost = map[string][]below{}
	}
	all := append(t.byHost[u.Host], below{u.Path, len(t.realms)})
	slices.SortFunc(all, func(a, b below) int { return len(b.prefix) - len(a.prefix) })
	t.byHost[u.Host] = all
	t.realms = append(t.realms, r)
	return nil
}

// plain reports whether a path can be compared as it is written: no browser and
// no proxy spells it in another way.
func plain(path string) bool {
	for i, segment := range strings.Split(path, "/") {
		switch {
		case i == 0 && segment == "":
			continue
		case segment == "" || segment == "." || segment == ".." || i == 1 && segment[0] == '_':
			return false
		}
		for _, c := range []byte(segment) {
			if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("-._~", rune(c)) {
				return false
			}
		}
	}
	return true
}

// Realms are those of the table, in the order in which they were added.
func (t *Table) Realms() []Realm { return slices.Clone(t.realms) }

// noRealm is a realm that is not there.
const noRealm = -1

// find is the realm that a request's Host header and escaped path name, and its
// prefix, which the path begins with. realm is noRealm if no realm has the path;
// known is false if none has the host. A table of one realm is asked for
// nothing: it is the one, and a proxy in front may have cut its prefix off.
func (t *Table) find(host, path string) (realm int, prefix string, known bool) {
	if len(t.realms) == 1 {
		for _, only := range t.byHost {
			if prefix = only[0].prefix; !inside(path, prefix) {
				prefix = ""
			}
		}
		return 0, prefix, true
	}
	host = strings.ToLower(host)
	all, known := t.byHost[host]
	if !known {
		all, known = t.byHost[strings.TrimSuffix(strings.TrimSuffix(host, ":443"), ":80")]
	}
	for _, b := range all {
		if inside(path, b.prefix) {
			return b.realm, b.prefix, true
		}
	}
	return noRealm, "", known
}

// inside reports whether a path is the prefix or below it.
func inside(path, prefix string) bool {
	rest, ok := strings.CutPrefix(path, prefix)
	return ok && (rest == "" || rest[0] == '/')
}
