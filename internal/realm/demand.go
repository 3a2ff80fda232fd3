package realm

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/words"
)

// Bounds of files that are fetched from a host URL when they are asked for.
const (
	maxDemands  = 16 // fetched at a time; more wait
	demandTries = 3  // when a release is accepted meanwhile, or who asked first went away
	// demandHold is how long a file that could not be had is not asked for
	// again: short, for a deploy may be on its way.
	demandHold = 2 * time.Second
	maxHeld    = 1000
)

// errMoved is what keeping a file gives when another release became current
// while it was fetched: which release it is of is not known.
var errMoved = errors.New("another release became current")

// errBusy is what a file gets for whose fetch there was no room in time.
var errBusy = errors.New("too many files are being fetched")

// demands are the files being fetched, and those that could not be had.
type demands struct {
	slots    chan struct{}
	patience time.Duration // with a slot; 0: as long as who asks has

	mu      sync.Mutex
	flights map[string]*flight
	held    map[string]held
}

// flight is one fetch, however many ask.
type flight struct {
	done chan struct{}
	err  error // read after done
}

type held struct {
	err   error
	until time.Time
}

func newDemands(most int, patience time.Duration) *demands {
	return &demands{slots: make(chan struct{}, most), patience: patience, flights: map[string]*flight{}, held: map[string]held{}}
}

// forget makes every file asked for anew, as after a release was accepted.
func (d *demands) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.held)
}

// join is the flight for a file, and whether the caller is to fly it; or what
// came of the last one, if that was just now.
func (d *demands) join(name string, now time.Time) (f *flight, leads bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if h, ok := d.held[name]; ok && now.Before(h.until) {
		return nil, false, h.err
	}
	if f := d.flights[name]; f != nil {
		return f, false, nil
	}
	f = &flight{done: make(chan struct{})}
	d.flights[name] = f
	return f, true, nil
}

func (d *demands) land(name string, f *flight, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.flights, name)
	if holds(f.err) {
		for other, h := range d.held {
			if len(d.held) >= maxHeld && !now.Before(h.until) {
				delete(d.held, other)
			}
		}
		for other := range d.held {
			if len(d.held) >= maxHeld { // made-up names keep no other from being held
				delete(d.held, other)
			}
		}
		d.held[name] = held{f.err, now.Add(demandHold)}
	}
	close(f.done)
}

// retried tells what says nothing of the file.
func retried(err error) bool { return errors.Is(err, errMoved) || errors.Is(err, context.Canceled) }

// holds tells whether an error is held: busy says nothing of the file.
func holds(err error) bool { return err != nil && !retried(err) && !errors.Is(err, errBusy) }

// get is what came of fetching a file: of the flight under way, if there is one.
func (d *demands) get(ctx context.Context, name string, now func() time.Time, fetch func(ctx context.Context) error) error {
	for range demandTries {
		f, leads, err := d.join(name, now())
		switch {
		case err != nil:
			return err
		case leads:
			f.err = d.fly(ctx, fetch)
			d.land(name, f, now())
		default:
			select {
			case <-f.done:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if f.err == nil || !retried(f.err) || ctx.Err() != nil {
			return f.err
		}
	}
	return errMoved
}

func (d *demands) fly(ctx context.Context, fetch func(ctx context.Context) error) error {
	var late <-chan time.Time
	if d.patience > 0 {
		timer := time.NewTimer(d.patience)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case d.slots <- struct{}{}:
	case <-late:
		return errBusy
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-d.slots }()
	err := fetch(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// demand makes a file of the host the current release's, if the host has it.
// It returns nil, [errAbsent], or why the host could not say.
func (s *Server) demand(ctx context.Context, name string) error {
	return s.demands.get(ctx, name, s.o.Now, func(ctx context.Context) error {
		token := s.Token()
		in, err := s.depot.receive(func(w io.Writer) (string, int64, error) { return s.origin.fetchAsset(ctx, name, w) })
		if err == nil {
			err = s.keep(name, in, token)
		}
		if err != nil && !errors.Is(err, errAbsent) && !retried(err) && ctx.Err() == nil {
			s.o.Log.Warn("file not fetched from the host", "name", name, "token", token, "error", err)
		}
		return err
	})
}

// keep makes a received content a file of the current release, on disk too, so
// that it stays when the host has it no more. While another release is held
// only what carries its hash in its name stays.
func (s *Server) keep(name string, in incoming, token words.Token) error {
	s.switching.Lock()
	defer s.switching.Unlock()
	before := s.releases.Load()
	current, held := before.current(), before.held()
	// The host may have the held release by now, and this may be of it.
	passing := held != nil && !hashed(name)
	switch {
	case passing && !held.early(name):
		s.depot.drop(in)
		return errAbsent
	case current.token != token:
		s.depot.drop(in)
		return errMoved
	case len(current.files) >= maxReleaseFiles || current.bytes()+in.Size > maxReleaseBytes:
		s.depot.drop(in)
		return errTooLarge
	}
	f, err := s.depot.settle(in)
	if err != nil {
		return err
	}
	if passing {
		s.borrowed.add(name, f, s.o.Now())
		return nil
	}
	after := before.with(current.plus(map[string]file{name: f}))
	if err := s.depot.commit(after.current(), after.tokens()); err != nil {
		return err
	}
	s.releases.Store(after)
	return nil
}

// fromHost is what to answer with for a file: of a host URL, the releases with
// the file in them, if it is there and the current one lacks it. The name of a
// file that changes under it is the current release's first, an old release's
// only when the host has it no more.
func (s *Server) fromHost(r *http.Request, releases *releaseSet, name string) (*releaseSet, error) {
	if s.origin == nil {
		return releases, nil
	}
	if _, has := releases.current().files[name]; has {
		return releases, nil
	}
	_, immutable, found := releases.find(name)
	if found && immutable || !found && !isAsset(releases, r, name) {
		return releases, nil
	}
	err := s.demand(r.Context(), name)
	switch {
	case err == nil:
		return s.releases.Load(), nil
	case found || errors.Is(err, errAbsent):
		return releases, nil
	case r.Context().Err() != nil:
		return nil, r.Context().Err()
	}
	return nil, fault.Wrap(fault.Upstream, err, "the file cannot be fetched from the host: %v", err)
}

// poll looks whether a host URL has another shell, until ctx ends. A change is
// reported as presence: an edge of a CDN that fell back to an old copy is no
// decision to roll back.
func (s *Server) poll(ctx context.Context) {
	for {
		// Jitter: servers started together do not ask together.
		if wait(ctx, time.Duration((0.9+0.2*rand.Float64())*float64(s.o.HostPoll))) != nil {
			return
		}
		shell, err := s.origin.fetchShell(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil && words.TokenOf(shell) == s.releases.Load().found() && s.hostNote.Load() == nil:
			continue
		}
		// Also when the host failed: accept asks again and says what it found.
		o, err := s.accept(ctx)
		if err != nil {
			if ctx.Err() == nil {
				s.o.Log.Error("host not read", "error", err)
			}
			continue
		}
		if o.accepted && (o.current != o.previous || o.candidate != "") {
			select {
			case s.reports <- hookReport{source: words.SourcePresence}:
			default: // a report waits already, and reads what is current when it is sent
			}
		}
	}
}
