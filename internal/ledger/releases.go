package ledger

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rewarm/rewarm/internal/release"
	"github.com/rewarm/rewarm/internal/words"
)

const (
	keyReleases = "releases"
	keyControl  = "control"
	keyCanary   = "canary"
	// lookAgain is how often a watch reads though it heard nothing: a watch
	// that was lost delays news, it never loses them.
	lookAgain = 2 * time.Second
)

// Releases reads the release history and its revision, 0 when none is stored.
func (l *Ledger) Releases(ctx context.Context) (s release.State, revision uint64, err error) {
	revision, _, err = l.get(ctx, "read releases", l.releases, keyReleases, &s)
	return s, revision, err
}

// PutReleases stores the history if it still has the revision that was read
// (0: none), and returns the new revision. ErrConflict: read again.
func (l *Ledger) PutReleases(ctx context.Context, s release.State, revision uint64) (next uint64, err error) {
	s.Version = version
	return l.swap(ctx, "store releases", l.releases, keyReleases, s, revision)
}

// swap stores v if key still has the revision; 0 is one that is not there.
func (l *Ledger) swap(ctx context.Context, op string, b *bucket, key string, v any, revision uint64) (next uint64, err error) {
	value, err := json.Marshal(v)
	if err != nil {
		return 0, fmt.Errorf("ledger: %s: %w: %w", op, ErrInvalid, err)
	}
	err = l.do(ctx, op, b, func(ctx context.Context, kv jetstream.KeyValue) error {
		if revision == 0 {
			next, err = kv.Create(ctx, key, value)
		} else {
			next, err = kv.Update(ctx, key, value, revision)
		}
		return err
	})
	return next, err
}

// ReleaseWatch is a watch of the releases; for one goroutine.
type ReleaseWatch struct {
	ledger *Ledger
	wake   jetstream.KeyWatcher // nil: lost, reading from time to time
	seen   uint64
}

// WatchReleases follows the history. Stop must be called.
func (l *Ledger) WatchReleases(ctx context.Context) (*ReleaseWatch, error) {
	w := &ReleaseWatch{ledger: l}
	return w, w.listen(ctx)
}

func (w *ReleaseWatch) listen(ctx context.Context) error {
	outer := ctx
	return w.ledger.do(ctx, "watch releases", w.ledger.releases, func(_ context.Context, kv jetstream.KeyValue) (err error) {
		w.wake, err = kv.Watch(outer, keyReleases)
		return err
	})
}

// Next waits for a state with another revision than Next has returned last;
// the first call returns what is stored, as soon as anything is. While the
// store is away it waits. It fails only when ctx ends.
func (w *ReleaseWatch) Next(ctx context.Context) (s release.State, revision uint64, err error) {
	for {
		s, revision, err := w.ledger.Releases(ctx)
		if err == nil && revision != 0 && revision != w.seen {
			w.seen = revision
			return s, revision, nil
		}
		if err := w.wait(ctx); err != nil {
			return release.State{}, 0, err
		}
	}
}

func (w *ReleaseWatch) wait(ctx context.Context) error {
	timer := time.NewTimer(lookAgain)
	defer timer.Stop()
	var updates <-chan jetstream.KeyValueEntry
	if w.wake != nil {
		updates = w.wake.Updates()
	}
	select {
	case _, open := <-updates:
		if !open {
			w.wake = nil
		}
	case <-timer.C:
		if w.wake == nil && w.ledger.nc.IsConnected() {
			_ = w.listen(ctx) // what it says now is said again at the next look
		}
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

// Stop ends the watch.
func (w *ReleaseWatch) Stop() {
	if w.wake != nil {
		stop(w.wake)
		w.wake = nil
	}
}

// PutReporter stores what is known of a reporter, under its name.
func (l *Ledger) PutReporter(ctx context.Context, r release.Reporter) error {
	return l.put(ctx, "store reporter", l.reporters, digest(r.Name), struct {
		Version int `json:"v"`
		release.Reporter
	}{version, r})
}

// Reporters lists the reporters heard of within release.RememberFor, by name.
func (l *Ledger) Reporters(ctx context.Context) (all []release.Reporter, err error) {
	err = l.scan(ctx, "list reporters", l.reporters, "", func(entry jetstream.KeyValueEntry) {
		var r release.Reporter
		if json.Unmarshal(entry.Value(), &r) == nil {
			all = append(all, r)
		}
	})
	slices.SortFunc(all, func(a, b release.Reporter) int { return cmp.Compare(a.Name, b.Name) })
	return all, err
}

// Canary is what came of the newest release's takeover check.
type Canary struct {
	Version  int             `json:"v"`
	Sequence uint64          `json:"sequence"` // of the release that was checked
	Server   string          `json:"server,omitempty"`
	Passed   bool            `json:"passed"`
	Detail   string          `json:"detail"`           // a sentence for people
	Checks   []words.Verdict `json:"checks,omitempty"` // the evidence
	At       time.Time       `json:"at"`
}

// Canary reads it and its revision; the zero Canary, and 0, when none was stored.
func (l *Ledger) Canary(ctx context.Context) (c Canary, revision uint64, err error) {
	revision, _, err = l.get(ctx, "read canary", l.releases, keyCanary, &c)
	return c, revision, err
}

// PutCanary stores it if what is stored still has the revision that was read (0:
// nothing is), and returns the new one. ErrConflict: read again.
func (l *Ledger) PutCanary(ctx context.Context, c Canary, revision uint64) (next uint64, err error) {
	c.Version = version
	return l.swap(ctx, "store canary", l.releases, keyCanary, c, revision)
}

// Control is what an operator said of the rollout.
type Control struct {
	Version int       `json:"v"`
	Paused  bool      `json:"paused"`
	At      time.Time `json:"at,omitzero"`
	By      string    `json:"by,omitempty"`
}

// Control reads it; the zero Control when none was stored.
func (l *Ledger) Control(ctx context.Context) (c Control, err error) {
	_, _, err = l.get(ctx, "read control", l.releases, keyControl, &c)
	return c, err
}

// PutControl stores it; the last write wins.
func (l *Ledger) PutControl(ctx context.Context, c Control) error {
	c.Version = version
	return l.put(ctx, "store control", l.releases, keyControl, c)
}
