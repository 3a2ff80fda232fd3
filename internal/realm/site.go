package realm

import (
	"context"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"sync"

	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/words"
)

// site is one realm as it is served: what it answers with is the server's, what
// it queues, renders and has heard is its own.
type site struct {
	*Server
	realm   Realm // complete
	renders *renderQueue
	// invalidated is what pages and modules are held against.
	invalidated *invalidated
	modules     *modules
	told        map[string]*telling // by state
	ended       chan struct{}       // closed when nothing is rendered for it any more
}

// sites are the realms that are served, swapped as a whole.
type sites struct {
	table *Table
	all   []*site // by their place in the table
}

func (s *Server) newSite(r Realm) *site {
	return &site{
		Server: s, realm: r, renders: newRenderQueue(), invalidated: newInvalidated(), modules: newModules(),
		told: newTellings(s.metrics.pages, r.URL), ended: make(chan struct{}),
	}
}

// SetRealms replaces the realms that are served; an empty table is the one realm
// of the options, nil says that there is one that could not be taken. A realm
// that did not change keeps what it has queued and heard. On an error nothing has
// changed; like a nil table it is told at /readyz and /metrics until another is
// taken.
func (s *Server) SetRealms(t *Table) error {
	s.settingRealms.Lock()
	defer s.settingRealms.Unlock()
	if t == nil {
		s.realmsRefused.Store(true)
		return nil
	}
	err := s.setRealms(t)
	s.realmsRefused.Store(err != nil)
	return err
}

// setRealms needs settingRealms.
func (s *Server) setRealms(t *Table) error {
	if len(t.realms) == 0 {
		t = &Table{}
		if err := t.Add(Realm{URL: s.o.RealmURL}); err != nil {
			return fault.Wrap(fault.Usage, err, "realm server: --realm-url")
		}
	}
	before := s.served.Load()
	next := &sites{table: t}
	for _, r := range t.realms {
		r = r.or(&s.o)
		if err := s.check(r); err != nil {
			return err
		}
		var made *site
		if before != nil {
			for _, old := range before.all {
				if reflect.DeepEqual(old.realm, r) {
					made = old
				}
			}
		}
		if made == nil {
			made = s.newSite(r)
		}
		next.all = append(next.all, made)
	}
	s.served.Store(next)
	select {
	case s.sitesChanged <- struct{}{}:
	default: // whoever reads it sees the newest
	}
	select {
	case s.reports <- hookReport{source: words.SourcePresence}:
	default: // a report waits already, and reads what is served when it is sent
	}
	return nil
}

// check refuses what a realm may not say, or could not be reached under.
func (s *Server) check(r Realm) error {
	if _, err := CheckPageHeaders(r.PageHeaders); err != nil {
		return err
	}
	if r.OnMiss != "" && r.OnMiss != MissShell && r.OnMiss != MissWait {
		return fault.New(fault.Usage, "%s: on-miss takes %s or %s, not %q", r.URL, MissShell, MissWait, r.OnMiss)
	}
	if u, err := url.Parse(r.URL); err == nil && u.Path != "" && s.proxied(u.Path) {
		return fault.New(fault.Usage, "%s: --proxy sends everything below %s to another server", r.URL, u.Path)
	}
	return nil
}

// URLs are the base URLs of the realms that are served, without trailing
// slashes.
func (s *Server) URLs() (urls []string) {
	for _, site := range s.served.Load().all {
		urls = append(urls, site.realm.URL)
	}
	return urls
}

// URL is the first realm's base URL, without a trailing slash.
func (s *Server) URL() string { return s.served.Load().all[0].realm.URL }

// place is where a request is: in a realm, or, on a host that has realms below
// other paths only, in none.
type place struct {
	site   *site  // nil: none
	prefix string // the part of the path that is the realm's
}

// below is the path without the realm's prefix.
func (p place) below(path string) string {
	if path = path[len(p.prefix):]; path == "" {
		return "/"
	}
	return path
}

// locate finds a request's realm. Its Host is compared and never repeated: it
// is whatever the caller likes.
func (s *Server) locate(r *http.Request) (place, error) {
	served := s.served.Load()
	found, prefix, known := served.table.find(r.Host, r.URL.EscapedPath())
	switch {
	case !known:
		return place{}, fault.New(fault.Misdirected, "No realm of this server has the host that was asked for; a proxy in front must pass the Host header on")
	case found == noRealm:
		return place{}, nil
	}
	return place{served.all[found], prefix}, nil
}

// keepSites runs what each site does in the background, for as long as it is
// served, until ctx ends.
func (s *Server) keepSites(ctx context.Context) {
	var owned sync.WaitGroup
	defer owned.Wait()
	stops := map[*site]context.CancelFunc{}
	defer func() {
		for _, stop := range stops {
			stop()
		}
	}()
	for {
		serves := map[*site]bool{}
		for _, site := range s.served.Load().all {
			serves[site] = true
			if stops[site] == nil {
				running, stop := context.WithCancel(ctx)
				stops[site] = stop
				owned.Go(func() { site.run(running) })
			}
		}
		for site, stop := range stops {
			if !serves[site] {
				stop()
				delete(stops, site)
				s.pages.dropAll(func(key pageKey) bool { return key.site == site })
				if !slices.Contains(s.URLs(), site.realm.URL) {
					s.metrics.forget(site.realm.URL)
				}
			}
		}
		select {
		case <-s.sitesChanged:
		case <-ctx.Done():
			return
		}
	}
}

// run renders, and hears what is no longer true, until ctx ends.
func (s *site) run(ctx context.Context) {
	defer close(s.ended)
	var owned sync.WaitGroup
	defer owned.Wait()
	if s.o.Store == nil {
		return
	}
	owned.Go(func() { s.hearInvalidations(ctx) })
	if s.o.Manager == nil {
		return
	}
	for range renderWorkers {
		owned.Go(func() { s.renderLoop(ctx) })
	}
	for range moduleWorkers {
		owned.Go(func() { s.moduleLoop(ctx) })
	}
	owned.Go(func() { s.leaveLoop(ctx) })
}

// beginRelease counts anew, in every realm, what belongs to one release.
func (s *Server) beginRelease() {
	for _, site := range s.served.Load().all {
		site.renders.forget()
		site.modules.start()
	}
}
