package ledger

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rewarm/rewarm/internal/bus"
	"github.com/rewarm/rewarm/internal/release"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

func store(t *testing.T, o bus.Options) *bus.Bus {
	t.Helper()
	b, err := bus.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func open(t *testing.T, b *bus.Bus, o Options) *Ledger {
	t.Helper()
	l, err := Open(t.Context(), b.Conn(), o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func fresh(t *testing.T) *Ledger {
	t.Helper()
	return open(t, store(t, bus.Options{DataDir: t.TempDir()}), Options{})
}

func state(sequence uint64, token words.Token) release.State {
	return release.State{Sequence: sequence, History: []words.Release{{Sequence: sequence, Token: token, Since: time.Now().UTC()}}}
}

// Invariant 6: a restart of the store loses no release, and what lives in
// memory only is made anew.
func TestW08_ReleasesSurviveTheStoresRestart(t *testing.T) {
	dir := t.TempDir()
	b, err := bus.Start(t.Context(), bus.Options{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	l := open(t, b, Options{})
	revision, err := l.PutReleases(t.Context(), state(7, "a"), 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.PutControl(t.Context(), Control{Paused: true}); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := l.Releases(t.Context()); !errors.Is(err, ErrAway) {
		t.Errorf("a closed store: %v", err)
	}

	l = open(t, store(t, bus.Options{DataDir: dir}), Options{})
	got, again, err := l.Releases(t.Context())
	if err != nil || again != revision || got.Sequence != 7 || len(got.History) != 1 || got.History[0].Token != "a" {
		t.Fatalf("got %+v at %d, %v", got, again, err)
	}
	if c, err := l.Control(t.Context()); err != nil || !c.Paused {
		t.Errorf("control: %+v, %v", c, err)
	}
	if won, err := l.Claim(t.Context(), "k", time.Minute); !won || err != nil {
		t.Errorf("claim: %v, %v", won, err)
	}
}

func TestReleasesAreComparedAndSet(t *testing.T) {
	l := fresh(t)
	if s, revision, err := l.Releases(t.Context()); err != nil || revision != 0 || s.Sequence != 0 {
		t.Fatalf("empty store: %+v, %d, %v", s, revision, err)
	}
	first, err := l.PutReleases(t.Context(), state(1, "a"), 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.PutReleases(t.Context(), state(1, "b"), 0); !errors.Is(err, ErrConflict) {
		t.Errorf("a second first: %v", err)
	}
	if _, err := l.PutReleases(t.Context(), state(2, "b"), first); err != nil {
		t.Error(err)
	}
	if _, err := l.PutReleases(t.Context(), state(2, "c"), first); !errors.Is(err, ErrConflict) {
		t.Errorf("an old revision: %v", err)
	}
	if s, _, err := l.Releases(t.Context()); err != nil || s.History[0].Token != "b" {
		t.Errorf("got %+v, %v", s, err)
	}
}

func TestWatchReleasesTellsTheStoredAndTheNext(t *testing.T) {
	l := fresh(t)
	w, err := l.WatchReleases(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	var revision uint64
	for i := range 5 {
		if revision, err = l.PutReleases(t.Context(), state(uint64(i+1), "a"), revision); err != nil {
			t.Fatal(err)
		}
		if s, got, err := w.Next(t.Context()); err != nil || got != revision || s.Sequence != uint64(i+1) {
			t.Fatalf("got %+v at %d, %v; want revision %d", s, got, err, revision)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := w.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestReporters(t *testing.T) {
	l := fresh(t)
	at := time.Now().UTC().Truncate(time.Second)
	for _, r := range []release.Reporter{{Name: "b.*> é", Token: "t"}, {Name: "a", Token: "t"}, {Name: "a", Token: "u", On: at, Left: at, LastSeenAt: at, Since: at, Behind: true, Realms: []string{"http://x"}}} {
		if err := l.PutReporter(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	got, err := l.Reporters(t.Context())
	if err != nil || len(got) != 2 || got[0].Token != "u" || !got[0].On.Equal(at) || !got[0].Left.Equal(at) || !got[0].Behind || got[1].Name != "b.*> é" {
		t.Fatalf("got %+v, %v", got, err)
	}
}

func TestServersAndTheirWatch(t *testing.T) {
	l := fresh(t)
	server := func(url string, capacity int) Server {
		return Server{Heartbeat: wire.Heartbeat{URL: url, Capacity: capacity}, LastSeenAt: time.Now()}
	}
	if err := l.PutServer(t.Context(), server("http://b:1", 1)); err != nil {
		t.Fatal(err)
	}
	w, err := l.WatchServers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	next := func(url string, capacity int, wantGone bool) {
		t.Helper()
		s, gone, err := w.Next(t.Context())
		if err != nil || s.Heartbeat.URL != url || s.Heartbeat.Capacity != capacity || gone != wantGone {
			t.Fatalf("got %+v, %v, %v", s, gone, err)
		}
	}
	next("http://b:1", 1, false)
	if err := l.PutServer(t.Context(), server("http://a:1", 2)); err != nil {
		t.Fatal(err)
	}
	next("http://a:1", 2, false)
	all, err := l.Servers(t.Context())
	if err != nil || len(all) != 2 || all[0].Heartbeat.URL != "http://a:1" {
		t.Fatalf("got %+v, %v", all, err)
	}
	for range 2 {
		if err := l.DeleteServer(t.Context(), "http://A:1/"); err != nil {
			t.Fatal(err)
		}
	}
	next("http://a:1", 0, true)
	if all, err = l.Servers(t.Context()); err != nil || len(all) != 1 {
		t.Fatalf("got %+v, %v", all, err)
	}
	if err := l.PutServer(t.Context(), Server{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("without a URL: %v", err)
	}
}

func TestOneClaimWins(t *testing.T) {
	l := fresh(t)
	for round := range 3 {
		var won atomic.Int32
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				ok, err := l.Claim(t.Context(), "realm|/a b*", time.Minute)
				if err != nil {
					t.Error(err)
				}
				if ok {
					won.Add(1)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 {
			t.Fatalf("round %d: %d won", round, won.Load())
		}
		for range 2 {
			if err := l.Unclaim(t.Context(), "realm|/a b*"); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestAClaimExpires(t *testing.T) {
	l := fresh(t)
	if won, err := l.Claim(t.Context(), "k", time.Millisecond); !won || err != nil {
		t.Fatal(won, err)
	}
	eventually(t, "the claim can be had again", func() bool {
		won, err := l.Claim(t.Context(), "k", time.Minute)
		return won && err == nil
	})
	if won, err := l.Claim(t.Context(), "k", time.Minute); won || err != nil {
		t.Errorf("had twice: %v", err)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not in time: %s", what)
		}
	}
}

func TestF02_OnePermitACommand(t *testing.T) {
	l := fresh(t)
	won, _, err := l.CreatePermit(t.Context(), "id-1", Permit{State: "running"})
	if !won || err != nil {
		t.Fatal(won, err)
	}
	won, existing, err := l.CreatePermit(t.Context(), "id-1", Permit{State: "running again"})
	if won || err != nil || existing.State != "running" {
		t.Fatal(won, existing, err)
	}
	settled := func(p Permit) bool { return p.State == "done" }
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			p, found, err := l.AwaitPermit(t.Context(), "id-1", settled)
			if err != nil || !found || p.Status != 201 || string(p.Body) != "{not json" {
				t.Errorf("got %+v, %v, %v", p, found, err)
			}
		})
	}
	if err := l.PutPermit(t.Context(), "id-1", Permit{State: "done", Status: 201, Body: []byte("{not json")}); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if err := l.PutPermit(t.Context(), "id-1", Permit{Body: make([]byte, MaxPermitBody+1)}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	if err := l.DeletePermit(t.Context(), "id-1"); err != nil {
		t.Fatal(err)
	}
	if _, found, err := l.AwaitPermit(t.Context(), "id-1", settled); found || err != nil {
		t.Errorf("released: %v, %v", found, err)
	}
	if won, _, err := l.CreatePermit(t.Context(), "id-1", Permit{}); !won || err != nil {
		t.Errorf("after its release: %v, %v", won, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, _, err := l.AwaitPermit(ctx, "id-1", settled); err == nil {
		t.Error("a wait without end")
	}
}

func snapshot(realm string, token words.Token, url, html string) words.Snapshot {
	return words.Snapshot{
		Realm: realm, Token: token, URL: url, HTML: html, Status: words.StatusReady, HTTPStatus: 200,
		RenderedAt: time.Now().UTC().Truncate(time.Millisecond), Headers: map[string]string{"Link": "a\nb"},
	}
}

func TestW22_ASnapshotIsHadUnderItsOwnKeyOnly(t *testing.T) {
	l := fresh(t)
	const realm, url = "http://realm.test/", "http://realm.test/a?b=1"
	put := snapshot(realm, "t.1*>", url, "<p>one</p>")
	if err := l.PutSnapshot(t.Context(), put); err != nil {
		t.Fatal(err)
	}
	got, found, err := l.Snapshot(t.Context(), "http://realm.test", "t.1*>", url)
	if err != nil || !found || fmt.Sprint(got) != fmt.Sprint(put) {
		t.Fatalf("got %+v, %v, %v", got, found, err)
	}
	for _, other := range [][3]string{
		{"http://other.test/", "t.1*>", url}, {realm, "t.2", url}, {realm, "t", url}, {realm, "", url},
		{realm, "t.1*>", url + "0"}, {realm, "t.1*>", "http://realm.test/A?b=1"},
	} {
		if s, found, err := l.Snapshot(t.Context(), other[0], words.Token(other[1]), other[2]); found || err != nil {
			t.Errorf("%v: %+v, %v", other, s, err)
		}
	}
	for _, bad := range []words.Snapshot{snapshot(realm, "", url, ""), snapshot(realm, "a\nb", url, ""), snapshot("", "t", url, ""), snapshot(realm, "t", "", "")} {
		if err := l.PutSnapshot(t.Context(), bad); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// Whoever puts another value under a key, or a broken one, has it rendered
// again, not served.
func TestASnapshotThatIsNotWhatItsKeySaysIsAbsent(t *testing.T) {
	l := fresh(t)
	const realm = "http://realm.test"
	if err := l.PutSnapshot(t.Context(), snapshot(realm, "t", "http://realm.test/a", "a")); err != nil {
		t.Fatal(err)
	}
	kv, err := l.js.KeyValue(t.Context(), l.snapshots.config.Bucket)
	if err != nil {
		t.Fatal(err)
	}
	entry, err := kv.Get(t.Context(), snapshotKey(realm, "t", "http://realm.test/a"))
	if err != nil {
		t.Fatal(err)
	}
	bomb := l.encoder.EncodeAll(make([]byte, MaxSnapshotRaw+1), []byte("{}\n"))
	for _, value := range [][]byte{entry.Value(), nil, []byte("{}"), []byte("{}\nnot zstd"), []byte("not json\n"), bomb} {
		if _, err := kv.Put(t.Context(), snapshotKey(realm, "t", "http://realm.test/b"), value); err != nil {
			t.Fatal(err)
		}
		if s, found, err := l.Snapshot(t.Context(), realm, "t", "http://realm.test/b"); found || err != nil {
			t.Errorf("%.20q: %+v, %v", value, s, err)
		}
	}
}

// What the level that nearly all are compressed at leaves too large is stored all
// the same if the usual one does better.
func TestAPageThatNeedsBetterCompressionIsStored(t *testing.T) {
	l := fresh(t)
	random := rand.New(rand.NewPCG(1, 2))
	text := []byte{}
	for len(l.encoder.EncodeAll(text, nil)) <= MaxSnapshotStored {
		for range 5000 {
			text = fmt.Appendf(text, "<li>%s</li>", strings.Repeat(fmt.Sprint("word", random.IntN(3000), " "), 1+random.IntN(3)))
		}
	}
	page := snapshot("http://realm.test", "t", "http://realm.test/", string(text))
	if err := l.PutSnapshot(t.Context(), page); err != nil {
		t.Fatalf("%d bytes, %d at the fastest level: %v", len(text), len(l.encoder.EncodeAll(text, nil)), err)
	}
	if got, found, err := l.Snapshot(t.Context(), page.Realm, page.Token, page.URL); err != nil || !found || got.HTML != page.HTML {
		t.Errorf("found %v, %v", found, err)
	}
}

func TestSnapshotBounds(t *testing.T) {
	l := fresh(t)
	const realm, url = "http://realm.test", "http://realm.test/"
	large := snapshot(realm, "t", url, strings.Repeat("x", MaxSnapshotRaw))
	if err := l.PutSnapshot(t.Context(), large); err != nil {
		t.Fatal(err)
	}
	if got, found, err := l.Snapshot(t.Context(), realm, "t", url); err != nil || !found || got.HTML != large.HTML {
		t.Errorf("the largest: found %v, %d bytes, %v", found, len(got.HTML), err)
	}
	if err := l.PutSnapshot(t.Context(), snapshot(realm, "u", url, large.HTML+"x")); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a byte more: %v", err)
	}
	noise := make([]byte, MaxSnapshotStored+1)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	if err := l.PutSnapshot(t.Context(), snapshot(realm, "u", url, string(noise))); !errors.Is(err, ErrTooLarge) {
		t.Errorf("not compressible: %v", err)
	}
	if _, found, err := l.Snapshot(t.Context(), realm, "u", url); found || err != nil {
		t.Errorf("it was stored: %v", err)
	}
}

func TestAFullStoreSaysSo(t *testing.T) {
	l := open(t, store(t, bus.Options{DataDir: t.TempDir()}), Options{SnapshotBytes: 64 << 10})
	noise := make([]byte, 40<<10)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	var err error
	for i := 0; err == nil && i < 5; i++ {
		err = l.PutSnapshot(t.Context(), snapshot("http://r", "t", fmt.Sprint("http://r/", i), string(noise)))
	}
	if !errors.Is(err, ErrFull) || errors.Is(err, ErrAway) {
		t.Errorf("got %v", err)
	}
}

func TestPruneKeepsWhatItIsTold(t *testing.T) {
	l := fresh(t)
	for _, realm := range []string{"http://r1", "http://r2"} {
		for _, token := range []words.Token{"t1", "t.2", "t3"} {
			for i := range 3 {
				if err := l.PutSnapshot(t.Context(), snapshot(realm, token, fmt.Sprint(realm, "/", i), "x")); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	removed, err := l.PruneSnapshots(t.Context(), "http://r1", []words.Token{"t.2", "unknown"})
	if err != nil || removed != 6 {
		t.Fatalf("removed %d, %v", removed, err)
	}
	for _, want := range []struct {
		realm string
		token words.Token
		n     int
	}{{"http://r1", "t1", 0}, {"http://r1", "t.2", 3}, {"http://r1", "t3", 0}, {"http://r2", "t1", 3}, {"http://r2", "t3", 3}, {"http://r2", "", 0}} {
		n, err := l.CountSnapshots(t.Context(), want.realm, want.token)
		if err != nil || n != want.n {
			t.Errorf("%+v: %d, %v", want, n, err)
		}
		all, err := l.Snapshots(t.Context(), want.realm, want.token)
		if err != nil || len(all) != want.n {
			t.Errorf("%+v: %+v, %v", want, all, err)
		}
		for i, s := range all {
			if s.URL != fmt.Sprint(want.realm, "/", i) || s.Token != want.token || s.HTML != "" {
				t.Errorf("%+v: %+v", want, s)
			}
		}
	}
}

// A bucket in memory vanishes when its store restarts; who uses it must not
// notice.
func TestAVanishedBucketIsMadeAgain(t *testing.T) {
	l := fresh(t)
	for _, b := range []*bucket{l.claims, l.reporters, l.servers, l.permits} {
		if err := l.js.DeleteKeyValue(t.Context(), b.config.Bucket); err != nil {
			t.Fatal(err)
		}
	}
	if won, err := l.Claim(t.Context(), "k", time.Minute); !won || err != nil {
		t.Errorf("claim: %v, %v", won, err)
	}
	if all, err := l.Reporters(t.Context()); len(all) != 0 || err != nil {
		t.Errorf("reporters: %v, %v", all, err)
	}
	if err := l.PutServer(t.Context(), Server{Heartbeat: wire.Heartbeat{URL: "http://a"}}); err != nil {
		t.Errorf("server: %v", err)
	}
	if _, found, err := l.Permit(t.Context(), "x"); found || err != nil {
		t.Errorf("permit: %v, %v", found, err)
	}
}

// A store that goes away is said to be away, at once, and is used again when
// it is back, by a ledger that was opened without it.
func TestAwayAndBack(t *testing.T) {
	dir := t.TempDir()
	first, err := bus.Start(t.Context(), bus.Options{DataDir: dir, Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	address := first.Addr()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	peer := store(t, bus.Options{URLs: []string{address}, Lazy: true})
	if _, err := Open(t.Context(), peer.Conn(), Options{}); !errors.Is(err, ErrAway) {
		t.Errorf("opened without a store: %v", err)
	}
	l := open(t, peer, Options{Lazy: true})
	if err := l.Ping(t.Context()); !errors.Is(err, ErrAway) {
		t.Errorf("ping: %v", err)
	}
	if err := l.PutSnapshot(t.Context(), snapshot("http://r", "t", "http://r/", "x")); !errors.Is(err, ErrAway) {
		t.Errorf("put: %v", err)
	}
	if _, _, err := l.Snapshot(t.Context(), "http://r", "t", "http://r/"); !errors.Is(err, ErrAway) {
		t.Errorf("get: %v", err)
	}
	if _, err := l.Claim(t.Context(), "k", time.Minute); !errors.Is(err, ErrAway) {
		t.Errorf("claim: %v", err)
	}
	store(t, bus.Options{DataDir: dir, Listen: address})
	eventually(t, "the store is used again", func() bool { return l.Ping(t.Context()) == nil })
	if won, err := l.Claim(t.Context(), "k", time.Minute); !won || err != nil {
		t.Errorf("claim: %v, %v", won, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Ping(ctx); !errors.Is(err, context.Canceled) || errors.Is(err, ErrAway) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestTokenKeysAreDistinctAndValid(t *testing.T) {
	seen := map[string]words.Token{}
	for _, token := range []words.Token{"", "a", "A", "a.b", "a-b", "=ME", "0", "*", ">", "a/b", "ME"} {
		key := tokenKey(token)
		if other, twice := seen[key]; twice || key == "" || strings.ContainsAny(key, ".*> /") {
			t.Errorf("%q and %q: %q", token, other, key)
		}
		seen[key] = token
	}
}
