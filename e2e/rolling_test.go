package e2e

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/rewarm/rewarm/examples"
	"github.com/rewarm/rewarm/internal/words"
)

// startBalancer sends each request to the next of the addresses that are up,
// whatever they serve, as a load balancer does in a rolling deploy.
func startBalancer(t *testing.T, addrs ...string) string {
	t.Helper()
	var turn atomic.Int64
	balancer := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: addrs[int(turn.Add(1))%len(addrs)]})
			r.Out.Host = r.In.Host
		},
		Transport: &http.Transport{
			DisableKeepAlives: true, // one that starts again has the old one's address
			DialContext: func(ctx context.Context, network, addr string) (conn net.Conn, err error) {
				for _, addr := range append([]string{addr}, addrs...) {
					if conn, err = new(net.Dialer).DialContext(ctx, network, addr); err == nil {
						break
					}
				}
				return conn, err
			},
		},
	})
	t.Cleanup(balancer.Close)
	return strings.TrimPrefix(balancer.URL, "http://")
}

// TestW04_RollingDeployOfTwoRealmServersConverges: two realm servers behind a
// balancer that turns with each request are replaced one after the other, while
// callers render. As long as they serve different shells, the files of either
// are found on both; no render fails, nothing stale is told or stored, the fleet
// arrives at the newest although half of the shells it is given are old, and no
// report of the old one moves it back.
func TestW04_RollingDeployOfTwoRealmServersConverges(t *testing.T) {
	addrs := [2]string{freeAddr(t), freeAddr(t)}
	hosts := [2]string{t.TempDir(), t.TempDir()}
	names := [2]string{"realm-a", "realm-b"}
	place := fixed{realm: startBalancer(t, addrs[:]...), manager: freeAddr(t)}
	f := &processes{natsAddr: freeAddr(t), data: t.TempDir(), fleet: newFleetAt(t, place)}
	write := func(i int, release string) {
		t.Helper()
		if err := examples.WriteVanilla(hosts[i], release); err != nil {
			t.Fatal(err)
		}
	}
	var realms [2]*process
	f.startManager()
	for i := range realms {
		write(i, "r0")
		realms[i] = f.startRealmAt(names[i], addrs[i], hosts[i])
	}
	f.startPrerender(0)
	f.openStore()
	f.until("both realm servers answer", func() bool {
		return f.status("http://"+addrs[0]+"/livez") == http.StatusOK && f.status("http://"+addrs[1]+"/livez") == http.StatusOK
	})
	r0 := f.token()
	f.note("r0", r0)
	f.completeAgain(r0)
	l, end := callersOf(f.fleet, words.ModeTransition, forgiveNothing)

	// By the hook, on the first; the second lags behind.
	write(0, "r1")
	f.origin = "http://" + addrs[0]
	r1 := f.accept("r1")
	f.origin = ""
	f.bothHave(addrs[:], hosts[:])
	f.completeOn(r1)
	l.more(2 * callers)
	f.visitors()
	f.bothHave(addrs[:], hosts[:])
	write(1, "r1")
	f.origin = "http://" + addrs[1]
	if answer := f.postDeployment(); !answer.Accepted || answer.CurrentChecksum != r1 {
		t.Fatalf("the second: %+v", answer)
	}
	f.origin = ""
	l.more(callers)

	// By replacing the processes, the second first.
	for n, i := range []int{1, 0} {
		realms[i].signal(syscall.SIGTERM)
		realms[i].wait()
		write(i, "r2")
		realms[i] = f.startRealmAt(names[i], addrs[i], hosts[i])
		f.until("it answers", func() bool { return f.status("http://"+addrs[i]+"/livez") == http.StatusOK })
		if n == 0 {
			f.origin = "http://" + addrs[i]
			r2 := f.token()
			f.origin = ""
			f.until("the manager knows of r2", func() bool {
				rollout, ok := f.progress()
				return ok && rollout.Release.Token == r2
			})
			f.note("r2", r2)
			f.bothHave(addrs[:], hosts[:])
		}
		l.more(callers)
	}
	f.completeOn(f.token())
	f.visitors()
	end()
	judgeStore(t, f.fleet)
	f.judgeHistory("1 r0", "2 r1", "3 r2")
}

// bothHave asks each of the servers for every file below the assets of each of
// the hosts.
func (f *processes) bothHave(addrs, hosts []string) {
	f.t.Helper()
	asked := 0
	for _, host := range hosts {
		files := os.DirFS(host)
		names, err := fs.Glob(files, "assets/*")
		if err != nil {
			f.t.Fatal(err)
		}
		for _, name := range names {
			want, err := fs.ReadFile(files, name)
			if err != nil {
				f.t.Fatal(err)
			}
			for _, addr := range addrs {
				response, err := f.http.Get("http://" + addr + "/" + name)
				if err != nil {
					f.t.Fatal(err)
				}
				got, err := io.ReadAll(response.Body)
				response.Body.Close()
				if err != nil || response.StatusCode != http.StatusOK || !bytes.Equal(got, want) {
					f.t.Errorf("%s has not got %s: %d, %d bytes for %d, %v", addr, name, response.StatusCode, len(got), len(want), err)
				}
				asked++
			}
		}
	}
	if asked == 0 {
		f.t.Fatal("no files: this proves nothing")
	}
}
