package realm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rewarm/rewarm/internal/shell"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

const (
	htmlType = "text/html; charset=utf-8"
	// maxStale is when a snapshot is too old to be served even once more.
	maxStale = 24 * time.Hour
	// maxUnusual is how long anything but a plain 200 is kept: a page that is
	// missing now may be there in a minute.
	maxUnusual = time.Minute
)

// serveApp answers an app route at once, with what is there: the snapshot, or
// the bare shell while the page is rendered for the next visitor.
func (s *Server) serveApp(w http.ResponseWriter, r *http.Request, current *release) error {
	url, ok := s.pageURL(r)
	if !ok || s.o.Store == nil || s.o.Manager == nil {
		return s.serveBare(w, r, current, "bypass")
	}
	p := s.lookup(r.Context(), current, url)
	if p == nil {
		s.wantRender(url)
		return s.serveBare(w, r, current, "miss")
	}
	if p.html == nil {
		// The page's own error, or a capture that fits nowhere, remembered so that
		// it is not rendered for every visitor. The application may work in theirs.
		return s.serveBare(w, r, current, "miss")
	}
	state := "hit"
	if s.age(p.snapshot) >= s.o.MaxAge {
		state = "stale"
		s.wantRender(url)
	}
	return s.servePage(w, r, p, state)
}

// pageURL is the identity of the page that is asked for; ok is false when the
// request is for a variant that has none.
func (s *Server) pageURL(r *http.Request) (page string, ok bool) {
	if strings.Contains(r.URL.Path, "//") {
		return "", false
	}
	page = s.realmURL + r.URL.EscapedPath()
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return "", false
	}
	for name := range query {
		if !slices.Contains(s.o.QueryAllow, name) {
			return "", false
		}
	}
	if len(query) > 0 {
		page += "?" + query.Encode() // sorted by name: the order is no part of the identity
	}
	return page, len(page) <= maxPath
}

func (s *Server) age(snapshot words.Snapshot) time.Duration {
	return s.o.Now().Sub(snapshot.RenderedAt)
}

// usable reports whether a snapshot may be served at all.
func (s *Server) usable(snapshot words.Snapshot) bool {
	limit := maxStale
	if snapshot.Status != words.StatusReady || status(snapshot) != http.StatusOK {
		limit = maxUnusual
	}
	return s.age(snapshot) < limit
}

// lookup finds the page in memory, else in the store. A store that does not
// answer costs a visitor at most a second, and never the page in memory.
func (s *Server) lookup(ctx context.Context, current *release, url string) *page {
	key := pageKey{current.token, url}
	known := s.pages.get(key)
	if known != nil && !s.usable(known.snapshot) {
		known = nil
	}
	if known != nil && s.age(known.snapshot) < s.o.MaxAge {
		return known
	}
	ctx, cancel := context.WithTimeout(ctx, storeWait)
	defer cancel()
	snapshot, found, err := s.o.Store.Snapshot(ctx, s.realmURL, current.token, url)
	switch {
	case err != nil:
		s.o.Log.Warn("snapshot not read", "url", url, "error", err)
		return known
	case !found || !s.usable(snapshot):
		return known
	case known != nil && known.snapshot.RenderedAt.Equal(snapshot.RenderedAt):
		return known
	case snapshot.Token != current.token:
		s.metrics.mismatched.Inc()
		s.o.Log.Error("snapshot of another release not served", "url", url, "token", snapshot.Token, "current", current.token)
		return nil
	}
	p, err := composePage(key, current, snapshot)
	if err != nil {
		s.o.Log.Warn("snapshot not composed; the bare shell is served", "url", url, "token", current.token, "error", err)
		snapshot.HTML = ""
		p = &page{key: key, snapshot: snapshot}
	}
	s.pages.put(p)
	return p
}

func composePage(key pageKey, current *release, snapshot words.Snapshot) (*page, error) {
	p := &page{key: key}
	if snapshot.Status == words.StatusReady {
		composed, err := shell.Compose(current.shell, snapshot.HTML, shell.Options{})
		if err != nil {
			return nil, err
		}
		p.html = composed.HTML
	}
	snapshot.HTML = "" // in p.html already
	p.snapshot = snapshot
	p.etag = etag(p)
	return p, nil
}

