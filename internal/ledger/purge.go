package ledger

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rewarm/rewarm/internal/words"
)

// Selection names snapshots of a realm, of every release: those of one URL, of
// all that begin with a prefix, or all.
type Selection struct {
	URL    string `json:"url,omitempty"`
	Prefix string `json:"prefix,omitempty"`
	All    bool   `json:"all,omitempty"`
}

// Has reports whether a URL is in the selection; the zero Selection has none.
func (s Selection) Has(url string) bool {
	return s.All || s.URL != "" && s.URL == url || s.Prefix != "" && strings.HasPrefix(url, s.Prefix)
}

// SelectSnapshots lists the URLs that a selection has snapshots of, in order,
// and how many snapshots there are. It reads them all, but for a single URL.
func (l *Ledger) SelectSnapshots(ctx context.Context, realm string, s Selection) (urls []string, snapshots int, err error) {
	filter := realmID(realm) + ".*.*"
	if s.URL != "" {
		filter = realmID(realm) + ".*." + digest(s.URL)
	}
	found := map[string]bool{}
	err = l.scan(ctx, "select snapshots", l.snapshots, filter, func(entry jetstream.KeyValueEntry) {
		if stored, err := l.decode(entry.Value(), false); err == nil && s.Has(stored.URL) {
			found[stored.URL] = true
			snapshots++
		}
	})
	return slices.Sorted(maps.Keys(found)), snapshots, err
}

// PurgeSnapshots removes the snapshots of a selection, tells every realm server
// to forget what it has of them, and returns what [Ledger.SelectSnapshots]
// found before.
func (l *Ledger) PurgeSnapshots(ctx context.Context, realm string, s Selection) (urls []string, snapshots int, err error) {
	urls, snapshots, err = l.SelectSnapshots(ctx, realm, s)
	if err != nil {
		return nil, 0, err
	}
	// Before: a render that began before this is not to be stored after it.
	if _, err := l.Invalidate(ctx, Invalidation{Realm: realm}); err != nil {
		return nil, 0, err
	}
	filters := []string{"*"}
	if !s.All {
		filters = filters[:0]
		for _, url := range urls {
			filters = append(filters, digest(url))
		}
	}
	for _, filter := range filters {
		if err := l.purge(ctx, "purge snapshots", l.snapshots, realmID(realm)+".*."+filter); err != nil {
			return nil, 0, err
		}
	}
	// Afterwards: a realm server that forgets first would read them once more.
	_, err = l.Invalidate(ctx, Invalidation{Realm: realm, Pages: s})
	return urls, snapshots, err
}

// Purges numbers the purges of a realm's pages: it is another number once one
// has begun.
func (l *Ledger) Purges(ctx context.Context, realm string) (uint64, error) {
	revision, _, err := l.get(ctx, "read purges", l.invalidations, Invalidation{Realm: realm}.key(), &Invalidation{})
	return revision, err
}

// PutUnpurged is [Ledger.PutSnapshot] for a snapshot whose render began when
// [Ledger.Purges] was before. ErrPurged: a purge has begun since, and the
// snapshot is not stored.
func (l *Ledger) PutUnpurged(ctx context.Context, s words.Snapshot, before uint64) error {
	if err := l.unpurged(ctx, s, before); err != nil {
		return err
	}
	if err := l.PutSnapshot(ctx, s); err != nil {
		return err
	}
	// A purge that began since may have looked for it before it was there, and a
	// realm server may have read it after it was told to forget it. Nobody else
	// takes it back if the caller ends now.
	ctx = context.WithoutCancel(ctx)
	purged := l.unpurged(ctx, s, before)
	if purged == nil {
		return nil
	}
	if err := l.remove(ctx, "remove snapshot", l.snapshots, snapshotKey(s.Realm, s.Token, s.URL)); err != nil {
		return err
	}
	if _, err := l.Invalidate(ctx, Invalidation{Realm: s.Realm, Pages: Selection{URL: s.URL}}); err != nil {
		return err
	}
	return purged
}

func (l *Ledger) unpurged(ctx context.Context, s words.Snapshot, before uint64) error {
	now, err := l.Purges(ctx, s.Realm)
	if err == nil && now != before {
		err = fmt.Errorf("ledger: store snapshot of %s: %w", s.URL, ErrPurged)
	}
	return err
}
