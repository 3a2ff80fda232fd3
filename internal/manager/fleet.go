package manager

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rewarm/rewarm/internal/ledger"
	"github.com/rewarm/rewarm/internal/release"
	"github.com/rewarm/rewarm/internal/rollout"
	"github.com/rewarm/rewarm/internal/routing"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// fleet is what this manager knows now: the registry, the assignments, and the
// rollout of the current release. It is safe for concurrent use.
type fleet struct {
	timeout time.Duration

	mu      sync.Mutex
	servers map[string]*server
	// tombs are of servers that were unregistered here: what the store still says
	// of them from before is not news.
	tombs   map[string]tomb
	table   *routing.Table
	rollout rollout.Rollout
	plan    rollout.Plan
	release words.Release
	realms  []string
	control ledger.Control
	canary  ledger.Canary // of any release
	verdict uint64        // the revision of canary in the store
	// candidate is what is to be promoted next; nil for nothing.
	candidate *release.Candidate
	checked   bool // releases are: a canary's pages are to be checked
	away      bool // the store does not answer
	changed   chan struct{}
	dirty     map[string]struct{} // URLs whose record in the store is out of date
	wake      chan struct{}
}

// server is one registered prerender server.
type server struct {
	heartbeat    wire.Heartbeat
	vacancy      map[string]routing.Vacancy
	registeredAt time.Time
	lastSeenAt   time.Time
	storedAt     time.Time
	draining     bool
	// drainingInstance is the process that said so: only another process's
	// "active" undoes it.
	drainingInstance string
	// out of rotation until its next heartbeat: it broke a request.
	out      bool
	inFlight map[string]int // by affinity key
	hold     *hold          // the held heartbeat; nil for none
}

// hold is one held heartbeat; ended is closed when a newer one takes over.
type hold struct{ ended chan struct{} }

func newFleet(multiplex int, timeout time.Duration) *fleet {
	return &fleet{
		timeout: timeout,
		servers: map[string]*server{},
		tombs:   map[string]tomb{},
		table:   routing.NewTable(multiplex),
		changed: make(chan struct{}),
		dirty:   map[string]struct{}{},
		wake:    make(chan struct{}, 1),
	}
}

func (s *server) heardFrom(now time.Time, timeout time.Duration) bool {
	return s.hold != nil || now.Sub(s.lastSeenAt) <= timeout
}

// change returns a channel that is closed at the next change of the release,
// the rollout or the registry.
func (f *fleet) change() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}

// replan computes the rollout anew, and tells those who wait when it changed.
// f.mu is held.
func (f *fleet) replan(now time.Time, force bool) {
	in := rollout.Input{Now: now, Release: f.release, Paused: f.control.Paused, StoreAway: f.away, Canary: f.check()}
	for url, s := range f.servers {
		if !s.heardFrom(now, f.timeout) {
			continue
		}
		in.Servers = append(in.Servers, rollout.Server{
			URL:      url,
			Draining: s.draining,
			Phase:    s.heartbeat.HostShell.Phase,
			Detail:   s.heartbeat.HostShell.Detail,
			Desired:  s.heartbeat.HostShell.Desired,
			Pages:    s.heartbeat.HostShell.Pages,
		})
	}
	plan := f.rollout.Next(in)
	if force || !reflect.DeepEqual(plan, f.plan) {
		close(f.changed)
		f.changed = make(chan struct{})
	}
	f.plan = plan
}

// check is what is known of the current release's takeover check. f.mu is held.
func (f *fleet) check() rollout.Check {
	c := rollout.Check{Wanted: f.checked}
	if f.canary.Sequence == f.release.Sequence {
		if c.Passed = f.canary.Passed; !c.Passed {
			c.Broken = f.canary.Detail
		}
	}
	return c
}

// setCanary takes in what came of a check; older news is ignored.
func (f *fleet) setCanary(now time.Time, c ledger.Canary, revision uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if revision > f.verdict {
		f.canary, f.verdict = c, revision
		f.replan(now, false)
	}
}

// uncheckedCanary is the server that the current release is to be checked on; ""
// when there is nothing to check.
func (f *fleet) uncheckedCanary() (r words.Release, server string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.checked || f.canary.Sequence == f.release.Sequence {
		return words.Release{}, ""
	}
	return f.release, f.plan.Canary
}

// heard takes a heartbeat in. joined tells a server that was not registered;
// skewed, that it has seen more files gone than when it was last heard.
func (f *fleet) heard(now time.Time, h wire.Heartbeat) (joined, skewed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.tombs[h.URL].late(h) {
		return false, false
	}
	var before wire.Heartbeat
	if s := f.servers[h.URL]; s != nil && s.heartbeat.Instance == h.Instance {
		before = s.heartbeat
	}
	joined = f.take(now, now, h)
	s := f.servers[h.URL]
	if s.storedAt.IsZero() || now.Sub(s.storedAt) >= ledger.RegistryTTL/3 {
		f.markDirty(h.URL)
	}
	return joined, h.HostShell.Skews > before.HostShell.Skews
}

// heardElsewhere takes in what another manager stored of a server.
func (f *fleet) heardElsewhere(now time.Time, r ledger.Server) {
	f.mu.Lock()
	defer f.mu.Unlock()
	url := r.Heartbeat.URL
	if s := f.servers[url]; s != nil && !r.LastSeenAt.After(s.lastSeenAt) || !r.LastSeenAt.After(f.tombs[url].at) || now.Sub(r.LastSeenAt) > f.timeout {
		return
	}
	seen := r.LastSeenAt
	if seen.After(now) {
		seen = now // the other manager's clock is ahead
	}
	joined := f.take(now, seen, r.Heartbeat)
	f.servers[url].storedAt = now
	if joined {
		f.servers[url].registeredAt = r.RegisteredAt
	}
}

