package manager

import (
	"context"
	"errors"
	"time"

	"github.com/rewarm/rewarm/internal/ledger"
)

const (
	// tickInterval is how often time passes over releases and rollout, and how
	// soon an absent store is noticed. A fifth of the presence interval.
	tickInterval = time.Second
	// storeCall bounds what the loops ask of the store at a time.
	storeCall = 5 * time.Second
	// rewatchAfter is the pause before a broken watch is made again.
	rewatchAfter = 500 * time.Millisecond
)

// load reads what the store knows before the first request is answered. A
// store that is away delays that for storeCall at most.
func (m *Manager) load(ctx context.Context) {
	bounded, cancel := context.WithTimeout(ctx, storeCall)
	defer cancel()
	m.tickOnce(bounded)
	servers, err := m.store.Servers(bounded)
	if err != nil {
		m.log.Warn("the registry cannot be read; starting without", "error", err)
	}
	for _, s := range servers {
		m.fleet.heardElsewhere(time.Now(), s)
	}
}

// tick lets time pass: the rollback by redeploying, what an operator said at
// another manager, whether the store answers, and the sweep.
func (m *Manager) tick(ctx context.Context) {
	ticker := time.NewTicker(tickInterval)
	defer ticker.Stop()
	sweep := time.NewTicker(m.options.SweepInterval)
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-sweep.C:
			for _, url := range m.fleet.sweep(time.Now()) {
				m.log.Warn("server left", "server", url, "reason", "not heard from", "timeout", m.options.HeartbeatTimeout)
			}
		case <-ticker.C:
			m.tickOnce(ctx)
		}
	}
}

func (m *Manager) tickOnce(ctx context.Context) {
	bounded, cancel := context.WithTimeout(ctx, storeCall)
	defer cancel()
	err := m.releases.tick(bounded)
	var control ledger.Control
	if err == nil {
		control, err = m.store.Control(bounded)
	}
	if err == nil {
		err = m.readCanary(bounded)
	}
	if ctx.Err() != nil {
		return
	}
	m.sayStore(err)
	m.fleet.setAway(time.Now(), err != nil)
	if err == nil {
		m.fleet.setControl(time.Now(), control)
	}
}

// sayStore logs when the store goes away and when it is back, not in between.
func (m *Manager) sayStore(err error) {
	switch was := m.storeAway.Swap(err != nil); {
	case err != nil && !was:
		m.log.Error("the store is away: reports are refused, no wave advances", "error", err)
	case err == nil && was:
		m.log.Info("the store answers again")
	}
}

// watchReleases follows what other managers record.
func (m *Manager) watchReleases(ctx context.Context) {
	rewatch(ctx, func() error {
		watch, err := m.store.WatchReleases(ctx)
		if err != nil {
			return err
		}
		defer watch.Stop()
		for {
			state, _, err := watch.Next(ctx)
			if err != nil {
				return err
			}
			m.releases.learn(time.Now(), state, nil)
		}
	})
}

// watchServers follows the servers that other managers hear from.
func (m *Manager) watchServers(ctx context.Context) {
	rewatch(ctx, func() error {
		watch, err := m.store.WatchServers(ctx)
		if err != nil {
			return err
		}
		defer watch.Stop()
		for {
			s, gone, err := watch.Next(ctx)
			switch {
			case err != nil:
				return err
			case !gone:
				m.fleet.heardElsewhere(time.Now(), s)
			case m.fleet.goneElsewhere(time.Now(), s.Heartbeat.URL):
				m.log.Info("server left", "server", s.Heartbeat.URL, "reason", "unregistered at another manager")
			}
		}
	})
}

// rewatch runs watch again whenever it breaks, until ctx ends. What broke it
// is the store being away, which the tick reports.
func rewatch(ctx context.Context, watch func() error) {
	for ctx.Err() == nil {
		if err := watch(); err == nil || ctx.Err() != nil {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(rewatchAfter):
		}
	}
}

// writeServers is the only writer of the registry in the store, so that a
// registration and the deletion after it arrive in that order.
func (m *Manager) writeServers(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.fleet.wake:
		}
		for _, url := range m.fleet.takeDirty() {
			if err := m.writeServer(ctx, url); err == nil || ctx.Err() != nil {
				continue
			}
			m.fleet.retryLater(url)
			select { // the store is away: do not turn in circles
			case <-ctx.Done():
				return
			case <-time.After(rewatchAfter):
			}
		}
	}
}

func (m *Manager) writeServer(ctx context.Context, url string) error {
	record, present := m.fleet.record(time.Now(), url)
	if present {
		return m.store.PutServer(ctx, record)
	}
	if err := m.store.DeleteServer(ctx, url); err != nil && !errors.Is(err, ledger.ErrInvalid) {
		return err
	}
	return nil
}

func (f *fleet) takeDirty() (urls []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for url := range f.dirty {
		urls = append(urls, url)
	}
	clear(f.dirty)
	return urls
}

func (f *fleet) retryLater(url string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.markDirty(url)
}

// record is what the store is to know of a server; present is false when it is
// to be deleted there.
func (f *fleet) record(now time.Time, url string) (r ledger.Server, present bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.servers[url]
	if s == nil {
		return ledger.Server{}, false
	}
	s.storedAt = now
	return ledger.Server{Heartbeat: s.heartbeat, RegisteredAt: s.registeredAt, LastSeenAt: s.lastSeenAt}, true
}