// etag covers everything a cache would keep: the composed bytes, which hold
// shell and snapshot, the status and the page's headers.
func etag(p *page) string {
	sum := sha256.New()
	sum.Write(p.html)
	sum.Write([]byte("\n" + strconv.Itoa(status(p.snapshot))))
	for _, name := range slices.Sorted(maps.Keys(p.snapshot.Headers)) {
		sum.Write([]byte("\n" + name + ": " + p.snapshot.Headers[name]))
	}
	return `"` + string(p.key.token) + "-" + hex.EncodeToString(sum.Sum(nil)[:12]) + `"`
}

// status is what the page asked to be answered with, 200 when it makes no sense.
func status(s words.Snapshot) int {
	switch {
	case s.HTTPStatus >= 300 && s.HTTPStatus < 400:
		switch s.HTTPStatus {
		case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
			if _, ok := pageHeaders(s.Headers)["Location"]; ok {
				return s.HTTPStatus
			}
		}
	case s.HTTPStatus >= 200 && s.HTTPStatus < 600 && s.HTTPStatus != http.StatusNoContent && s.HTTPStatus != http.StatusResetContent:
		return s.HTTPStatus
	}
	return http.StatusOK
}

// pageHeaders are those that a page may set on its own answer. All others are
// the server's business: a page cannot set cookies or policies, nor make a
// cache keep a document beyond its release.
func pageHeaders(asked map[string]string) map[string]string {
	kept := map[string]string{}
	for _, said := range slices.Sorted(maps.Keys(asked)) { // one page, one answer, in whatever spelling it says a name twice
		name, value := http.CanonicalHeaderKey(strings.TrimSpace(said)), asked[said]
		if strings.ContainsFunc(value, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }) {
			continue
		}
		switch name {
		case "Link", "Content-Language", "X-Robots-Tag":
			kept[name] = value
		case "Location":
			if u, err := url.Parse(value); err == nil && value != "" && (u.Scheme == "" || u.Scheme == "http" || u.Scheme == "https") {
				kept[name] = value
			}
		case "Cache-Control":
			if strings.Contains(strings.ToLower(value), "no-store") {
				kept[name] = "no-store"
			}
		}
	}
	return kept
}

func (s *Server) servePage(w http.ResponseWriter, r *http.Request, p *page, state string) error {
	s.htmlHeaders(w, p.key.token, p.etag, state)
	for name, value := range pageHeaders(p.snapshot.Headers) {
		w.Header().Set(name, value)
	}
	code := status(p.snapshot)
	if code == http.StatusOK && matches(r, p.etag) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	return writeBody(w, r, code, htmlType, p.html)
}

func (s *Server) serveBare(w http.ResponseWriter, r *http.Request, served *release, state string) error {
	tag := `"` + string(served.token) + `"`
	s.htmlHeaders(w, served.token, tag, state)
	if matches(r, tag) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	return writeBody(w, r, http.StatusOK, htmlType, served.shell)
}

func (s *Server) htmlHeaders(w http.ResponseWriter, token words.Token, etag, state string) {
	s.metrics.pages.WithLabelValues(state).Inc()
	h := w.Header()
	h.Set(wire.HeaderDocumentShell, string(token))
	h.Set(wire.HeaderSnapshot, state)
	h.Set("Cache-Control", "no-cache")
	h.Set("ETag", etag)
}

// matches reports whether the caller has exactly this already; weak marks, put
// on by compressing proxies, compare as equal.
func matches(r *http.Request, etag string) bool {
	for candidate := range strings.SplitSeq(strings.Join(r.Header.Values("If-None-Match"), ","), ",") {
		if candidate = strings.TrimSpace(candidate); candidate == "*" || strings.TrimPrefix(candidate, "W/") == etag {
			return true
		}
	}
	return false
}

func writeBody(w http.ResponseWriter, r *http.Request, code int, kind string, body []byte) error {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(code)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // the peer may be gone; nothing to do about it
	}
	return nil
}
