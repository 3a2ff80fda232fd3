package realm

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rewarm/rewarm/internal/bus"
	"github.com/rewarm/rewarm/internal/ledger"
)

// fleetStores are n stores of one fleet, each with a connection of its own.
func fleetStores(t *testing.T, n int) (stores []*ledger.Ledger) {
	t.Helper()
	home, err := bus.Start(t.Context(), bus.Options{DataDir: t.TempDir(), Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = home.Close() })
	for range n {
		b, err := bus.Start(context.Background(), bus.Options{URLs: []string{"nats://" + home.Addr()}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = b.Close() })
		l, err := ledger.Open(t.Context(), b.Conn(), ledger.Options{})
		if err != nil {
			t.Fatal(err)
		}
		stores = append(stores, l)
	}
	return stores
}

// Two servers on different releases: each answers with the files of both. A file
// of its own release is never another's, and what may change under its name is
// asked for anew.
func TestFilesOfAPeersReleaseAreFound(t *testing.T) {
	stores := fleetStores(t, 2)
	var later atomic.Int64
	var servers [2]*Server
	hosts := [2]string{}
	for i := range servers {
		o := options(t)
		o.Peers, hosts[i] = stores[i], o.Host
		o.Now = func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
		servers[i], _ = start(t, o)
	}
	old, next := servers[0], servers[1]
	deploy(t, hosts[1], "bbbbbbb2")
	put(t, hosts[1], map[string]string{"assets/logo.svg": "<svg>1</svg>"})
	ask(t, next, http.MethodPost, "/_post-deployment")

	for _, c := range []struct {
		server       *Server
		path, says   string
		code         int
		cacheControl string
	}{
		{old, "/assets/main-bbbbbbb2.js", "console.log('bbbbbbb2')", 200, "public, max-age=31536000, immutable"},
		{old, "/assets/lazy.bbbbbbb21.js", "lazy bbbbbbb2", 200, "public, max-age=31536000, immutable"},
		{old, "/assets/logo.svg", "<svg>1</svg>", 200, "no-cache"},
		{old, "/robots.txt", "robots of aaaaaaa1", 200, "no-cache"},
		{next, "/robots.txt", "robots of bbbbbbb2", 200, "no-cache"},
		{next, "/assets/lazy.aaaaaaa11.js", "lazy aaaaaaa1", 200, "public, max-age=31536000, immutable"},
		{old, "/assets/none-cccccccc3.js", "", 404, "no-store"},
	} {
		var got answer
		until(t, "peers lend "+c.path, func() bool { // they may be subscribing yet
			later.Add(int64(demandHold))
			got = get(t, c.server, c.path)
			return got.code == c.code
		})
		if got.header.Get("Cache-Control") != c.cacheControl || c.says != "" && got.body != c.says {
			t.Errorf("%s: %d %q, %v", c.path, got.code, got.body, got.header)
		}
	}

	put(t, hosts[1], map[string]string{"assets/logo.svg": "<svg>2</svg>"})
	ask(t, next, http.MethodPost, "/_post-deployment")
	later.Add(int64(demandHold))
	if got := get(t, old, "/assets/logo.svg"); got.body != "<svg>2</svg>" {
		t.Errorf("a file that changed under its name: %q", got.body)
	}
	// A deploy removes what nothing names; not what was borrowed.
	deploy(t, hosts[0], "ddddddd4")
	ask(t, old, http.MethodPost, "/_post-deployment")
	if got := get(t, old, "/assets/main-bbbbbbb2.js"); got.code != 200 {
		t.Errorf("borrowed, after a deploy: %d", got.code)
	}
}

// A server that has nothing but a release that is not promoted lends of it only
// what nobody comes upon by a name known beforehand.
func TestAReleaseThatIsNotPromotedIsNotLent(t *testing.T) {
	stores := fleetStores(t, 2)
	o := options(t)
	o.Peers = stores[0]
	promoted, _ := start(t, o)
	f := newFleet()
	f.promote(1, tokenOf("aaaaaaa1"))
	o = gatedOn(t, f)
	o.Peers = stores[1]
	deploy(t, o.Host, "bbbbbbb2")
	put(t, o.Host, map[string]string{"worker.js": "worker", "assets/page.html": "<p>"})
	unpromoted, _ := start(t, o)
	until(t, "it has heard what is promoted", func() bool { return get(t, unpromoted, "/readyz").code == http.StatusServiceUnavailable })
	until(t, "it lends", func() bool { return get(t, promoted, "/assets/main-bbbbbbb2.js").code == http.StatusOK })
	for _, path := range []string{"/worker.js", "/assets/page.html"} {
		if got := get(t, promoted, path); got.code != http.StatusNotFound {
			t.Errorf("%s: %d %q", path, got.code, got.body)
		}
	}
}

func TestBorrowedFilesAreCountedOnce(t *testing.T) {
	b, now := newBorrowed(), time.Now()
	for n := range 3 * maxBriefFiles {
		b.add("assets/kept-1234abcd.js", file{Sum: "k", Size: maxBorrowedBytes / 2}, now)
		b.add(fmt.Sprintf("%d.svg", n), file{Sum: "s", Size: maxBorrowedBytes / 2}, now)
	}
	if _, ok := b.find("assets/kept-1234abcd.js", now); !ok || len(b.brief) > maxBriefFiles {
		t.Errorf("%t, %d brief ones", ok, len(b.brief))
	}
	b.add("assets/more-1234abcd.js", file{Sum: "m", Size: maxBorrowedBytes}, now)
	if _, ok := b.find("assets/more-1234abcd.js", now); !ok || len(b.files) != 1 {
		t.Errorf("%t, %d files", ok, len(b.files))
	}
}

// However many made-up names are asked for, nobody waits long for their turn, and
// what could not be asked is not taken for absent.
func TestABusyBorrowerSaysSo(t *testing.T) {
	d := newDemands(1, time.Millisecond)
	flying, release := make(chan struct{}), make(chan struct{})
	var one sync.WaitGroup
	one.Go(func() {
		_ = d.get(t.Context(), "a.js", time.Now, func(context.Context) error { close(flying); <-release; return nil })
	})
	<-flying
	never := func(context.Context) error { t.Error("there is no room"); return nil }
	if err := d.get(t.Context(), "b.js", time.Now, never); !errors.Is(err, errBusy) {
		t.Errorf("no room: %v", err)
	}
	close(release)
	one.Wait()
	if err := d.get(t.Context(), "b.js", time.Now, func(context.Context) error { return nil }); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	for n := range 2 * maxHeld {
		_ = d.get(t.Context(), fmt.Sprint(n), time.Now, func(context.Context) error { return ledger.ErrAbsent })
	}
	last := fmt.Sprint(2*maxHeld - 1)
	if err := d.get(t.Context(), last, time.Now, never); !errors.Is(err, ledger.ErrAbsent) || len(d.held) > maxHeld {
		t.Errorf("%v, %d held", err, len(d.held))
	}
}
