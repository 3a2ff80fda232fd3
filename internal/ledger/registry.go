package ledger

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rewarm/rewarm/internal/wire"
)

// Server is a prerender server in the registry that managers share.
type Server struct {
	Version      int            `json:"v"`
	Heartbeat    wire.Heartbeat `json:"heartbeat"` // the last one
	RegisteredAt time.Time      `json:"registeredAt"`
	LastSeenAt   time.Time      `json:"lastSeenAt"`
}

// PutServer stores a server under its heartbeat's URL, for RegistryTTL.
func (l *Ledger) PutServer(ctx context.Context, s Server) error {
	if s.Heartbeat.URL == "" {
		return fmt.Errorf("ledger: store server: %w: no URL", ErrInvalid)
	}
	s.Version = version
	return l.put(ctx, "store server", l.servers, serverKey(s.Heartbeat.URL), s)
}

// DeleteServer forgets a server; an unknown one is no error.
func (l *Ledger) DeleteServer(ctx context.Context, url string) error {
	return l.remove(ctx, "delete server", l.servers, serverKey(url))
}

// Servers lists the registry by URL.
func (l *Ledger) Servers(ctx context.Context) (all []Server, err error) {
	err = l.scan(ctx, "list servers", l.servers, "", func(entry jetstream.KeyValueEntry) {
		var s Server
		if json.Unmarshal(entry.Value(), &s) == nil && s.Heartbeat.URL != "" {
			all = append(all, s)
		}
	})
	slices.SortFunc(all, func(a, b Server) int { return cmp.Compare(a.Heartbeat.URL, b.Heartbeat.URL) })
	return all, err
}

// The URL must be had back from the key of a deleted server, so it is encoded,
// not hashed.
func serverKey(url string) string { return encoding.EncodeToString([]byte(normal(url))) }

// ServerWatch is a watch of the registry; for one goroutine.
type ServerWatch struct{ watcher jetstream.KeyWatcher }

// WatchServers follows the registry, beginning with what is in it. Stop must
// be called.
func (l *Ledger) WatchServers(ctx context.Context) (*ServerWatch, error) {
	w := &ServerWatch{}
	outer := ctx
	err := l.do(ctx, "watch servers", l.servers, func(_ context.Context, kv jetstream.KeyValue) (err error) {
		w.watcher, err = kv.WatchAll(outer)
		return err
	})
	if err != nil {
		return nil, err
	}
	return w, nil
}

// Next waits for the next change. gone is set, and only the URL known, when
// the server was deleted or expired. ErrAway: the watch ended; list and watch
// again.
func (w *ServerWatch) Next(ctx context.Context) (s Server, gone bool, err error) {
	for {
		select {
		case entry, open := <-w.watcher.Updates():
			if ctx.Err() != nil {
				return s, false, context.Cause(ctx)
			}
			if !open {
				return s, false, fmt.Errorf("ledger: watch servers: %w", ErrAway)
			}
			if entry == nil { // what was stored has been told
				continue
			}
			if entry.Operation() != jetstream.KeyValuePut {
				url, err := encoding.DecodeString(entry.Key())
				if err != nil {
					continue
				}
				s.Heartbeat.URL = string(url)
				return s, true, nil
			}
			if json.Unmarshal(entry.Value(), &s) == nil && s.Heartbeat.URL != "" {
				return s, false, nil
			}
			s = Server{}
		case <-ctx.Done():
			return s, false, context.Cause(ctx)
		}
	}
}

// Stop ends the watch.
func (w *ServerWatch) Stop() { stop(w.watcher) }
