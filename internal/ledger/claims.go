package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Claim takes key for ttl (at least a second); won is false when somebody has
// it. One wins in the whole fleet. After ErrAway nobody may have it until ttl
// has passed.
func (l *Ledger) Claim(ctx context.Context, key string, ttl time.Duration) (won bool, err error) {
	err = l.do(ctx, "claim", l.claims, func(ctx context.Context, kv jetstream.KeyValue) error {
		_, err := kv.Create(ctx, digest(key), nil, jetstream.KeyTTL(max(ttl, time.Second)))
		return err
	})
	if errors.Is(err, ErrConflict) {
		return false, nil
	}
	return err == nil, err
}

// Unclaim gives key back; a key that nobody has is no error.
func (l *Ledger) Unclaim(ctx context.Context, key string) error {
	return l.remove(ctx, "unclaim", l.claims, digest(key))
}

// MaxPermitBody bounds the recorded answer of a command, in bytes.
const MaxPermitBody = 512 << 10

// Permit is a command's permission to run, and later its outcome. The manager
// names the states and what the body is.
type Permit struct {
	Version int         `json:"v"`
	State   string      `json:"state"`
	At      time.Time   `json:"at"`
	Status  int         `json:"status,omitempty"` // HTTP, of the recorded answer
	Header  [][2]string `json:"header,omitempty"`
	Body    []byte      `json:"body,omitempty"`
}

func permitKey(requestID string) string { return "commands." + digest(requestID) }

// CreatePermit creates the permit of a request id, for PermitTTL; won is false
// when there is one already, and then it is returned.
func (l *Ledger) CreatePermit(ctx context.Context, requestID string, p Permit) (won bool, existing Permit, err error) {
	value, err := encodePermit(p)
	if err != nil {
		return false, existing, err
	}
	err = l.do(ctx, "create permit", l.permits, func(ctx context.Context, kv jetstream.KeyValue) error {
		_, err := kv.Create(ctx, permitKey(requestID), value)
		return err
	})
	if err == nil {
		return true, existing, nil
	}
	if !errors.Is(err, ErrConflict) {
		return false, existing, err
	}
	existing, found, err := l.Permit(ctx, requestID)
	if err == nil && !found { // released in between
		err = fmt.Errorf("ledger: create permit: %w", ErrConflict)
	}
	return false, existing, err
}

// PutPermit records the outcome.
func (l *Ledger) PutPermit(ctx context.Context, requestID string, p Permit) error {
	value, err := encodePermit(p)
	if err != nil {
		return err
	}
	return l.do(ctx, "store permit", l.permits, func(ctx context.Context, kv jetstream.KeyValue) error {
		_, err := kv.Put(ctx, permitKey(requestID), value)
		return err
	})
}

// Permit reads a permit.
func (l *Ledger) Permit(ctx context.Context, requestID string) (p Permit, found bool, err error) {
	_, found, err = l.get(ctx, "read permit", l.permits, permitKey(requestID), &p)
	return p, found, err
}

// DeletePermit releases a permit: only if no byte reached a server.
func (l *Ledger) DeletePermit(ctx context.Context, requestID string) error {
	return l.remove(ctx, "release permit", l.permits, permitKey(requestID))
}

// AwaitPermit waits until done says that the permit is settled, or it is gone
// (found is false), or ctx ends.
func (l *Ledger) AwaitPermit(ctx context.Context, requestID string, done func(Permit) bool) (p Permit, found bool, err error) {
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	var w jetstream.KeyWatcher
	err = l.do(ctx, "await permit", l.permits, func(_ context.Context, kv jetstream.KeyValue) (err error) {
		w, err = kv.Watch(watching, permitKey(requestID), jetstream.UpdatesOnly())
		return err
	})
	if err != nil {
		return p, false, err
	}
	defer stop(w)
	// The watch only wakes: what counts is read, and read now and then anyway.
	timer := time.NewTicker(lookAgain)
	defer timer.Stop()
	updates := w.Updates()
	for {
		p, found, err = l.Permit(ctx, requestID)
		if err != nil || !found || done(p) {
			return p, found, err
		}
		select {
		case _, open := <-updates:
			if !open {
				updates = nil
			}
		case <-timer.C:
		case <-ctx.Done():
			return p, found, context.Cause(ctx)
		}
	}
}

func encodePermit(p Permit) ([]byte, error) {
	if len(p.Body) > MaxPermitBody {
		return nil, fmt.Errorf("ledger: permit: %w: %d bytes, at most %d", ErrTooLarge, len(p.Body), MaxPermitBody)
	}
	p.Version = version
	value, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("ledger: permit: %w: %w", ErrInvalid, err)
	}
	return value, nil
}
