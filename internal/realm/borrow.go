package realm

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/rewarm/rewarm/internal/ledger"
)

// Peers are the other realm servers of the fleet. In a rolling deploy they serve
// different releases side by side, and a load balancer sends the shell's reader
// to one and the reader of its scripts to another.
type Peers interface {
	// Lend answers peers until ctx ends.
	Lend(ctx context.Context, find func(name string) (ledger.Lent, bool)) error
	// Find fails with [ledger.ErrAbsent] when no peer has the file.
	Find(ctx context.Context, name string) (ledger.Offer, error)
	Fetch(ctx context.Context, offer ledger.Offer, w io.Writer) error
}

// Bounds of borrowing. What is kept is borrowed anew once they are reached.
const (
	maxBorrowing     = 64
	maxBorrowedFiles = 5000
	maxBorrowedBytes = 256 << 20
	maxBriefFiles    = 200
	// borrowPatience is how long a visitor waits for the turn of a file that
	// most likely nobody has: names can be made up.
	borrowPatience = 300 * time.Millisecond
)

// borrowed are files of releases that this server has not got. They are behind
// every kept release, and a restart forgets them.
type borrowed struct {
	demands *demands

	mu    sync.Mutex
	files map[string]file // whose names carry a hash
	bytes int64           // of those
	brief map[string]brief
}

// brief is a file that may change under its name.
type brief struct {
	file
	until time.Time
}

func newBorrowed() *borrowed {
	return &borrowed{demands: newDemands(maxBorrowing, borrowPatience), files: map[string]file{}, brief: map[string]brief{}}
}

func (b *borrowed) find(name string, now time.Time) (file, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if f, ok := b.files[name]; ok {
		return f, true
	}
	f, ok := b.brief[name]
	return f.file, ok && now.Before(f.until)
}

func (b *borrowed) add(name string, f file, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !hashed(name) {
		if len(b.brief) >= maxBriefFiles {
			clear(b.brief)
		}
		b.brief[name] = brief{f, now.Add(demandHold)}
		return
	}
	if b.bytes += f.Size - b.files[name].Size; len(b.files) >= maxBorrowedFiles || b.bytes > maxBorrowedBytes {
		clear(b.files)
		b.bytes = f.Size
	}
	b.files[name] = f
}

// all keeps the contents from being pruned.
func (b *borrowed) all() *release {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := (&release{}).plus(b.files)
	for name, f := range b.brief {
		all.files[name] = f.file
	}
	return all
}

// lend is what peers may have: the files of the releases kept here. Of a release
// that visitors are not to get yet, only what they cannot come upon.
func (s *Server) lend(name string) (ledger.Lent, bool) {
	releases := s.releases.Load()
	f, _, ok := releases.find(name)
	if ok && s.unpromoted() != "" {
		ok = releases.current().early(name)
	}
	return ledger.Lent{Sum: f.Sum, Size: f.Size, Open: func() (io.ReadSeekCloser, error) { return s.depot.open(f) }}, ok
}

// borrow is a file that no release here has, of a peer that has it.
func (s *Server) borrow(ctx context.Context, name string) (file, bool) {
	if f, ok := s.borrowed.find(name, s.o.Now()); ok || s.o.Peers == nil {
		return f, ok
	}
	err := s.borrowed.demands.get(ctx, name, s.o.Now, func(ctx context.Context) error { return s.fetchLent(ctx, name) })
	if err != nil {
		if !errors.Is(err, ledger.ErrAbsent) && ctx.Err() == nil {
			s.o.Log.Debug("file not borrowed", "name", name, "error", err)
		}
		return file{}, false
	}
	return s.borrowed.find(name, s.o.Now())
}

func (s *Server) fetchLent(ctx context.Context, name string) error {
	offer, err := s.o.Peers.Find(ctx, name)
	if err != nil {
		return err
	}
	in, err := s.depot.receive(func(w io.Writer) (string, int64, error) { return offer.Sum, offer.Size, s.o.Peers.Fetch(ctx, offer, w) })
	if err != nil {
		return err
	}
	s.switching.Lock() // nothing is pruned between the content and its name
	defer s.switching.Unlock()
	f, err := s.depot.settle(in)
	if err != nil {
		return err
	}
	s.borrowed.add(name, f, s.o.Now())
	return nil
}
