package prerender

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/rewarm/rewarm/internal/client"
	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/page"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

const (
	// maxRealms bounds the realms that a manager may teach.
	maxRealms = 500
	// learnTimeout bounds one question to the manager, and how long a render for
	// a realm that is not known waits for it.
	learnTimeout = 2 * time.Second
	// learnAgain spaces questions about realms that are not known: anyone who may
	// ask for renders may name them.
	learnAgain = time.Second
)

// realms are those that this server renders: the ones it was given, and those
// that realm servers report to the manager. The first gives the host shell; all
// have the same.
type realms struct {
	given  []string
	permit func([]string) []string // nil: all

	learning chan struct{} // holds an element while the manager is asked

	mu    sync.Mutex
	now   []string
	asked time.Time
}

func newRealms(given []string, permit func([]string) []string) *realms {
	return &realms{given: given, permit: permit, now: given, learning: make(chan struct{}, 1)}
}

// all is never empty. Nobody changes what it returns.
func (r *realms) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

// learn asks the manager for the realms, if nobody did since it was called.
func (r *realms) learn(ctx context.Context, manager *client.Manager) error {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, learnTimeout)
	defer cancel()
	select {
	case r.learning <- struct{}{}:
		defer func() { <-r.learning }()
	case <-ctx.Done():
		return ctx.Err()
	}
	r.mu.Lock()
	last := r.asked
	r.mu.Unlock()
	if last.After(began) {
		return nil
	}
	wait(ctx, time.Until(last.Add(learnAgain)))
	asked := time.Now()
	releases, err := manager.Releases(ctx)
	r.mu.Lock()
	r.asked = asked
	r.mu.Unlock()
	if err != nil {
		return err
	}
	found := r.order(releases)
	if r.permit != nil {
		found = r.permit(found)
	}
	if len(found) == 0 {
		return errors.New("none of the realms is permitted")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now = found
	return nil
}

// order puts those that are reported first, for pages are warmed in the first,
// and among them those that were given; what was given and is not reported may
// be gone, or the manager may be new.
func (r *realms) order(releases wire.Releases) (found []string) {
	reported := map[string]bool{}
	for _, reporter := range releases.Reporters {
		for _, raw := range reporter.Realms {
			if realm, ok := wire.NormalizeURL(raw); ok && len(reported) < maxRealms {
				reported[realm] = true
			}
		}
	}
	add := func(realm string) {
		if !slices.Contains(found, realm) {
			found = append(found, realm)
		}
	}
	for _, realm := range r.given {
		if reported[realm] {
			add(realm)
		}
	}
	for _, realm := range slices.Sorted(maps.Keys(reported)) {
		add(realm)
	}
	for _, realm := range r.given {
		add(realm)
	}
	return found
}

// keepRealms follows the realms that are reported until ctx ends.
func (s *Server) keepRealms(ctx context.Context) {
	if s.options.Manager == nil {
		return
	}
	known := s.realms.all()
	for ctx.Err() == nil {
		if err := s.realms.learn(ctx, s.options.Manager); err != nil {
			s.options.Log.Debug("realms not asked for", "error", err)
		}
		if now := s.realms.all(); !slices.Equal(now, known) {
			known = now
			s.options.Log.Info("realms", "realms", now)
		}
		wait(ctx, s.options.HeartbeatInterval)
	}
}

// placeOrLearn is place; for work that is in no known realm the manager is asked
// for the realms first, one of which may be new.
func (s *Server) placeOrLearn(r *http.Request, kind page.Kind, request *wire.VisitRequest, affinity words.Affinity, given bool) (string, error) {
	realm, err := s.place(kind, request, affinity, given)
	if fault.Is(err, fault.Forbidden) && s.options.Manager != nil && s.realms.learn(r.Context(), s.options.Manager) == nil {
		return s.place(kind, request, affinity, given)
	}
	return realm, err
}
