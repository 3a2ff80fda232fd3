// Package rollout decides which prerender servers may move their existing
// pages to the current release, and says how far the fleet has come. It is
// pure: state, what the servers said of themselves, and the time go in;
// permissions and a report come out.
//
// A release moves in waves of at most a quarter of the fleet, because a page
// that is being replaced takes a load from the realm server and a slot from
// the traffic. The first wave is one server, the canary: a release whose pages
// cannot be warmed then costs one server's recycle, not the fleet's.
package rollout

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/rewarm/rewarm/internal/words"
)

// Phase is where the fleet stands with respect to the current release.
type Phase string

// The phases, spelled as the wire spells them.
const (
	None     Phase = "none"     // no release is known
	Canary   Phase = "canary"   // one server moves, the others wait for it
	Rolling  Phase = "rolling"  // waves move
	Waiting  Phase = "waiting"  // nothing can move until the host, or a server, is there
	Paused   Phase = "paused"   // an operator holds the next wave back
	Complete Phase = "complete" // every live server has pages of the release only
	Failed   Phase = "failed"   // the servers that may move cannot
)

// Server is what a rollout knows of one live prerender server.
type Server struct {
	URL      string
	Draining bool
	Phase    words.Phase
	Detail   string
	// Desired is the token that the server says it may move its pages to. A
	// permission that another manager gave is seen here.
	Desired words.Token
	Pages   map[words.Token]int
}

// Moved reports whether the server has pages, and all are of token.
func (s Server) Moved(token words.Token) bool {
	return s.Pages[token] > 0 && !s.hasOther(token)
}

func (s Server) hasOther(token words.Token) bool {
	for t, n := range s.Pages {
		if t != token && n > 0 {
			return true
		}
	}
	return false
}

// Input is one moment of the fleet.
type Input struct {
	Now     time.Time
	Release words.Release // the current one; the zero value: none
	Servers []Server      // live ones only
	Paused  bool
	// StoreAway holds back new waves: a manager that cannot read the store may
	// not know the current release any more.
	StoreAway bool
	Canary    Check
}

// Check is what is known of the current release's takeover check, which the
// first server on the release is asked for. The zero value asks for none.
type Check struct {
	Wanted bool
	Passed bool
	Broken string // why the release must not go on; "" while nobody says so
}

// Plan is what a moment calls for.
type Plan struct {
	Phase  Phase
	Detail string // a sentence for people
	// CanaryPassed is whether some server is known to work on the release, and
	// its pages to survive the takeover where that is checked.
	CanaryPassed bool
	// Canary is the server that the release's pages can be checked on; "" while
	// there is none.
	Canary     string
	StartedAt  time.Time
	FinishedAt time.Time // zero while not complete
	Servers    []Step    // by URL
}

// Step is one server's part in a plan.
type Step struct {
	Server
	Permitted bool
}

// Permits reports whether the server may move its existing pages now.
func (p *Plan) Permits(url string) bool {
	i, found := slices.BinarySearchFunc(p.Servers, url, func(s Step, url string) int { return cmp.Compare(s.URL, url) })
	return found && p.Servers[i].Permitted
}

// Rollout carries what must outlast a moment: permissions are sticky for a
// release. The zero value is ready; it is not safe for concurrent use. A
// manager that starts anew finds its permissions again in what servers say.
type Rollout struct {
	sequence     uint64
	permitted    map[string]bool
	canary       string // has only pages of the release; the first that did, while it is live
	canaryPassed bool
	finishedAt   time.Time
}

// Restart forgets every permission, so that the current release rolls out
// from its canary again. Servers that have heard theirs keep it.
func (r *Rollout) Restart() { *r = Rollout{} }

// Budget is how many of n servers may be moving at a time.
func Budget(n int) int { return max(1, n/4) }

// Next takes the fleet as it is and returns what is permitted now.
func (r *Rollout) Next(in Input) Plan {
	if in.Release.Sequence == 0 {
		*r = Rollout{}
		return Plan{Phase: None, Detail: "no release has been reported yet", Servers: steps(in.Servers, nil)}
	}
	if in.Release.Sequence != r.sequence || r.permitted == nil {
		*r = Rollout{sequence: in.Release.Sequence, permitted: map[string]bool{}}
	}
	token := in.Release.Token
	servers := slices.SortedFunc(slices.Values(in.Servers), func(a, b Server) int { return cmp.Compare(a.URL, b.URL) })
	r.adopt(token, servers)
	r.canaryPassed = in.Canary.Broken == "" && (r.canaryPassed || r.canary != "" && (!in.Canary.Wanted || in.Canary.Passed))
	r.advance(token, servers, in.Paused || in.StoreAway || in.Canary.Broken != "")

	plan := Plan{CanaryPassed: r.canaryPassed, Canary: r.canary, StartedAt: in.Release.Since, Servers: steps(servers, r.permitted)}
	plan.Phase, plan.Detail = r.judge(in, servers)
	if plan.Phase != Complete {
		r.finishedAt = time.Time{}
	} else if r.finishedAt.IsZero() {
		r.finishedAt = in.Now
	}
	plan.FinishedAt = r.finishedAt
	return plan
}

// adopt takes over what the servers' own words imply: permissions given by
// another manager, and who is on the release already.
func (r *Rollout) adopt(token words.Token, servers []Server) {
	if !slices.ContainsFunc(servers, func(s Server) bool { return s.URL == r.canary && !s.Draining }) {
		r.canary = ""
	}
	for _, s := range servers {
		if s.Moved(token) && !s.Draining && r.canary == "" {
			r.canary = s.URL
		}
		// A server without pages of another release has nothing to move: its
		// permission costs nobody anything.
		if s.Desired == token || !s.hasOther(token) {
			r.permitted[s.URL] = true
		}
	}
	// A server that is gone gives its permission back: it may return with
	// other pages, at a time when the budget is spent.
	maps.DeleteFunc(r.permitted, func(url string, _ bool) bool {
		return !slices.ContainsFunc(servers, func(s Server) bool { return s.URL == url })
	})
}

// advance permits as many more servers as the budget leaves.
func (r *Rollout) advance(token words.Token, servers []Server, held bool) {
	if held {
		return
	}
	live, moving := 0, 0
	for _, s := range servers {
		if s.Draining {
			continue
		}
		live++
		if r.permitted[s.URL] && s.hasOther(token) {
			moving++
		}
	}
	budget := Budget(live)
	switch {
	case r.canary != "" && !r.canaryPassed:
		return // its pages are being checked
	case !r.canaryPassed:
		budget = 1
	}
	for _, s := range servers {
		if moving >= budget {
			return
		}
		if !s.Draining && !r.permitted[s.URL] {
			r.permitted[s.URL] = true
			moving++
		}
	}
}

func steps(servers []Server, permitted map[string]bool) []Step {
	out := make([]Step, 0, len(servers))
	for _, s := range servers {
		out = append(out, Step{Server: s, Permitted: permitted[s.URL]})
	}
	slices.SortFunc(out, func(a, b Step) int { return cmp.Compare(a.URL, b.URL) })
	return out
}
