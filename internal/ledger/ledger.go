// Package ledger is the fleet's shared state, typed, over JetStream key-value
// buckets: releases and reporters, the registry of prerender servers,
// snapshots, module results, claims, command permits, and the queue of index
// jobs with what is known of their runs. Over the same connection realm servers
// lend each other files.
//
// Every value carries a version and is read tolerantly: version N works with
// N+1 on either side. A bucket that is missing is made when it is needed, for
// memory buckets do not survive a restart of a store that stands alone.
package ledger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// What a call can fail with, besides its context's error. Test with errors.Is.
var (
	// ErrAway: the store cannot be reached or does not answer. Whether a write
	// was stored is not known.
	ErrAway = errors.New("the store is away")
	// ErrConflict: somebody else wrote first; read again and decide again.
	ErrConflict = errors.New("changed by somebody else")
	// ErrPurged: pages of the realm were purged meanwhile; render it again.
	ErrPurged = errors.New("pages were purged meanwhile")
	// ErrTooLarge: beyond MaxSnapshotRaw, MaxSnapshotStored or MaxPermitBody;
	// nothing was stored.
	ErrTooLarge = errors.New("too large to store")
	// ErrFull: a size limit of the store is reached; nothing was stored.
	ErrFull = errors.New("the store is full")
	// ErrInvalid: the arguments can never be stored, as an empty token.
	ErrInvalid = errors.New("cannot be stored")
)

// version is what this code writes into values.
const version = 1

// Options of a ledger. The zero value is right for an embedded store.
type Options struct {
	Replicas int          // of every bucket that is created; default 1
	Log      *slog.Logger // default: discarded
	// Lazy: do not fail when the store is away at Open; buckets are made at
	// first use. For roles that work without a store.
	Lazy bool
	// SnapshotBytes bounds the snapshot bucket on disk; default 4 GiB.
	SnapshotBytes int64
	// CallTimeout bounds every call besides its context; default 5 s.
	CallTimeout time.Duration
	// AckWait is how long after its last sign of life a worker's job goes to
	// another worker; default 15 s. The same in the whole fleet.
	AckWait time.Duration
}

// Ledger is safe for concurrent use. It owns no goroutine, and not the
// connection.
type Ledger struct {
	nc      *nats.Conn
	js      jetstream.JetStream
	log     *slog.Logger
	timeout time.Duration

	releases, reporters, servers, claims, permits, snapshots *bucket
	modules, invalidations, runs, failures, progress         *bucket
	queue                                                    queue

	codec
}

// Open makes the buckets that are missing.
func Open(ctx context.Context, nc *nats.Conn, o Options) (*Ledger, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.CallTimeout <= 0 {
		o.CallTimeout = 5 * time.Second
	}
	if o.AckWait <= 0 {
		o.AckWait = ackWait
	}
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncTimeout(o.CallTimeout), jetstream.WithDefaultTimeout(o.CallTimeout))
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	l := &Ledger{nc: nc, js: js, log: o.Log, timeout: o.CallTimeout}
	if l.codec, err = newCodec(); err != nil {
		return nil, err
	}
	l.buckets(o)
	l.queue.replicas, l.queue.ackWait = max(1, o.Replicas), o.AckWait
	if o.Lazy {
		return l, nil
	}
	for _, b := range []*bucket{l.releases, l.reporters, l.servers, l.claims, l.permits, l.snapshots, l.modules, l.invalidations, l.runs, l.failures, l.progress} {
		if err := l.do(ctx, "open "+b.config.Bucket, b, func(context.Context, jetstream.KeyValue) error { return nil }); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// Ping asks the store for a sign of life: that the releases can be read.
func (l *Ledger) Ping(ctx context.Context) error {
	return l.do(ctx, "ping", l.releases, func(ctx context.Context, kv jetstream.KeyValue) error {
		_, err := kv.Status(ctx)
		return err
	})
}

// do runs one operation on a bucket, bounded, and once more when the bucket
// had vanished. Errors are those of this package or the context's.
func (l *Ledger) do(ctx context.Context, op string, b *bucket, f func(context.Context, jetstream.KeyValue) error) error {
	err := l.attempt(ctx, b, f)
	if gone(err) && ctx.Err() == nil {
		b.forget()
		err = l.attempt(ctx, b, f)
	}
	return classify(ctx, op, err)
}

func (l *Ledger) attempt(ctx context.Context, b *bucket, f func(context.Context, jetstream.KeyValue) error) error {
	return l.bounded(ctx, func(ctx context.Context) error {
		kv, err := b.open(ctx, l.js)
		if err != nil {
			return err
		}
		return f(ctx, kv)
	})
}

// bounded runs one call to the store within the time-out.
func (l *Ledger) bounded(ctx context.Context, f func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, l.timeout, fmt.Errorf("no answer within %s", l.timeout))
	defer cancel()
	// Asking a connection that is away would wait for the whole time-out.
	if !l.nc.IsConnected() {
		return nats.ErrDisconnected
	}
	if err := f(ctx); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return fmt.Errorf("%w: %w", cause, err)
		}
		return err
	}
	return nil
}

// classify makes err one of this package's. What is not known to be about the
// value is about the store.
func classify(ctx context.Context, op string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(context.Cause(ctx), context.Canceled) || errors.Is(ctx.Err(), context.Canceled) {
		return fmt.Errorf("ledger: %s: %w", op, context.Cause(ctx))
	}
	for _, known := range []error{ErrConflict, ErrTooLarge, ErrFull, ErrInvalid} {
		if errors.Is(err, known) {
			return fmt.Errorf("ledger: %s: %w", op, err)
		}
	}
	switch {
	case errors.Is(err, jetstream.ErrKeyRevisionMismatch), errors.Is(err, jetstream.ErrKeyExists):
		return fmt.Errorf("ledger: %s: %w: %w", op, ErrConflict, err)
	case errors.Is(err, jetstream.ErrInvalidKey):
		return fmt.Errorf("ledger: %s: %w: %w", op, ErrInvalid, err)
	case errors.Is(err, jetstream.ErrStreamMessageExceedsMaximum), errors.Is(err, nats.ErrMaxPayload):
		return fmt.Errorf("ledger: %s: %w: %w", op, ErrTooLarge, err)
	case full(err):
		return fmt.Errorf("ledger: %s: %w: %w", op, ErrFull, err)
	}
	return fmt.Errorf("ledger: %s: %w: %w", op, ErrAway, err)
}

// Codes of the server for a write that did not fit.
const (
	codeInsufficientResources jetstream.ErrorCode = 10023
	codeMemoryExceeded        jetstream.ErrorCode = 10028
	codeStorageExceeded       jetstream.ErrorCode = 10047
	codeStoreFailed           jetstream.ErrorCode = 10077
)

func full(err error) bool {
	e, ok := errors.AsType[jetstream.JetStreamError](err)
	if !ok || e.APIError() == nil {
		return false
	}
	switch e.APIError().ErrorCode {
	case codeInsufficientResources, codeMemoryExceeded, codeStorageExceeded, codeStoreFailed:
		return true
	}
	return false
}
