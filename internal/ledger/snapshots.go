package ledger

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/klauspost/compress/zstd"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rewarm/rewarm/internal/words"
)

const (
	// MaxSnapshotRaw bounds a snapshot's HTML in bytes.
	MaxSnapshotRaw = 8 << 20
	// MaxSnapshotStored bounds the stored value in bytes: a message is at most
	// 1 MiB, and a value is one message.
	MaxSnapshotStored = 768 << 10
)

// meta is the first line of a stored snapshot; the rest is its HTML in zstd.
type meta struct {
	Version int `json:"v"`
	words.Snapshot
}

// codec is how snapshots are stored.
type codec struct {
	encoder *zstd.Encoder
	smaller *zstd.Encoder // for what encoder leaves too large
	decoder *zstd.Decoder
}

func newCodec() (c codec, err error) {
	// The fastest level is some 6 % larger, and its tables leave the processor's
	// cache to Chrome: the next one's are over a megabyte (decision 24).
	if c.encoder, err = newEncoder(zstd.SpeedFastest); err != nil {
		return c, err
	}
	if c.smaller, err = newEncoder(zstd.SpeedDefault); err != nil {
		return c, err
	}
	// The memory bound refuses a value that would unfold beyond what is stored.
	if c.decoder, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(MaxSnapshotRaw)); err != nil {
		return c, fmt.Errorf("ledger: %w", err)
	}
	return c, nil
}

func newEncoder(level zstd.EncoderLevel) (*zstd.Encoder, error) {
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(level))
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	return encoder, nil
}

// PutSnapshot stores s under (realm, token, URL). A snapshot without a token is
// ErrInvalid: nobody knows which release it shows.
func (l *Ledger) PutSnapshot(ctx context.Context, s words.Snapshot) error {
	const op = "store snapshot"
	value, err := l.encode(s)
	if err != nil {
		return fmt.Errorf("ledger: %s of %s: %w", op, s.URL, err)
	}
	return l.do(ctx, op, l.snapshots, func(ctx context.Context, kv jetstream.KeyValue) error {
		_, err := kv.Put(ctx, snapshotKey(s.Realm, s.Token, s.URL), value)
		return err
	})
}

func (c codec) encode(s words.Snapshot) ([]byte, error) {
	if _, err := words.ParseToken(string(s.Token)); err != nil || s.Realm == "" || s.URL == "" {
		return nil, fmt.Errorf("%w: it needs a realm, a token and a URL", ErrInvalid)
	}
	if len(s.HTML) > MaxSnapshotRaw {
		return nil, fmt.Errorf("%w: %d bytes of HTML, at most %d", ErrTooLarge, len(s.HTML), MaxSnapshotRaw)
	}
	if !utf8.ValidString(s.Realm) || !utf8.ValidString(s.URL) {
		// JSON would hold another text, under which nobody looks for it.
		return nil, fmt.Errorf("%w: its realm or URL is not UTF-8", ErrInvalid)
	}
	value, err := json.Marshal(meta{version, s})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return c.compress(value, []byte(s.HTML))
}

// compress is a value's first line with raw in zstd behind it.
func (c codec) compress(line, raw []byte) (value []byte, err error) {
	for _, encoder := range []*zstd.Encoder{c.encoder, c.smaller} {
		value = encoder.EncodeAll(raw, append(slices.Clip(line), '\n'))
		if len(value) <= MaxSnapshotStored {
			return value, nil
		}
	}
	return nil, fmt.Errorf("%w: %d bytes compressed, at most %d", ErrTooLarge, len(value), MaxSnapshotStored)
}

