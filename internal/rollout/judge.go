package rollout

import (
	"fmt"

	"github.com/rewarm/rewarm/internal/words"
)

// PausedDetail is what a pause means under immediate promotion: the realm has
// switched already, the fleet has not.
const PausedDetail = "paused: the fleet keeps its old pages, nothing of the new release is stored, and visitors get the new bare shell; resume moves the fleet"

// tally is the fleet counted by what the phase depends on. Draining servers
// are on their way out and count for nothing.
type tally struct {
	live, moved             int
	moving, failed, waiting int
	firstFailed             Server
	firstWaiting            Server
	held                    int // not permitted yet
}

func (r *Rollout) count(token words.Token, servers []Server) tally {
	var t tally
	for _, s := range servers {
		if s.Draining {
			continue
		}
		t.live++
		switch {
		case s.Moved(token):
			t.moved++
			continue
		case !r.permitted[s.URL]:
			t.held++
			continue
		}
		t.moving++
		if s.Phase == words.PhaseFailed {
			if t.failed++; t.failed == 1 {
				t.firstFailed = s
			}
		}
		// Before it has heard of its permission a server waits for just that;
		// afterwards it waits for the host.
		if s.Phase == words.PhaseWaiting && s.Desired == token {
			if t.waiting++; t.waiting == 1 {
				t.firstWaiting = s
			}
		}
	}
	return t
}

// judge puts the fleet's state into a phase and a sentence.
func (r *Rollout) judge(in Input, servers []Server) (Phase, string) {
	t := r.count(in.Release.Token, servers)
	of := fmt.Sprintf("%d of %d servers have only pages of release %d", t.moved, t.live, in.Release.Sequence)
	switch {
	case t.live == 0:
		return Waiting, "no prerender server is live"
	case in.Canary.Broken != "":
		return Paused, "paused by the canary: " + in.Canary.Broken + " (" + of + "); undo goes back to the release before, resume goes on with this one"
	case t.moved == t.live && !r.canaryPassed:
		return Canary, of + "; its pages' takeover is being checked"
	case t.moved == t.live && in.Paused:
		return Complete, of + "; paused: the next release will wait for resume"
	case t.moved == t.live:
		return Complete, of
	case t.moving > 0 && t.failed == t.moving:
		return Failed, of + "; " + t.firstFailed.URL + " cannot warm pages: " + or(t.firstFailed.Detail, "no reason given")
	case in.Paused:
		return Paused, PausedDetail + " (" + of + ")"
	case in.StoreAway:
		return Waiting, of + "; the store is away, no wave advances"
	case t.moving > 0 && t.failed+t.waiting == t.moving:
		return Waiting, of + "; " + t.firstWaiting.URL + " waits: " + or(t.firstWaiting.Detail, "no reason given")
	case !r.canaryPassed:
		return Canary, of + "; the others wait for the canary"
	}
	return Rolling, of
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
