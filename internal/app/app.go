// Package app wires the roles: it turns options into running processes, one
// role or all of them, and takes them down in the reverse order.
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/rewarm/rewarm/internal/bus"
	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/ledger"
)

// stack is the teardown of what was acquired: each step is registered on the
// line after its acquisition, and run in the reverse order.
type stack struct{ steps []func() error }

func (s *stack) push(step func() error) { s.steps = append(s.steps, step) }

func (s *stack) unwind() error {
	var errs []error
	for i := len(s.steps) - 1; i >= 0; i-- {
		errs = append(errs, s.steps[i]())
	}
	s.steps = nil
	return errors.Join(errs...)
}

// Role is one of the processes: New bound its listener, Run serves until ctx
// ends.
type Role interface {
	Run(ctx context.Context) error
}

// runAll runs the roles until ctx ends or one of them fails; then all end. They
// are stopped in the order given: what calls others stops before them.
func runAll(ctx context.Context, roles ...Role) error {
	var (
		running sync.WaitGroup
		mu      sync.Mutex
		errs    []error
	)
	failed, fail := context.WithCancel(ctx)
	defer fail()
	var ended []chan struct{}
	for i, role := range roles {
		alive, stop := context.WithCancel(context.WithoutCancel(ctx))
		end := make(chan struct{})
		ended = append(ended, end)
		running.Go(func() {
			<-failed.Done()
			if i > 0 {
				<-ended[i-1]
			}
			stop()
		})
		running.Go(func() {
			defer close(end)
			defer fail()
			if err := role.Run(alive); err != nil {
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
			}
		})
	}
	running.Wait()
	return errors.Join(errs...)
}

// openStore connects to the store, embedded unless there are URLs.
func openStore(ctx context.Context, o bus.Options, replicas int, teardown *stack) (*ledger.Ledger, error) {
	connection, err := bus.Start(ctx, o)
	if err != nil {
		return nil, err
	}
	teardown.push(connection.Close)
	store, err := ledger.Open(ctx, connection.Conn(), ledger.Options{Replicas: replicas, Log: o.Log, Lazy: o.Lazy})
	if err != nil {
		return nil, err
	}
	return store, nil
}

// takeDir makes a role's directory below the data directory and locks it for
// this process: two processes over one directory would remove each other's
// files. The lock ends with the process, however it ends.
func takeDir(data, role string, log *slog.Logger, teardown *stack) (string, error) {
	dir := filepath.Join(data, role)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fault.Wrap(fault.Internal, err, "%s: data directory %s cannot be made; choose another with --data", role, dir)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", fault.Wrap(fault.Internal, err, "%s: data directory %s is not writable; choose another with --data", role, dir)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close()
		return "", fault.Wrap(fault.Internal, err, "%s: data directory %s is in use by another rewarm; stop it, or choose another with --data", role, dir)
	}
	teardown.push(func() error {
		if err := lock.Close(); err != nil {
			return fmt.Errorf("unlock %s: %w", dir, err)
		}
		return nil
	})
	log.Debug("directory locked", "dir", dir)
	return dir, nil
}