// Snapshot reads what is stored under exactly (realm, token, url). A value that
// cannot be read, or names another realm, token or URL, counts as absent: it
// is rendered again rather than served wrongly.
func (l *Ledger) Snapshot(ctx context.Context, realm string, token words.Token, url string) (s words.Snapshot, found bool, err error) {
	if token == "" {
		return s, false, nil
	}
	var value []byte
	err = l.do(ctx, "read snapshot", l.snapshots, func(ctx context.Context, kv jetstream.KeyValue) error {
		entry, err := kv.Get(ctx, snapshotKey(realm, token, url))
		if errors.Is(err, jetstream.ErrKeyNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		value = entry.Value()
		return nil
	})
	if err != nil || value == nil {
		return s, false, err
	}
	if s, err = l.decode(value, true); err != nil {
		l.log.Warn("snapshot cannot be read", "url", url, "token", token, "err", err)
		return words.Snapshot{}, false, nil
	}
	if s.Token != token || s.URL != url || normal(s.Realm) != normal(realm) {
		l.log.Warn("snapshot is another's", "url", url, "token", token, "stored_url", s.URL, "stored_token", s.Token)
		return words.Snapshot{}, false, nil
	}
	return s, true, nil
}

func (c codec) decode(value []byte, html bool) (words.Snapshot, error) {
	head, body, found := bytes.Cut(value, []byte{'\n'})
	if !found {
		return words.Snapshot{}, errors.New("no end of its first line")
	}
	var m meta
	if err := json.Unmarshal(head, &m); err != nil {
		return words.Snapshot{}, err
	}
	if html {
		raw, err := c.decoder.DecodeAll(body, nil)
		if err != nil {
			return words.Snapshot{}, err
		}
		m.HTML = string(raw)
	}
	return m.Snapshot, nil
}

// Snapshots lists what is stored of a release of a realm, without HTML, by URL.
func (l *Ledger) Snapshots(ctx context.Context, realm string, token words.Token) (all []words.Snapshot, err error) {
	filter := realmID(realm) + "." + tokenKey(token) + ".*"
	err = l.scan(ctx, "list snapshots", l.snapshots, filter, func(entry jetstream.KeyValueEntry) {
		if s, err := l.decode(entry.Value(), false); err == nil {
			all = append(all, s)
		}
	})
	slices.SortFunc(all, func(a, b words.Snapshot) int { return cmp.Compare(a.URL, b.URL) })
	return all, err
}

// CountSnapshots counts without reading them.
func (l *Ledger) CountSnapshots(ctx context.Context, realm string, token words.Token) (int, error) {
	counts, err := l.count(ctx, realmID(realm)+"."+tokenKey(token)+".*")
	n := 0
	for _, c := range counts {
		n += c
	}
	return n, err
}

// PruneSnapshots removes the snapshots of a realm whose token is not in keep,
// and returns how many. A snapshot of a pruned release that is stored while
// this runs may stay; the next call removes it.
func (l *Ledger) PruneSnapshots(ctx context.Context, realm string, keep []words.Token) (removed int, err error) {
	counts, err := l.count(ctx, realmID(realm)+".*.*")
	if err != nil {
		return 0, err
	}
	for _, token := range keep {
		delete(counts, tokenKey(token))
	}
	for token, n := range counts {
		err := l.purge(ctx, "prune snapshots", l.snapshots, realmID(realm)+"."+token+".*")
		if err != nil {
			return removed, err
		}
		removed += n
	}
	return removed, nil
}

// count counts keys below filter by the token in them, as [tokenKey] wrote it.
func (l *Ledger) count(ctx context.Context, filter string) (counts map[string]int, err error) {
	err = l.do(ctx, "count snapshots", l.snapshots, func(ctx context.Context, kv jetstream.KeyValue) error {
		stream, err := l.js.Stream(ctx, "KV_"+kv.Bucket())
		if err != nil {
			return err
		}
		info, err := stream.Info(ctx, jetstream.WithSubjectFilter("$KV."+kv.Bucket()+"."+filter))
		if err != nil {
			return err
		}
		counts = map[string]int{}
		for subject := range info.State.Subjects {
			parts := strings.Split(subject, ".")
			if len(parts) == 5 { // $KV, bucket, realm, token, URL
				counts[parts[3]]++
			}
		}
		return nil
	})
	return counts, err
}
