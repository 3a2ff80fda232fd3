package e2e

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/rewarm/rewarm/examples"
	"github.com/rewarm/rewarm/internal/app"
	"github.com/rewarm/rewarm/internal/bus"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// apart are the addresses of roles that find each other by them.
type apart struct{ realm, manager, prerender string }

func (a apart) RealmURL() string     { return "http://" + a.realm }
func (a apart) ManagerURL() string   { return "http://" + a.manager }
func (a apart) PrerenderURL() string { return "http://" + a.prerender }

// losingReports is a way to the manager on which reports are lost, once told
// so, behind the reporter's back.
func losingReports(t *testing.T, manager string) (through string, lose func()) {
	t.Helper()
	to, err := url.Parse(manager)
	if err != nil {
		t.Fatal(err)
	}
	var lost atomic.Bool
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if lost.Load() && r.URL.Path == "/host-shell" {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	return server.URL, func() { lost.Store(true) }
}

// startApart runs the roles of a fleet side by side; the realm server's reports
// go the given way.
func startApart(t *testing.T, f *fleet, at apart, reports string) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	store, err := bus.Start(ctx, bus.Options{Listen: "127.0.0.1:0", DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	with := func() app.Fleet {
		return app.Fleet{NATS: []string{"nats://" + store.Addr()}, Replicas: 1, DataDir: t.TempDir(), Log: slog.New(slog.NewTextHandler(f.log, nil))}
	}
	manager, realm, prerender := with(), with(), with()
	var roles sync.WaitGroup
	run := func(name string, role func() error) {
		roles.Go(func() {
			if err := role(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	run("manager", func() error { return app.RunManager(ctx, manager, app.ManagerOptions{Addr: at.manager}) })
	run("realm server", func() error {
		return app.RunRealm(ctx, realm, app.RealmOptions{Addr: at.realm, Host: f.host, ManagerURL: reports, NoPoll: true})
	})
	run("prerender server", func() error {
		return app.RunPrerender(ctx, prerender, app.PrerenderOptions{Addr: at.prerender, ManagerURL: at.ManagerURL(), Realms: []string{at.RealmURL()}})
	})
	t.Cleanup(func() {
		stop()
		roles.Wait()
		_ = store.Close()
		if t.Failed() {
			t.Log("log of the fleet:\n" + f.log.String())
		}
	})
}

// TestASkewFindsTheReleaseThatNobodyReported: the report of a deploy is lost,
// presence with it. A page that misses a file of the old release is enough for
// the fleet to find the new one.
func TestASkewFindsTheReleaseThatNobodyReported(t *testing.T) {
	at := apart{realm: freeAddr(t), manager: freeAddr(t), prerender: freeAddr(t)}
	f := newFleetAt(t, at)
	f.secret, f.http = "", &http.Client{}
	if err := examples.WriteVanilla(f.host, "r1"); err != nil {
		t.Fatal(err)
	}
	chunks, err := filepath.Glob(filepath.Join(f.host, "assets", "about-*.js"))
	if err != nil || len(chunks) != 1 {
		t.Fatalf("%v %v", chunks, err)
	}
	if err := os.Remove(chunks[0]); err != nil {
		t.Fatal(err)
	}
	reports, lose := losingReports(t, at.ManagerURL())
	startApart(t, f, at, reports)
	f.until("the fleet is complete on r1", f.completeNow)
	lose()
	f.write("r2")
	newest := f.postDeployment()
	if !newest.Accepted || newest.CurrentChecksum == "" {
		t.Fatalf("the deploy was not accepted: %+v", newest)
	}
	if now := f.rollout().Release; now.Sequence != 1 {
		t.Fatalf("release %+v: the report was not lost, and the test proves nothing", now)
	}
	answer, err := f.visit(t.Context(), "/about", words.ModeNavigate)
	if err != nil || answer.Status != http.StatusCreated {
		t.Fatalf("%v %+v", err, answer)
	}
	f.until("the fleet is complete on the release that nobody reported", func() bool {
		rollout, ok := f.progress()
		return ok && rollout.Phase == wire.RolloutComplete && rollout.Release.Token == newest.CurrentChecksum
	})
	answer, err = f.visit(t.Context(), "/about", words.ModeNavigate)
	if got := answer.Data.Attributes; err != nil || got.Status != words.StatusReady || !strings.Contains(got.HTML, "r2") || answer.Token != newest.CurrentChecksum {
		t.Errorf("%v %s %+v", err, answer.Token, got.Error)
	}
}
