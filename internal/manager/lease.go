package manager

import (
	"sync"
	"time"

	"github.com/rewarm/rewarm/internal/routing"
	"github.com/rewarm/rewarm/internal/words"
)

// lease is one request at one server, counted as in flight until done.
type lease struct {
	url, evicted string
	done         func()
}

// choose picks a server for the request and counts it as in flight there.
func (f *fleet) choose(now time.Time, r routing.Request) (l lease, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.plan.CanaryPassed {
		r.Preferred = f.release.Token
	}
	servers := make([]routing.Server, 0, len(f.servers))
	for url, s := range f.servers {
		if s.out || !s.heardFrom(now, f.timeout) {
			continue
		}
		servers = append(servers, routing.Server{
			URL:      url,
			Capacity: s.heartbeat.Capacity,
			Draining: s.draining,
			Warmed:   s.heartbeat.WarmedAffinities,
			Vacancy:  s.vacancy,
			Pages:    s.heartbeat.HostShell.Pages,
			InFlight: s.inFlight,
		})
	}
	choice, ok := f.table.Choose(now, servers, r)
	if !ok {
		return lease{}, false
	}
	s := f.servers[choice.URL]
	s.inFlight[r.Key]++
	var once sync.Once
	done := func() {
		once.Do(func() {
			f.mu.Lock()
			defer f.mu.Unlock()
			if s.inFlight[r.Key]--; s.inFlight[r.Key] == 0 {
				delete(s.inFlight, r.Key)
			}
		})
	}
	return lease{url: choice.URL, evicted: choice.Evicts, done: done}, true
}

// presence is what the registry holds, for requests that found no server.
type presence int

const (
	nobody      presence = iota // nothing is registered
	allDraining                 // all that is registered drains
	somebody
)

func (f *fleet) presence() presence {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.servers) == 0 {
		return nobody
	}
	for _, s := range f.servers {
		if !s.draining {
			return somebody
		}
	}
	return allDraining
}

// assigned are the usable servers of an affinity.
func (f *fleet) assigned(now time.Time, key string) (urls []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, url := range f.table.Servers(key) {
		if s := f.servers[url]; s != nil && s.heardFrom(now, f.timeout) {
			urls = append(urls, url)
		}
	}
	return urls
}

func (f *fleet) unassign(key, url string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.table.Unassign(key, url)
}

func (f *fleet) resetAssignments() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.table.Reset()
}

// warming reports whether a server that could take the request is about to:
// it is in rotation, and either has no page at all yet, or, for work pinned to
// the current release, none of that release. A deploy's first pinned renders
// come before its first warm page.
func (f *fleet) warming(now time.Time, pin words.Token) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.servers {
		if s.out || s.draining || !s.heardFrom(now, f.timeout) {
			continue
		}
		pages := s.heartbeat.HostShell.Pages
		if s.heartbeat.Capacity == 0 && len(pages) == 0 || pin != "" && pin == f.release.Token && pages[pin] == 0 {
			return true
		}
	}
	return false
}