// take records h as heard at seen. f.mu is held.
func (f *fleet) take(now, seen time.Time, h wire.Heartbeat) (joined bool) {
	s := f.servers[h.URL]
	if joined = s == nil; joined {
		s = &server{registeredAt: now, inFlight: map[string]int{}}
		f.servers[h.URL] = s
	}
	before, wasDraining := s.heartbeat, s.draining
	restarted := h.Instance != "" && before.Instance != "" && h.Instance != before.Instance
	switch {
	case h.Draining():
		s.draining, s.drainingInstance = true, h.Instance
	case s.draining && h.Instance != "" && h.Instance == s.drainingInstance:
		// the process that drains does not come back
	default:
		s.draining, s.drainingInstance = false, ""
	}
	if h.WarmedAffinities == nil && !restarted {
		h.WarmedAffinities = before.WarmedAffinities
		f.table.Heard(h.URL, nil, s.inFlight)
	} else {
		f.table.Heard(h.URL, append([]string{}, h.WarmedAffinities...), s.inFlight)
	}
	s.heartbeat, s.lastSeenAt, s.out = h, seen, false
	s.vacancy = make(map[string]routing.Vacancy, len(h.AffinityVacancy))
	for key, v := range h.AffinityVacancy {
		s.vacancy[key] = routing.Vacancy(v)
	}
	if joined || wasDraining != s.draining || !reflect.DeepEqual(before, h) {
		s.storedAt = time.Time{}
	}
	// Vacancy changes with every render and means nothing to the rollout.
	if joined || wasDraining != s.draining || !reflect.DeepEqual(before.HostShell, h.HostShell) {
		f.replan(now, joined)
	}
	return joined
}

func (f *fleet) markDirty(url string) {
	f.dirty[url] = struct{}{}
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// forget unregisters a server; known tells whether there was one.
func (f *fleet) forget(now time.Time, url string) (known bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.servers[url]
	if s == nil {
		return false
	}
	f.tombs[url] = tomb{now, s.heartbeat.Instance, s.draining}
	f.remove(now, url)
	f.markDirty(url)
	return true
}

// tomb is what is known of a server that was unregistered.
type tomb struct {
	at       time.Time
	instance string // "" if it told none
	draining bool
}

// late reports whether a heartbeat was on its way when its process ended: one
// that drains does not come back.
func (t tomb) late(h wire.Heartbeat) bool {
	return t.instance != "" && t.instance == h.Instance && (t.draining || h.Draining())
}

// goneElsewhere is forget as another manager did it. Our own deletion comes
// back this way too, and must not remove a server that has returned since.
func (f *fleet) goneElsewhere(now time.Time, url string) (known bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.servers[url]
	if s == nil || !f.tombs[url].at.IsZero() && s.registeredAt.After(f.tombs[url].at) {
		return false
	}
	f.remove(now, url)
	return true
}

func (f *fleet) remove(now time.Time, url string) {
	if s := f.servers[url]; s != nil && s.hold != nil {
		close(s.hold.ended)
	}
	delete(f.servers, url)
	f.table.Forget(url)
	f.replan(now, true)
}

// sweep removes servers that were not heard from, and returns their URLs.
func (f *fleet) sweep(now time.Time) (left []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for url, s := range f.servers {
		switch {
		case !s.heardFrom(now, f.timeout):
			left = append(left, url)
		case s.hold != nil && now.Sub(s.storedAt) >= ledger.RegistryTTL/3:
			s.lastSeenAt = now
			f.markDirty(url)
		}
	}
	for _, url := range left {
		f.remove(now, url)
	}
	maps.DeleteFunc(f.tombs, func(_ string, t tomb) bool { return now.Sub(t.at) > f.timeout })
	slices.Sort(left)
	return left
}

// takeOut removes a server from rotation until its next heartbeat.
func (f *fleet) takeOut(url string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.servers[url]; s != nil {
		s.out = true
	}
}

// markDraining is for a server that said so in an answer.
func (f *fleet) markDraining(now time.Time, url string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.servers[url]; s != nil && !s.draining {
		s.draining, s.drainingInstance = true, s.heartbeat.Instance
		f.replan(now, false)
	}
}

// setRelease takes in a newer current release; older news is ignored.
func (f *fleet) setRelease(now time.Time, r words.Release) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.Sequence <= f.release.Sequence {
		return
	}
	f.release = r
	f.replan(now, true)
}

func (f *fleet) current() words.Release {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.release
}

// setControl takes in what an operator said; older news is ignored, for a
// reading may cross a writing.
func (f *fleet) setControl(now time.Time, c ledger.Control) {
	f.mu.Lock()
	defer f.mu.Unlock()
	was := f.control.Paused
	if !c.At.Before(f.control.At) {
		f.control = c
	}
	f.replan(now, f.control.Paused != was)
}

// setAway takes in whether the store answers.
func (f *fleet) setAway(now time.Time, away bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	was := f.away
	f.away = away
	f.replan(now, away != was)
}

func (f *fleet) restartRollout(now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rollout.Restart()
	f.replan(now, true)
}

func (f *fleet) setRealms(realms []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.realms = realms
}

// realmOf is the realm that contains the URL: of several the one that is asked
// for, as a prerender server does it, else the most specific; "" for none.
func (f *fleet) realmOf(raw, asked string) (best string) {
	asked, _ = wire.NormalizeURL(asked)
	url, ok := wire.NormalizeURL(raw)
	if !ok {
		return ""
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, realm := range f.realms {
		switch {
		case url != realm && !strings.HasPrefix(url, realm+"/"):
		case realm == asked:
			return realm
		case len(realm) > len(best):
			best = realm
		}
	}
	return best
}
