// Package routing decides which prerender server a render goes to. It is pure:
// the servers as they said they are, what is in flight, and the time go in; a
// server comes out, and the table of assignments remembers it.
//
// A warm page is the fleet's capital, so work goes where its affinity is warm
// and idle; then to a server that can warm it; then behind a busy page. Ties
// that nothing else breaks are broken by rendezvous hashing, so that managers
// that have never spoken agree about cold affinities.
package routing

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"time"

	"github.com/rewarm/rewarm/internal/words"
)

// Server is one usable prerender server: heard from within the heartbeat
// timeout. Draining ones may be passed; they are never chosen.
type Server struct {
	URL      string
	Capacity int // affinities it can keep
	Draining bool
	Warmed   []string           // affinity keys that own pages there
	Vacancy  map[string]Vacancy // by affinity key
	Pages    map[words.Token]int
	InFlight map[string]int // by affinity key: what this manager has there now
}

// Vacancy says whether an affinity's pages could take work when the server
// last said so.
type Vacancy struct {
	Idle     bool
	TabCount int
	// MaxPendingPriority is that of its queued work; nil: nothing is queued.
	MaxPendingPriority *int
}

// Request is what a render asks of a server.
type Request struct {
	Key      string // of the affinity
	Priority int
	Pin      words.Token         // "" takes any document
	Tried    map[string]struct{} // by URL: never chosen again for this request
	// Preferred is the current release once its canary has passed; "" before.
	Preferred words.Token
}

// bucket is how well a server suits an affinity; lower is better.
type bucket int

const (
	warmIdle bucket = iota
	coldWithCapacity
	warmBusy
	coldFull // no candidate
)

func (s *Server) bucketFor(key string, active int) bucket {
	v, told := s.Vacancy[key]
	warm := v.TabCount > 0 || !told && slices.Contains(s.Warmed, key)
	switch {
	// What is in flight is newer than the heartbeat that said idle. A server
	// that says nothing of vacancy is taken to have one page for the key.
	case warm && (v.Idle || !told) && s.InFlight[key] < max(1, v.TabCount):
		return warmIdle
	case warm:
		return warmBusy
	case active < s.Capacity:
		return coldWithCapacity
	}
	return coldFull
}

func (s *Server) inFlight() (n int) {
	for _, k := range s.InFlight {
		n += k
	}
	return n
}

// candidate is a server with what it is compared by, in this order.
type candidate struct {
	url          string
	offRelease   bool // not on the release that the canary has proved
	bucket       bucket
	unassigned   bool
	behind       bool // queued work there is not beaten by the request's priority
	active       int  // affinities it is busy with
	lastAssigned time.Time
	weight       uint64 // rendezvous: the higher wins
}

func compare(a, b candidate) int {
	return cmp.Or(
		compareBool(a.offRelease, b.offRelease),
		cmp.Compare(a.bucket, b.bucket),
		compareBool(a.unassigned, b.unassigned),
		compareBool(a.behind, b.behind),
		cmp.Compare(a.active, b.active),
		a.lastAssigned.Compare(b.lastAssigned),
		cmp.Compare(b.weight, a.weight),
		cmp.Compare(a.url, b.url),
	)
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// usable reports whether the server may be given the request at all.
func (r *Request) usable(s *Server) bool {
	_, tried := r.Tried[s.URL]
	return !tried && !s.Draining && (r.Pin == "" || s.Pages[r.Pin] > 0)
}

func (t *Table) candidateOf(s *Server, r *Request) candidate {
	active := t.active(s)
	c := candidate{
		url:          s.URL,
		bucket:       s.bucketFor(r.Key, active),
		unassigned:   !slices.Contains(t.keys[r.Key].servers, s.URL),
		active:       active,
		lastAssigned: t.lastAssigned[s.URL],
		weight:       rendezvous(r.Key, s.URL),
	}
	if p := s.Vacancy[r.Key].MaxPendingPriority; p != nil {
		c.behind = r.Priority <= *p
	}
	if r.Preferred != "" {
		c.offRelease = s.Pages[r.Preferred] == 0 || s.inFlight() >= s.Capacity
	}
	return c
}

// rendezvous weighs a server for a key: every manager computes the same.
func rendezvous(key, url string) uint64 {
	sum := sha256.Sum256([]byte(key + "\x00" + url))
	return binary.BigEndian.Uint64(sum[:8])
}
