package realm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rewarm/rewarm/internal/index"
	"github.com/rewarm/rewarm/internal/shell"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

const (
	htmlType = "text/html; charset=utf-8"
	// maxPageBytes bounds the composed pages kept in memory.
	maxPageBytes = 64 << 20
	// maxStale is when a snapshot is too old to be served even once more.
	maxStale = 24 * time.Hour
	// maxUnusual is how long anything but a plain 200 is kept: a page that is
	// missing now may be there in a minute.
	maxUnusual = time.Minute
)

// pageKey is a page's identity; the token is part of it, so a page of one
// release can never be found under another.
type pageKey struct {
	token words.Token
	site  *site // a realm that changed, or lost the page to another, finds it no more
	url   string
}

// page is a snapshot as it is served. It never changes.
type page struct {
	snapshot words.Snapshot // without its HTML
	status   int
	body     *body // nil: nothing to show, the bare shell is served
}

// serveApp answers an app route with what is there: the snapshot, or the bare
// shell while the page is rendered for the next visitor. If visitors are to
// wait, this one does.
func (s *site) serveApp(w http.ResponseWriter, r *http.Request, at place, current *release) error {
	url, ok := s.pageURL(r, at)
	if !ok || s.o.Store == nil || s.o.Manager == nil {
		return s.serveBare(w, r, current, stateBypass, spent{})
	}
	key := pageKey{current.token, s, url}
	p, took := s.lookup(r.Context(), current, key)
	if p == nil {
		job := s.wantRender(url)
		// What a script fetches does not wait: it may be that of a page whose render
		// would then wait for another.
		if s.realm.OnMiss == MissWait && r.Header.Get("Sec-Fetch-Dest") != "empty" {
			p = s.await(r.Context(), current, key, job, &took)
		}
	}
	// Without a body: the page's own error, or a capture that fits nowhere,
	// remembered so that it is not rendered for every visitor. The application may
	// work in theirs.
	if p == nil || p.body == nil {
		return s.serveBare(w, r, current, stateMiss, took)
	}
	state := stateHit
	if s.age(p.snapshot) >= s.realm.MaxAge {
		state = stateStale
		s.wantRender(url)
	}
	s.told[state].tell(w, took)
	return s.sendHTML(w, r, p.status, p.body)
}

func (s *site) serveBare(w http.ResponseWriter, r *http.Request, served *release, state string, took spent) error {
	s.told[state].tell(w, took)
	return s.sendHTML(w, r, http.StatusOK, served.bare)
}

// pageURL is the identity of the page that is asked for; ok is false when the
// request is for a variant that has none.
func (s *site) pageURL(r *http.Request, at place) (page string, ok bool) {
	if strings.Contains(r.URL.Path, "//") {
		return "", false
	}
	return index.Identity(s.realm.URL, at.below(r.URL.EscapedPath()), r.URL.RawQuery, s.realm.Query)
}

func (s *site) age(snapshot words.Snapshot) time.Duration {
	return s.o.Now().Sub(snapshot.RenderedAt)
}

// usable reports whether a snapshot may be served at all.
func (s *site) usable(snapshot words.Snapshot) bool {
	limit := maxStale
	if snapshot.Status != words.StatusReady || status(snapshot) != http.StatusOK {
		limit = maxUnusual
	}
	return s.age(snapshot) < limit && !wire.Private(snapshot.Headers)
}

// lookup finds the page in memory, else in the store, which is asked once
// however many wait. A page that is stale is not looked for in the store: the
// render that is wanted then does so.
func (s *site) lookup(ctx context.Context, current *release, key pageKey) (*page, spent) {
	if p, known := s.pages.get(key); known {
		if s.usable(p.snapshot) {
			return p, spent{}
		}
		s.pages.drop(key)
	}
	began := time.Now()
	p, _ := s.pages.once(ctx, key, func() (*page, error) { return s.load(ctx, current, key), nil })
	return p, spent{store: time.Since(began)}
}

// load reads the page from the store and composes it, nil when it has none that
// may be served. A store that does not answer costs a visitor at most
// [storeWait].
func (s *site) load(ctx context.Context, current *release, key pageKey) *page {
	// Others wait for the same: who came first may go.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeWait)
	defer cancel()
	purges := s.invalidated.purged()
	snapshot, found, err := s.o.Store.Snapshot(ctx, s.realm.URL, current.token, key.url)
	switch {
	case err != nil:
		s.o.Log.Warn("snapshot not read", "url", key.url, "error", err)
		return nil
	case !found || !s.usable(snapshot):
		return nil
	case snapshot.Token != current.token:
		s.metrics.mismatched.Inc()
		s.o.Log.Error("snapshot of another release not served", "url", key.url, "token", snapshot.Token, "current", current.token)
		return nil
	}
	p, err := s.composePage(current, snapshot)
	if err != nil {
		s.o.Log.Warn("snapshot not composed; the bare shell is served", "url", key.url, "token", current.token, "error", err)
	}
	if s.invalidated.purged() == purges { // else it may be what was purged
		s.pages.put(key, p, entryBytes+len(key.url)+p.body.size())
	}
	return p
}

// composePage is a snapshot as it is served; on an error without a body.
func (s *site) composePage(current *release, snapshot words.Snapshot) (*page, error) {
	captured := snapshot.HTML
	snapshot.HTML = "" // in the body already
	p := &page{snapshot: snapshot, status: status(snapshot)}
	if snapshot.Status != words.StatusReady {
		return p, nil
	}
	composed, err := shell.Compose(current.shell, captured, shell.Options{})
	if err != nil {
		return p, err
	}
	said := pageHeaders(snapshot.Headers, s.realm.PageHeaders)
	if p.status/100 != 3 {
		delete(said, "Location")
	}
	p.body = htmlBody(current.token, pageTag(current.token, composed.HTML, p.status, said), composed.HTML, said)
	return p, nil
}

// pageTag covers everything that a cache would keep: the composed bytes, which
// hold shell and snapshot, the status and the page's headers.
func pageTag(token words.Token, html []byte, status int, headers map[string]string) string {
	sum := sha256.New()
	sum.Write(html)
	sum.Write([]byte("\n" + strconv.Itoa(status)))
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		sum.Write([]byte("\n" + name + ": " + headers[name]))
	}
	return string(token) + "-" + hex.EncodeToString(sum.Sum(nil)[:12])
}
