package realm

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/web"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// Bounds of the modules cache: it is public, and every URL is another key.
const (
	moduleWorkers = 4
	maxModules    = 100 // waiting to be rendered
	moduleTries   = 3   // when a module is invalidated while it is rendered
	// errorHold is how long what a page said is an error is repeated: long
	// enough for a crowd, too short to outlive a deploy of its backend.
	errorHold = 5 * time.Second
)

// moduleKey is a module's identity in one realm.
type moduleKey struct {
	token words.Token
	url   string
}

// modules are the module renders under way, one for each module.
type modules struct {
	jobs chan *moduleFlight

	mu      sync.Mutex
	flights map[moduleKey]*moduleFlight
	failed  map[moduleKey]held // the page's own errors
	keys    *keys
}

// moduleFlight is one render, however many wait for it.
type moduleFlight struct {
	key  moduleKey
	done chan struct{}
	got  words.Module // read after done
	err  error

	waiting int                // guarded by modules.mu, as is cancel
	cancel  context.CancelFunc // nil: not begun
}

func newModules() *modules {
	return &modules{jobs: make(chan *moduleFlight, maxModules), flights: map[moduleKey]*moduleFlight{}, failed: map[moduleKey]held{}, keys: newKeys()}
}

// start begins a release: its keys are counted anew.
func (m *modules) start() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keys.forget()
	clear(m.failed)
}

// join is the flight of a module, begun if there is none; or the error that the
// module had just now.
func (m *modules) join(key moduleKey, now time.Time) (*moduleFlight, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if h, ok := m.failed[key]; ok && now.Before(h.until) {
		return nil, h.err
	}
	f := m.flights[key]
	if f == nil {
		if !m.keys.ask(key.url, now) {
			return nil, fault.Refuse(time.Minute, "Too many modules were asked for")
		}
		f = &moduleFlight{key: key, done: make(chan struct{})}
		select {
		case m.jobs <- f:
		default:
			return nil, fault.Refuse(time.Second, "Too many modules are being rendered")
		}
		m.flights[key] = f
	}
	f.waiting++
	return f, nil
}

// leave ends a flight that nobody waits for any more.
func (m *modules) leave(f *moduleFlight) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f.waiting--; f.waiting > 0 {
		return
	}
	if m.flights[f.key] == f {
		delete(m.flights, f.key)
	}
	if f.cancel != nil {
		f.cancel()
	}
}

// board begins a flight; false when everybody has left.
func (m *modules) board(f *moduleFlight, cancel context.CancelFunc) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	f.cancel = cancel
	return f.waiting > 0
}

func (m *modules) land(f *moduleFlight, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.flights[f.key] == f {
		delete(m.flights, f.key)
	}
	if f.err == nil {
		m.keys.got(f.key.url)
	}
	if errors.Is(f.err, errOfPage) {
		for key, h := range m.failed {
			if len(m.failed) >= maxHeld && !now.Before(h.until) {
				delete(m.failed, key)
			}
		}
		if len(m.failed) < maxHeld {
			m.failed[f.key] = held{f.err, now.Add(errorHold)}
		}
	}
	close(f.done)
}

// forget makes errors of a module be found out anew.
func (m *modules) forget(url string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key := range m.failed {
		if key.url == url {
			delete(m.failed, key)
		}
	}
}

// moduleView is what a module's caller gets (protocol, "Shapes").
type moduleView struct {
	URL        string          `json:"url"`
	Token      words.Token     `json:"token"`
	RenderedAt time.Time       `json:"renderedAt"`
	Result     json.RawMessage `json:"result"`
	Deps       []string        `json:"deps"`
}

