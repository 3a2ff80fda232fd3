package prerender

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/rewarm/rewarm/internal/client"
	"github.com/rewarm/rewarm/internal/pool"
	"github.com/rewarm/rewarm/internal/wire"
)

// Bounds of the heartbeats.
const (
	// unregisterTimeout is how long leaving waits for the manager; it finds out
	// by itself otherwise.
	unregisterTimeout = 2 * time.Second
	// quietFor gathers changes that come together (a page closed, a page warm)
	// into one heartbeat.
	quietFor = 20 * time.Millisecond
)

// beat tells the manager what this server's pages are until ctx ends: one
// heartbeat that the manager holds until it has orders, and beside it one for
// each change. A manager that is away is asked again; renders do not wait.
func (s *Server) beat(ctx context.Context) {
	if s.options.Manager == nil {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.beatOnChange(ctx)
	}()
	defer func() { <-done }()
	told := false // whether the log says how the manager is
	away := false
	for ctx.Err() == nil {
		began := time.Now()
		err := s.sendHeartbeat(ctx, s.options.HeartbeatInterval)
		if ctx.Err() != nil {
			return
		}
		if !told || (err != nil) != away {
			told, away = true, err != nil
			s.logManager(err)
		}
		switch {
		case err != nil:
			wait(ctx, min(time.Second, s.options.HeartbeatInterval))
		case time.Since(began) < quietFor:
			// Answered at once: either there were orders, which the next one
			// confirms, or this manager holds nothing and is not to be flooded.
			wait(ctx, min(100*time.Millisecond, s.options.HeartbeatInterval))
		}
	}
}

func (s *Server) logManager(err error) {
	if err != nil {
		s.options.Log.Warn("manager does not answer heartbeats; rendering goes on", "manager", s.options.Manager.URL, "error", err)
		return
	}
	s.options.Log.Info("registered", "manager", s.options.Manager.URL, "url", s.url)
}

// beatOnChange sends an ordinary heartbeat whenever what it would say differs
// from what was said last.
func (s *Server) beatOnChange(ctx context.Context) {
	var said string
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.keeper.changed:
		}
		wait(ctx, quietFor)
		if now := s.gist(); now != said && s.sendHeartbeat(ctx, 0) == nil {
			said = now
		}
	}
}

func (s *Server) sendHeartbeat(ctx context.Context, hold time.Duration) error {
	bounded, cancel := context.WithTimeout(ctx, hold+5*time.Second)
	defer cancel()
	orders, err := s.options.Manager.Heartbeat(bounded, s.heartbeat(), hold)
	if err != nil {
		return err
	}
	s.obey(orders)
	return nil
}

// obey takes the manager's orders to the pool.
func (s *Server) obey(orders client.Orders) {
	s.keeper.tell(func(p *pool.Pool, now time.Time) []pool.Action {
		actions := p.Learn(now, orders.Sequence, orders.Token)
		return append(actions, p.Permit(now, orders.Permitted)...)
	})
}

func (s *Server) heartbeat() wire.Heartbeat {
	status := s.keeper.status()
	beat := wire.Heartbeat{
		URL: s.url, Instance: s.instance, Capacity: status.Capacity, Status: "active",
		WarmedAffinities: []string{}, AffinityVacancy: map[string]wire.Vacancy{}, HostShell: shellStatus(status),
	}
	beat.HostShell.Skews = s.skews.Load()
	if s.drainer.Draining() {
		beat.Status = wire.StatusDraining
	}
	for _, o := range status.Owners {
		key := o.Affinity.Key()
		if o.Pages > 0 {
			beat.WarmedAffinities = append(beat.WarmedAffinities, key)
		}
		vacancy := wire.Vacancy{Idle: o.Idle, TabCount: o.Pages}
		if o.MaxPendingPriority >= 0 {
			vacancy.MaxPendingPriority = &o.MaxPendingPriority
		}
		beat.AffinityVacancy[key] = vacancy
	}
	return beat
}

// gist is what makes a change worth telling at once; which page is idle this
// millisecond is not, the manager counts what it has in flight.
func (s *Server) gist() string {
	status := s.keeper.status()
	var keys []string
	for _, o := range status.Owners {
		keys = append(keys, o.Affinity.Key())
	}
	slices.Sort(keys)
	return fmt.Sprint(status.Release, status.Permitted, status.Capacity, status.Pages, status.Phase, status.Detail, keys, s.skews.Load(), s.drainer.Draining())
}

func (s *Server) unregister(ctx context.Context) {
	if s.options.Manager == nil {
		return
	}
	bounded, cancel := context.WithTimeout(ctx, unregisterTimeout)
	defer cancel()
	if err := s.options.Manager.Unregister(bounded, s.url); err != nil {
		s.options.Log.Warn("not unregistered; the manager will notice", "error", err)
	}
}
