package ledger

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rewarm/rewarm/internal/words"
)

// moduleMeta is the first line of a stored module; the rest is its result in
// zstd.
type moduleMeta struct {
	Version int `json:"v"`
	words.Module
}

// PutModule stores m under (realm, token, URL) if what is stored there still
// has the revision that was read (0: nothing). ErrConflict: somebody else
// stored a result meanwhile, and theirs stays.
func (l *Ledger) PutModule(ctx context.Context, m words.Module, revision uint64) error {
	const op = "store module"
	value, err := l.encodeModule(m)
	if err != nil {
		return fmt.Errorf("ledger: %s %s: %w", op, m.URL, err)
	}
	return l.do(ctx, op, l.modules, func(ctx context.Context, kv jetstream.KeyValue) error {
		key := snapshotKey(m.Realm, m.Token, m.URL)
		if revision == 0 {
			_, err = kv.Create(ctx, key, value)
		} else {
			_, err = kv.Update(ctx, key, value, revision)
		}
		return err
	})
}

func (c codec) encodeModule(m words.Module) ([]byte, error) {
	if _, err := words.ParseToken(string(m.Token)); err != nil || m.Realm == "" || m.URL == "" || !utf8.ValidString(m.Realm+m.URL) {
		return nil, fmt.Errorf("%w: it needs a realm, a token and a URL, in UTF-8", ErrInvalid)
	}
	if len(m.Result) > MaxSnapshotRaw {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(m.Result), MaxSnapshotRaw)
	}
	value, err := json.Marshal(moduleMeta{version, m})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return c.compress(value, m.Result)
}