// serveModule answers GET /_modules: from the store, else by a render within
// the caller's budget.
func (s *site) serveModule(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Cache-Control", "no-store") // an error; a result says otherwise
	address, err := s.moduleURL(r)
	if err != nil {
		return err
	}
	if s.o.Store == nil || s.o.Manager == nil {
		return fault.Refuse(time.Minute, "This realm server has no store or no manager")
	}
	budget := min(wire.Budget(r.Header.Get(wire.HeaderBudget), 0), s.o.RenderBudget)
	ctx, cancel := context.WithTimeout(r.Context(), budget)
	defer cancel()
	key := moduleKey{s.Token(), address}
	m, err := s.module(ctx, key)
	switch {
	case err != nil && r.Context().Err() != nil:
		return r.Context().Err()
	case errors.Is(err, context.DeadlineExceeded):
		return fault.Refuse(time.Second, "Not rendered within %s", budget)
	case err != nil:
		return err
	}
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set(wire.HeaderDocumentShell, string(m.Token))
	web.WriteJSON(w, http.StatusOK, wire.ContentTypeJSON, moduleView{m.URL, m.Token, m.RenderedAt, m.Result, m.Deps})
	return nil
}

// moduleURL is the module that a request names: a URL of this realm.
func (s *site) moduleURL(r *http.Request) (string, error) {
	raw := r.URL.Query().Get("url")
	u, err := url.Parse(raw)
	switch {
	case raw == "":
		return "", fault.New(fault.Invalid, "Missing required query parameter: url")
	case err != nil || len(raw) > maxPath || u.User != nil:
		return "", fault.New(fault.Invalid, "url is no URL")
	}
	u.Fragment, u.RawFragment = "", ""
	address := u.String()
	if !strings.HasPrefix(address, s.realm.URL+"/") {
		return "", fault.New(fault.Forbidden, "url is not in this realm, which is %s", s.realm.URL)
	}
	return address, nil
}

// module is the stored module, if nothing it is made of was invalidated since,
// else one that is rendered, once however many ask.
func (s *site) module(ctx context.Context, key moduleKey) (words.Module, error) {
	if m, ok := s.storedModule(ctx, key); ok {
		s.metrics.modules.WithLabelValues(s.realm.URL, "hit").Inc()
		return m, nil
	}
	f, err := s.modules.join(key, s.o.Now())
	if err != nil {
		s.metrics.modules.WithLabelValues(s.realm.URL, "refused").Inc()
		return words.Module{}, err
	}
	defer s.modules.leave(f)
	s.metrics.modules.WithLabelValues(s.realm.URL, "miss").Inc()
	select {
	case <-f.done:
		return f.got, f.err
	case <-s.ended:
		return words.Module{}, errRealmEnds()
	case <-ctx.Done():
		return words.Module{}, ctx.Err()
	}
}

func (s *site) storedModule(ctx context.Context, key moduleKey) (words.Module, bool) {
	if _, known := s.invalidated.now(); !known {
		return words.Module{}, false
	}
	ctx, cancel := context.WithTimeout(ctx, storeWait)
	defer cancel()
	m, _, found, err := s.o.Store.Module(ctx, s.realm.URL, key.token, key.url)
	if err != nil {
		s.o.Log.Warn("module not read", "url", key.url, "error", err)
	}
	return m, err == nil && found && !s.invalidated.since(m)
}

// invalidateModule answers DELETE /_modules: the module, and what was made of
// it, is no longer true, on any realm server.
func (s *site) invalidateModule(w http.ResponseWriter, r *http.Request) error {
	address, err := s.moduleURL(r)
	if err != nil {
		return err
	}
	if s.o.Store == nil {
		return fault.Refuse(time.Minute, "This realm server has no store")
	}
	said, err := s.o.Store.InvalidateModule(r.Context(), s.realm.URL, s.Token(), address)
	// Also after an error: what was said was heard elsewhere, so it is true here.
	urls := make([]string, 0, len(said))
	for _, invalidation := range said {
		s.invalidated.hear(invalidation, s.o.Now())
		s.modules.forget(invalidation.Module)
		urls = append(urls, invalidation.Module)
	}
	if err != nil {
		e := fault.Refuse(time.Second, "The store is away")
		e.Cause = err
		return e
	}
	s.o.Log.Info("modules invalidated", "url", address, "modules", len(urls))
	web.WriteJSON(w, http.StatusOK, wire.ContentTypeJSON, map[string][]string{"invalidated": urls})
	return nil
}
