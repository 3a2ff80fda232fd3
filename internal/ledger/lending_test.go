package ledger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/rewarm/rewarm/internal/bus"
)

// lender has files, and lends them until the test ends.
func lender(t *testing.T, addr string, files map[string]string) *Ledger {
	t.Helper()
	l := open(t, store(t, bus.Options{URLs: []string{"nats://" + addr}}), Options{})
	ctx, cancel := context.WithCancel(t.Context())
	var owned sync.WaitGroup
	owned.Go(func() {
		if err := l.Lend(ctx, func(name string) (Lent, bool) {
			content, ok := files[name]
			sum := sha256.Sum256([]byte(content))
			if name == "lie.js" {
				sum = sha256.Sum256(nil)
			}
			return Lent{hex.EncodeToString(sum[:]), int64(len(content)), func() (io.ReadSeekCloser, error) {
				return struct {
					io.ReadSeeker
					io.Closer
				}{strings.NewReader(content), io.NopCloser(nil)}, nil
			}}, ok
		}); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(owned.Wait)
	t.Cleanup(cancel)
	eventually(t, "it is subscribed", func() bool { return l.nc.NumSubscriptions() >= 2 && l.nc.Flush() == nil })
	return l
}

func TestRealmServersLendEachOtherFiles(t *testing.T) {
	home := store(t, bus.Options{DataDir: t.TempDir(), Listen: "127.0.0.1:0"})
	large := strings.Repeat("rewarm ", 300_000) // of several parts
	a := lender(t, home.Addr(), map[string]string{"a.js": "a", "empty.txt": ""})
	borrow := func(l *Ledger, name string) (string, error) {
		var got bytes.Buffer
		offer, err := l.Find(t.Context(), name)
		if err == nil {
			err = l.Fetch(t.Context(), offer, &got)
		}
		if err == nil && (offer.Size != int64(got.Len()) || len(offer.Sum) != 64) {
			t.Errorf("%+v for %d bytes", offer, got.Len())
		}
		return got.String(), err
	}
	// Who is alone is told so at once, and lends itself nothing.
	if _, err := borrow(a, "a.js"); !errors.Is(err, ErrAbsent) {
		t.Errorf("alone: %v", err)
	}
	b := lender(t, home.Addr(), map[string]string{"large.js": large, "lie.js": "lie"})
	lender(t, home.Addr(), map[string]string{"large.js": large})
	before := a.nc.Stats().InBytes
	if got, err := borrow(a, "large.js"); err != nil || got != large {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if came := a.nc.Stats().InBytes - before; came > uint64(len(large))*3/2 {
		t.Errorf("%d bytes came for %d: of more than one that has it", came, len(large))
	}
	for _, c := range []struct {
		by   *Ledger
		name string
		want string
		err  error
	}{
		{b, "a.js", "a", nil},
		{b, "empty.txt", "", nil},
		{a, "large.js", large, nil},
		{a, "none.js", "", ErrAbsent},
		{a, "", "", ErrAbsent},
		{a, "lie.js", "lie", ErrAway},
	} {
		if got, err := borrow(c.by, c.name); got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: %d bytes, %v", c.name, len(got), err)
		}
	}
}
