package realm

import (
	"context"
	"errors"
	"io"
	"os"
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
	// Borrow fails with [ledger.ErrAbsent] when no peer has the file.
	Borrow(ctx context.Context, name string, w io.Writer) (sum string, size int64, err error)
}

// Bounds of what is kept of borrowed files; when they are reached all are
// borrowed anew.
const (
	maxBorrowedFiles = 5000
	maxBorrowedBytes = 256 << 20
)

// borrowed are files of releases that this server has not got. They are behind
// every kept release, and a restart forgets them.
type borrowed struct {
	demands *demands

	mu    sync.Mutex
	files map[string]file
	until map[string]time.Time // of those that may change under their name
	bytes int64
}

func newBorrowed() *borrowed {
	return &borrowed{demands: newDemands(), files: map[string]file{}, until: map[string]time.Time{}}
}

func (b *borrowed) find(name string, now time.Time) (file, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f, ok := b.files[name]
	if until, changes := b.until[name]; changes && !now.Before(until) {
		ok = false
	}
	return f, ok
}

func (b *borrowed) add(name string, f file, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bytes += f.Size; len(b.files) >= maxBorrowedFiles || b.bytes > maxBorrowedBytes {
		clear(b.files)
		clear(b.until)
		b.bytes = f.Size
	}
	b.files[name] = f
	if !hashed(name) {
		b.until[name] = now.Add(demandHold)
	}
}

// all keeps the contents from being pruned.
func (b *borrowed) all() *release {
	b.mu.Lock()
	defer b.mu.Unlock()
	return (&release{}).plus(b.files)
}

// lend is what peers may have: the files of the releases kept here.
func (s *Server) lend(name string) (ledger.Lent, bool) {
	f, _, ok := s.releases.Load().find(name)
	return ledger.Lent{Sum: f.Sum, Size: f.Size, Open: func() (io.ReadSeekCloser, error) { return s.depot.open(f) }}, ok
}

// borrow is a file that no release here has, of a peer that has it.
func (s *Server) borrow(ctx context.Context, name string) (file, bool) {
	if s.o.Peers == nil {
		return file{}, false
	}
	if f, ok := s.borrowed.find(name, s.o.Now()); ok {
		return f, true
	}
	err := s.borrowed.demands.get(ctx, name, s.o.Now, func(ctx context.Context) error {
		in, err := s.depot.receive(func(w io.Writer) (string, int64, error) { return s.o.Peers.Borrow(ctx, name, w) })
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
	})
	if err != nil {
		if !errors.Is(err, ledger.ErrAbsent) && !errors.Is(err, context.Canceled) && !errors.Is(err, os.ErrNotExist) {
			s.o.Log.Debug("file not borrowed", "name", name, "error", err)
		}
		return file{}, false
	}
	return s.borrowed.find(name, s.o.Now())
}
