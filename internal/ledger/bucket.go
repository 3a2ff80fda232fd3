package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rewarm/rewarm/internal/release"
)

const (
	// RegistryTTL is how long a prerender server stays in the registry after
	// its last write: three times the heartbeat timeout, so that a manager that
	// writes at a third of it never lets a live one expire.
	RegistryTTL = 90 * time.Second
	// PermitTTL is how long a command's outcome is repeated (protocol, Commands).
	PermitTTL = time.Hour
	// SnapshotTTL is the longest that a snapshot is kept (design, One store).
	SnapshotTTL = 7 * 24 * time.Hour

	// ModuleTTL is the longest that a module's result is kept.
	ModuleTTL = SnapshotTTL
	// failureTTL is how long it is remembered why a page is not indexed.
	failureTTL = SnapshotTTL
	// InvalidationTTL outlasts every module that an invalidation is about.
	InvalidationTTL = ModuleTTL + 24*time.Hour
	progressTTL     = 24 * time.Hour

	snapshotBytes = 4 << 30
	moduleBytes   = 1 << 30
	smallBytes    = 32 << 20
)

// bucket is a key-value bucket, made when it is first needed.
type bucket struct {
	config jetstream.KeyValueConfig

	mu sync.Mutex
	kv jetstream.KeyValue // nil: not known to exist
}

func (l *Ledger) buckets(o Options) {
	define := func(c jetstream.KeyValueConfig) *bucket {
		c.Replicas = max(1, o.Replicas)
		c.History = 1
		if c.MaxBytes == 0 {
			c.MaxBytes = smallBytes
		}
		return &bucket{config: c}
	}
	if o.SnapshotBytes <= 0 {
		o.SnapshotBytes = snapshotBytes
	}
	l.releases = define(jetstream.KeyValueConfig{Bucket: "rewarm_releases"})
	l.permits = define(jetstream.KeyValueConfig{Bucket: "rewarm_commands", TTL: PermitTTL, MaxBytes: 8 * smallBytes})
	l.snapshots = define(jetstream.KeyValueConfig{Bucket: "rewarm_snapshots", TTL: SnapshotTTL, MaxBytes: o.SnapshotBytes})
	l.reporters = define(jetstream.KeyValueConfig{Bucket: "rewarm_reporters", TTL: release.RememberFor, Storage: jetstream.FileStorage})
	l.modules = define(jetstream.KeyValueConfig{Bucket: "rewarm_modules", TTL: ModuleTTL, MaxBytes: moduleBytes})
	l.invalidations = define(jetstream.KeyValueConfig{Bucket: "rewarm_invalidations", TTL: InvalidationTTL, MaxBytes: 4 * smallBytes})
	l.runs = define(jetstream.KeyValueConfig{Bucket: "rewarm_runs"})
	l.failures = define(jetstream.KeyValueConfig{Bucket: "rewarm_failures", TTL: failureTTL, MaxBytes: 8 * smallBytes})
	l.progress = define(jetstream.KeyValueConfig{Bucket: "rewarm_progress", TTL: progressTTL, Storage: jetstream.MemoryStorage})
	// Markers make watchers hear of an expiry, and keys have times of their own.
	l.servers = define(jetstream.KeyValueConfig{Bucket: "rewarm_servers", TTL: RegistryTTL, Storage: jetstream.MemoryStorage, LimitMarkerTTL: RegistryTTL})
	l.claims = define(jetstream.KeyValueConfig{Bucket: "rewarm_claims", Storage: jetstream.MemoryStorage, LimitMarkerTTL: time.Second})
}

// open returns the bucket and makes it if it is missing. One that exists is
// taken as it is: another version of this program may have made it.
func (b *bucket) open(ctx context.Context, js jetstream.JetStream) (jetstream.KeyValue, error) {
	b.mu.Lock()
	kv := b.kv
	b.mu.Unlock()
	if kv != nil {
		return kv, nil
	}
	kv, err := js.KeyValue(ctx, b.config.Bucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		kv, err = js.CreateKeyValue(ctx, b.config)
		if errors.Is(err, jetstream.ErrBucketExists) {
			kv, err = js.KeyValue(ctx, b.config.Bucket)
		}
	}
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	b.kv = kv
	b.mu.Unlock()
	return kv, nil
}

func (b *bucket) forget() {
	b.mu.Lock()
	b.kv = nil
	b.mu.Unlock()
}

// gone reports whether err is what a vanished bucket answers.
func gone(err error) bool {
	return errors.Is(err, jetstream.ErrNoStreamResponse) || errors.Is(err, nats.ErrNoResponders) ||
		errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrBucketNotFound) ||
		errors.Is(err, nats.ErrStreamNotFound)
}

// get decodes the value of key into v; found is false when there is none.
func (l *Ledger) get(ctx context.Context, op string, b *bucket, key string, v any) (revision uint64, found bool, err error) {
	err = l.do(ctx, op, b, func(ctx context.Context, kv jetstream.KeyValue) error {
		entry, err := kv.Get(ctx, key)
		if errors.Is(err, jetstream.ErrKeyNotFound) {
			revision, found = 0, false
			return nil
		}
		if err != nil {
			return err
		}
		revision, found = entry.Revision(), true
		return json.Unmarshal(entry.Value(), v)
	})
	return revision, found, err
}

func (l *Ledger) put(ctx context.Context, op string, b *bucket, key string, v any) error {
	value, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("ledger: %s: %w: %w", op, ErrInvalid, err)
	}
	return l.do(ctx, op, b, func(ctx context.Context, kv jetstream.KeyValue) error {
		_, err := kv.Put(ctx, key, value)
		return err
	})
}

// remove deletes key; one that is not there is no error.
func (l *Ledger) remove(ctx context.Context, op string, b *bucket, key string) error {
	return l.do(ctx, op, b, func(ctx context.Context, kv jetstream.KeyValue) error {
		err := kv.Purge(ctx, key)
		if errors.Is(err, jetstream.ErrKeyNotFound) {
			return nil
		}
		return err
	})
}

// scan hands every value below filter ("" is all) to each, one at a time. It is
// the time between two that is bounded: there may be many thousands.
func (l *Ledger) scan(ctx context.Context, op string, b *bucket, filter string, each func(jetstream.KeyValueEntry)) error {
	if filter == "" {
		filter = jetstream.AllKeys
	}
	return l.do(ctx, op, b, func(_ context.Context, kv jetstream.KeyValue) error {
		w, err := kv.Watch(ctx, filter, jetstream.IgnoreDeletes())
		if err != nil {
			return err
		}
		defer stop(w)
		silent := time.NewTimer(l.timeout)
		defer silent.Stop()
		for {
			select {
			case entry, open := <-w.Updates():
				if !open {
					return errors.New("the listing ended early")
				}
				if entry == nil {
					return nil
				}
				each(entry)
				silent.Reset(l.timeout)
			case <-silent.C:
				return fmt.Errorf("nothing within %s", l.timeout)
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	})
}

// stop ends a watch and takes what it still has to say: its goroutine would
// otherwise stay in a full channel.
func stop(w jetstream.KeyWatcher) {
	_ = w.Stop()
	last := time.NewTimer(time.Second)
	defer last.Stop()
	for {
		select {
		case _, open := <-w.Updates():
			if !open {
				return
			}
		case <-last.C:
			return
		}
	}
}