// Module reads what is stored under exactly (realm, token, url), and its
// revision. A value that cannot be read, or names another realm, token or URL,
// counts as absent; its revision is told all the same, so that it is replaced.
func (l *Ledger) Module(ctx context.Context, realm string, token words.Token, url string) (m words.Module, revision uint64, found bool, err error) {
	if token == "" {
		return m, 0, false, nil
	}
	var value []byte
	err = l.do(ctx, "read module", l.modules, func(ctx context.Context, kv jetstream.KeyValue) error {
		entry, err := kv.Get(ctx, snapshotKey(realm, token, url))
		if errors.Is(err, jetstream.ErrKeyNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		value, revision = entry.Value(), entry.Revision()
		return nil
	})
	if err != nil || value == nil {
		return m, 0, false, err
	}
	m, err = l.decodeModule(value)
	if err != nil || m.Token != token || m.URL != url || normal(m.Realm) != normal(realm) {
		l.log.Warn("module cannot be read", "url", url, "token", token, "stored_url", m.URL, "stored_token", m.Token, "err", err)
		return words.Module{}, revision, false, nil
	}
	return m, revision, true, nil
}

func (c codec) decodeModule(value []byte) (words.Module, error) {
	head, body, found := bytes.Cut(value, []byte{'\n'})
	if !found {
		return words.Module{}, errors.New("no end of its first line")
	}
	var m moduleMeta
	if err := json.Unmarshal(head, &m); err != nil {
		return words.Module{}, err
	}
	result, err := c.decoder.DecodeAll(body, nil)
	if err != nil {
		return words.Module{}, err
	}
	if m.Result = result; !json.Valid(result) {
		return words.Module{}, errors.New("its result is no JSON")
	}
	return m.Module, nil
}

// Invalidation says that something of a realm is no longer true: a module, or
// pages. Its generation grows with each.
type Invalidation struct {
	Version    int       `json:"v"`
	Realm      string    `json:"realm"`
	Module     string    `json:"module,omitempty"` // URL
	Pages      Selection `json:"pages,omitzero"`
	Generation uint64    `json:"-"`
}

func (i Invalidation) key() string {
	if i.Module != "" {
		return realmID(i.Realm) + ".module." + digest(i.Module)
	}
	return realmID(i.Realm) + ".pages." + digest(fmt.Sprintf("%t %s %s", i.Pages.All, i.Pages.URL, i.Pages.Prefix))
}

// Invalidate tells every realm server of it, and returns its generation.
func (l *Ledger) Invalidate(ctx context.Context, i Invalidation) (generation uint64, err error) {
	i.Version = version
	value, err := json.Marshal(i)
	if err != nil {
		return 0, fmt.Errorf("ledger: invalidate: %w: %w", ErrInvalid, err)
	}
	err = l.do(ctx, "invalidate", l.invalidations, func(ctx context.Context, kv jetstream.KeyValue) error {
		generation, err = kv.Put(ctx, i.key(), value)
		return err
	})
	return generation, err
}

// InvalidationWatch is a watch of a realm's invalidations; for one goroutine.
type InvalidationWatch struct{ watcher jetstream.KeyWatcher }

// WatchInvalidations follows a realm's invalidations, beginning with those that
// are stored. Stop must be called.
func (l *Ledger) WatchInvalidations(ctx context.Context, realm string) (*InvalidationWatch, error) {
	w := &InvalidationWatch{}
	outer := ctx
	err := l.do(ctx, "watch invalidations", l.invalidations, func(_ context.Context, kv jetstream.KeyValue) (err error) {
		w.watcher, err = kv.Watch(outer, realmID(realm)+".>", jetstream.IgnoreDeletes())
		return err
	})
	if err != nil {
		return nil, err
	}
	return w, nil
}

// Next waits for the next invalidation. known is set, and the invalidation
// empty, once all that were stored have been told. ErrAway: the watch ended;
// watch again.
func (w *InvalidationWatch) Next(ctx context.Context) (i Invalidation, known bool, err error) {
	for {
		select {
		case entry, open := <-w.watcher.Updates():
			switch {
			case ctx.Err() != nil:
				return i, false, context.Cause(ctx)
			case !open:
				return i, false, fmt.Errorf("ledger: watch invalidations: %w", ErrAway)
			case entry == nil:
				return i, true, nil
			case json.Unmarshal(entry.Value(), &i) == nil:
				i.Generation = entry.Revision()
				return i, false, nil
			}
			i = Invalidation{}
		case <-ctx.Done():
			return i, false, context.Cause(ctx)
		}
	}
}

// Stop ends the watch.
func (w *InvalidationWatch) Stop() { stop(w.watcher) }

// maxDependents bounds how many modules one invalidation may be about.
const maxDependents = 10_000

// InvalidateModule invalidates a module, and all that are made of it directly or
// not, as far as what is stored under a token says so. It returns what it
// told, also when it fails halfway; done again it does the rest.
func (l *Ledger) InvalidateModule(ctx context.Context, realm string, token words.Token, url string) (told []Invalidation, err error) {
	tell := func(url string) error {
		i := Invalidation{Realm: realm, Module: url}
		if i.Generation, err = l.Invalidate(ctx, i); err == nil {
			told = append(told, i)
		}
		return err
	}
	// First: whatever is stored after it knows of it.
	if err := tell(url); err != nil {
		return told, err
	}
	dependents := map[string][]string{} // by dependency
	err = l.scan(ctx, "list modules", l.modules, realmID(realm)+"."+tokenKey(token)+".*", func(entry jetstream.KeyValueEntry) {
		var m moduleMeta
		head, _, _ := bytes.Cut(entry.Value(), []byte{'\n'})
		if json.Unmarshal(head, &m) == nil {
			for _, dep := range m.Deps {
				dependents[dep] = append(dependents[dep], m.URL)
			}
		}
	})
	if err != nil {
		return told, err
	}
	known := map[string]bool{url: true}
	for next := []string{url}; len(next) > 0 && len(known) < maxDependents; next = next[1:] {
		for _, dependent := range dependents[next[0]] {
			if known[dependent] {
				continue
			}
			known[dependent] = true
			next = append(next, dependent)
			if err := tell(dependent); err != nil {
				return told, err
			}
		}
	}
	return told, nil
}
