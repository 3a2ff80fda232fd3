package bus

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

const (
	// maxMemory bounds the memory buckets together: registry, reporters, claims.
	maxMemory = 256 << 20
	// maxStore bounds what is on disk: releases are kilobytes, snapshots are
	// bounded by their bucket; the rest is room for the queue.
	maxStore = 16 << 30
)

// embed starts the store in this process and connects to it.
func embed(ctx context.Context, o Options) (b *Bus, err error) {
	dir := filepath.Join(o.DataDir, "nats")
	b = &Bus{}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.Close())
			b = nil
		}
	}()
	if b.lock, err = lock(dir); err != nil {
		return b, err
	}
	options, err := serverOptions(ctx, o, dir)
	if err != nil {
		return b, err
	}
	logger := &serverLog{log: o.Log}
	if b.server, err = server.NewServer(options); err != nil {
		b.server = nil
		return b, fmt.Errorf("bus: embedded store: %w", err)
	}
	b.server.SetLoggerV2(logger, false, false, false)
	b.server.Start()
	// After a fatal failure Start has returned, and waiting is in vain.
	if logger.fatal.Load() != nil || !b.server.ReadyForConnections(readyWithin) || !b.server.JetStreamEnabled() {
		if fatal := logger.fatal.Load(); fatal != nil {
			return b, fmt.Errorf("bus: embedded store in %s: %s", dir, *fatal)
		}
		return b, fmt.Errorf("bus: embedded store in %s: not ready within %s", dir, readyWithin)
	}
	if a, ok := b.server.Addr().(*net.TCPAddr); ok && o.Listen != "" {
		b.addr = a.String()
	}
	if b.conn, err = nats.Connect("", append(connectOptions(o), nats.InProcessServer(b.server))...); err != nil {
		return b, fmt.Errorf("bus: connect to the embedded store: %w", err)
	}
	if !b.conn.IsConnected() {
		return b, fmt.Errorf("bus: connect to the embedded store: %w", b.conn.LastError())
	}
	return b, nil
}

func serverOptions(ctx context.Context, o Options, dir string) (*server.Options, error) {
	options := &server.Options{
		ServerName: "rewarm",
		NoSigs:     true,
		JetStream:  true,
		StoreDir:   dir,
		SyncAlways: true,
		// A peer whose machine is gone is gone, as one knows on its side.
		PingInterval:       pingEvery,
		MaxPingsOut:        2,
		JetStreamMaxMemory: maxMemory,
		JetStreamMaxStore:  maxStore,
		Authorization:      o.Secret,
		DontListen:         o.Listen == "",
	}
	if o.Listen == "" {
		return options, nil
	}
	host, portText, err := net.SplitHostPort(o.Listen)
	if err != nil {
		return nil, fmt.Errorf("bus: listen address %q: %w", o.Listen, err)
	}
	port, err := strconv.Atoi(portText)
	if err != nil || port < 0 || port > 65535 {
		return nil, fmt.Errorf("bus: listen address %q: the port must be a number from 0 to 65535", o.Listen)
	}
	if err := probe(ctx, o.Listen); err != nil {
		if portText == defaultPort && errors.Is(err, syscall.EADDRINUSE) {
			return nil, fmt.Errorf("bus: cannot listen on %s: 4222 is also the prerender manager's HTTP port: use 4223 for --nats-listen: %w", o.Listen, err)
		}
		return nil, fmt.Errorf("bus: cannot listen on %s: end the process that has it, or choose another --nats-listen: %w", o.Listen, err)
	}
	options.Host, options.Port = host, port
	if port == 0 {
		options.Port = server.RANDOM_PORT
	}
	return options, nil
}

// lock takes the store's directory for this process. Two servers over one
// store destroy it. The lock ends with the process, however it ends.
func lock(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, unusable(dir, err)
	}
	name := filepath.Join(dir, "lock")
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, unusable(dir, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("bus: the store in %s is in use by another process: end that one, or choose another --data", dir)
		}
		return nil, fmt.Errorf("bus: lock %s: %w", name, err)
	}
	return f, nil
}

func unusable(dir string, err error) error {
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
		return fmt.Errorf("bus: the data directory is not writable: give this user write access to %s, or choose another --data: %w", dir, err)
	}
	return fmt.Errorf("bus: the data directory cannot be used: choose another --data: %w", err)
}

// serverLog passes the embedded server's log on. The server calls Fatalf for
// what should end a process of its own and goes on; what it said is kept for
// the error that Start returns.
type serverLog struct {
	log   *slog.Logger
	fatal atomic.Pointer[string]
}

func (l *serverLog) Fatalf(format string, v ...any) {
	message := fmt.Sprintf(format, v...)
	l.fatal.CompareAndSwap(nil, &message)
}
func (l *serverLog) Errorf(format string, v ...any) {
	l.log.Error("store", "message", fmt.Sprintf(format, v...))
}
func (l *serverLog) Warnf(format string, v ...any) {
	l.log.Debug("store", "message", fmt.Sprintf(format, v...))
}
func (l *serverLog) Noticef(format string, v ...any) {
	l.log.Debug("store", "message", fmt.Sprintf(format, v...))
}
func (l *serverLog) Debugf(string, ...any) {}
func (l *serverLog) Tracef(string, ...any) {}
