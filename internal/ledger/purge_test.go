package ledger

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rewarm/rewarm/internal/bus"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// Whichever of the two is first: a render that began before a purge leaves
// nothing behind it.
func TestF09_NoPageOutlivesThePurgeThatBeganAfterItsRender(t *testing.T) {
	l := fresh(t)
	// Large: packing it takes longer than a purge, which then ends before the put.
	page := words.Snapshot{Realm: "http://r", Token: "t", URL: "http://r/a", HTML: strings.Repeat("old ", MaxSnapshotRaw/4)}
	for range 20 {
		before, err := l.Purges(t.Context(), page.Realm)
		if err != nil {
			t.Fatal(err)
		}
		var both sync.WaitGroup
		both.Go(func() {
			if _, _, err := l.PurgeSnapshots(t.Context(), page.Realm, Selection{All: true}); err != nil {
				t.Error(err)
			}
		})
		both.Go(func() {
			if err := l.PutUnpurged(t.Context(), page, before); err != nil && !errors.Is(err, ErrPurged) {
				t.Error(err)
			}
		})
		both.Wait()
		if _, found, err := l.Snapshot(t.Context(), page.Realm, page.Token, page.URL); found || err != nil {
			t.Fatalf("found %t, %v", found, err)
		}
		if err := l.PutUnpurged(t.Context(), page, before); !errors.Is(err, ErrPurged) {
			t.Fatalf("afterwards: %v", err)
		}
	}
	now, err := l.Purges(t.Context(), page.Realm)
	if err == nil {
		err = l.PutUnpurged(t.Context(), page, now)
	}
	if _, found, read := l.Snapshot(t.Context(), page.Realm, page.Token, page.URL); !found || err != nil || read != nil {
		t.Errorf("begun after it: %t, %v, %v", found, err, read)
	}
}

// What a realm server reads in between is forgotten too, for it is told once more.
func TestF09_NoRealmServerKeepsWhatWasPurged(t *testing.T) {
	l := fresh(t)
	page := words.Snapshot{Realm: "http://r", Token: "t", URL: "http://r/a", HTML: strings.Repeat("old ", MaxSnapshotRaw/4)}
	ctx, stop := context.WithCancel(t.Context())
	heard, err := l.WatchInvalidations(t.Context(), page.Realm)
	if err != nil {
		t.Fatal(err)
	}
	defer heard.Stop()
	tells := make(chan Invalidation)
	var ended sync.WaitGroup
	defer ended.Wait()
	defer stop()
	ended.Go(func() {
		for {
			told, _, err := heard.Next(ctx)
			if err != nil {
				return
			}
			select {
			case tells <- told:
			case <-ctx.Done():
				return
			}
		}
	})
	for round := range 20 {
		before, err := l.Purges(t.Context(), page.Realm)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 2)
		go func() {
			_, _, err := l.PurgeSnapshots(t.Context(), page.Realm, Selection{All: true})
			done <- err
		}()
		go func() { done <- l.PutUnpurged(t.Context(), page, before) }()
		// A server that has nothing in memory reads the store, for one visitor after another.
		kept := false
		quiet := time.NewTimer(time.Minute) // reached only when something is broken
		for left := 2; left > 0 || kept; {
			select {
			case told := <-tells:
				kept = kept && !told.Pages.Has(page.URL)
				continue
			case err := <-done:
				if left--; err != nil && !errors.Is(err, ErrPurged) {
					t.Fatal(err)
				}
			case <-quiet.C:
				t.Fatalf("round %d: a server keeps the page", round)
			default:
			}
			if !kept {
				if _, kept, err = l.Snapshot(t.Context(), page.Realm, page.Token, page.URL); err != nil {
					t.Fatal(err)
				}
			}
		}
		quiet.Stop()
	}
}

// A realm of thousands of pages takes longer to read than one call may.
func TestAScanIsBoundedByItsSilence(t *testing.T) {
	l := open(t, store(t, bus.Options{DataDir: t.TempDir()}), Options{CallTimeout: 500 * time.Millisecond})
	const servers = 8
	for n := range servers {
		if err := l.PutServer(t.Context(), Server{Heartbeat: wire.Heartbeat{URL: fmt.Sprint("http://server-", n)}}); err != nil {
			t.Fatal(err)
		}
	}
	read := 0
	err := l.scan(t.Context(), "list servers", l.servers, "", func(jetstream.KeyValueEntry) {
		read++
		<-time.After(l.timeout / 4) // whoever reads takes its time
	})
	if err != nil || read != servers {
		t.Errorf("%d of %d read: %v", read, servers, err)
	}
}
