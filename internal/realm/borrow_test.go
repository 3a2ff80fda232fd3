package realm

import (
	"context"
	"net/http"
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
