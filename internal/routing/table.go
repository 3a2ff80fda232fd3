package routing

import (
	"maps"
	"slices"
	"time"
)

// Table is what one manager remembers: which servers an affinity is assigned
// to, and when it was last asked for. It is not safe for concurrent use.
type Table struct {
	multiplex    int
	keys         map[string]assignment
	byServer     map[string]map[string]struct{} // the keys of each server URL: the inverse of keys
	lastAssigned map[string]time.Time           // by server URL
}

type assignment struct {
	servers  []string // oldest first, at most the multiplex
	lastUsed time.Time
}

// maxKeys bounds what is remembered: a caller chooses affinity values freely.
const maxKeys = 10_000

// NewTable returns an empty table that assigns an affinity to at most
// multiplex servers (at least one).
func NewTable(multiplex int) *Table {
	t := &Table{multiplex: max(1, multiplex)}
	t.Reset()
	return t
}

// Reset forgets every assignment.
func (t *Table) Reset() {
	t.keys = map[string]assignment{}
	t.byServer = map[string]map[string]struct{}{}
	t.lastAssigned = map[string]time.Time{}
}

// Choice is where a request goes.
type Choice struct {
	URL string
	// Evicts is the affinity that gives the server up for it; "" for none.
	Evicts string
}

// Choose picks a server for the request and assigns the affinity to it; ok is
// false when no server may be given it.
func (t *Table) Choose(now time.Time, servers []Server, r Request) (choice Choice, ok bool) {
	var best candidate
	for i := range servers {
		if !r.usable(&servers[i]) {
			continue
		}
		c := t.candidateOf(&servers[i], &r)
		if c.bucket != coldFull && (!ok || compare(c, best) < 0) {
			best, ok = c, true
		}
	}
	choice.URL = best.url
	if !ok {
		choice, ok = t.underPressure(servers, r)
	}
	if ok {
		t.assign(now, r.Key, choice)
	}
	return choice, ok
}

// underPressure is for a fleet without room: the least recently used affinity
// gives up one of its servers. When none of those may be used, the least busy
// server does it.
func (t *Table) underPressure(servers []Server, r Request) (Choice, bool) {
	usable := map[string]bool{}
	var least candidate
	for i := range servers {
		if !r.usable(&servers[i]) {
			continue
		}
		c := t.candidateOf(&servers[i], &r)
		c.bucket = 0
		if len(usable) == 0 || compare(c, least) < 0 {
			least = c
		}
		usable[c.url] = true
	}
	if len(usable) == 0 {
		return Choice{}, false
	}
	for _, key := range t.byLastUse() {
		for _, url := range t.keys[key].servers {
			if usable[url] && key != r.Key {
				return Choice{URL: url, Evicts: key}, true
			}
		}
	}
	return Choice{URL: least.url}, true
}

func (t *Table) assign(now time.Time, key string, c Choice) {
	if c.Evicts != "" {
		t.Unassign(c.Evicts, c.URL)
	}
	if servers := t.keys[key].servers; !slices.Contains(servers, c.URL) && len(servers) == t.multiplex {
		t.Unassign(key, servers[0])
	}
	a := t.keys[key]
	if !slices.Contains(a.servers, c.URL) {
		a.servers = append(slices.Clone(a.servers), c.URL)
	}
	a.lastUsed = now
	t.keys[key] = a
	if t.byServer[c.URL] == nil {
		t.byServer[c.URL] = map[string]struct{}{}
	}
	t.byServer[c.URL][key] = struct{}{}
	t.lastAssigned[c.URL] = now
	if len(t.keys) > maxKeys {
		oldest := t.byLastUse()[0]
		for _, url := range t.Servers(oldest) {
			t.Unassign(oldest, url)
		}
	}
}

func (t *Table) byLastUse() []string {
	return slices.SortedFunc(maps.Keys(t.keys), func(a, b string) int {
		if c := t.keys[a].lastUsed.Compare(t.keys[b].lastUsed); c != 0 {
			return c
		}
		if a < b {
			return -1
		}
		return 1
	})
}

// Unassign takes the affinity from the server.
func (t *Table) Unassign(key, url string) {
	a, ok := t.keys[key]
	if !ok {
		return
	}
	delete(t.byServer[url], key)
	a.servers = slices.DeleteFunc(slices.Clone(a.servers), func(u string) bool { return u == url })
	if t.keys[key] = a; len(a.servers) == 0 {
		delete(t.keys, key)
	}
}

// Forget takes every affinity from a server that left.
func (t *Table) Forget(url string) {
	for _, key := range slices.Collect(maps.Keys(t.byServer[url])) {
		t.Unassign(key, url)
	}
	delete(t.byServer, url)
	delete(t.lastAssigned, url)
}

// Heard takes a heartbeat in: assignments of affinities that the server no
// longer keeps end, but not those in flight there, which it is about to warm.
// warmed is nil when the heartbeat did not say.
func (t *Table) Heard(url string, warmed []string, inFlight map[string]int) {
	if warmed == nil {
		return
	}
	keeps := make(map[string]bool, len(warmed))
	for _, key := range warmed {
		keeps[key] = true
	}
	for _, key := range slices.Collect(maps.Keys(t.byServer[url])) {
		if !keeps[key] && inFlight[key] == 0 {
			t.Unassign(key, url)
		}
	}
}

// Servers are those the affinity is assigned to, oldest first.
func (t *Table) Servers(key string) []string { return slices.Clone(t.keys[key].servers) }

// Affinities are the keys assigned to the server, sorted, with their last use.
func (t *Table) Affinities(url string) []Use {
	var out []Use
	for _, key := range slices.Sorted(maps.Keys(t.byServer[url])) {
		out = append(out, Use{Key: key, At: t.keys[key].lastUsed})
	}
	return out
}

// Use is when an affinity was last asked for.
type Use struct {
	Key string
	At  time.Time
}

// active counts the affinities that a server is busy with, by its own word and
// by what this manager gave it since.
func (t *Table) active(s *Server) int {
	keys := map[string]struct{}{}
	for _, key := range s.Warmed {
		keys[key] = struct{}{}
	}
	for key, v := range s.Vacancy {
		if v.TabCount > 0 {
			keys[key] = struct{}{}
		}
	}
	for key, n := range s.InFlight {
		if n > 0 {
			keys[key] = struct{}{}
		}
	}
	for key := range t.byServer[s.URL] {
		keys[key] = struct{}{}
	}
	return len(keys)
}
