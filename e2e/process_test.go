package e2e

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rewarm/rewarm/internal/bus"
	"github.com/rewarm/rewarm/internal/ledger"
	"github.com/rewarm/rewarm/internal/wire"
)

// secret is that of the fleets of processes.
const secret = "the-fleet-secret"

// buildDir is where the binary is built; TestMain makes and removes it.
var buildDir string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		// Built with the race detector, each process would sleep a second when it ends,
		// for the races of what it left running.
		err := os.Setenv("GORACE", "atexit_sleep_ms=100")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		if buildDir, err = os.MkdirTemp("", "rewarm-e2e-"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer func() { _ = os.RemoveAll(buildDir) }()
		return m.Run()
	}())
}

// binary builds rewarm once for all tests that need it, with the race detector
// when they have it.
var binary = sync.OnceValues(func() (string, error) {
	path := filepath.Join(buildDir, "rewarm")
	args := []string{"build", "-o", path}
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		args = append(args, "-race")
	}
	out, err := exec.Command("go", append(args, "../cmd/rewarm")...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

// process is one rewarm process.
type process struct {
	t     *testing.T
	name  string
	cmd   *exec.Cmd
	log   *syncBuffer
	ended chan struct{} // closed when it was reaped
}

// start runs rewarm with the arguments. At the end of the test it is ended
// gently; what it wrote is shown when the test failed.
func start(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, name: args[0], log: &syncBuffer{}, ended: make(chan struct{})}
	p.cmd = exec.Command(path, args...)
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	// What a killed role's Chrome holds open must not hold up the test.
	p.cmd.WaitDelay = time.Second
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // how it ended is in ProcessState
	}()
	t.Cleanup(func() {
		p.signal(syscall.SIGTERM)
		p.wait()
		if t.Failed() {
			t.Logf("%s wrote:\n%s", p.name, p.log.String())
		}
	})
	return p
}

func (p *process) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) } // it may have ended

// wait returns the exit code, -1 after a signal.
func (p *process) wait() int {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(eventually):
		p.signal(syscall.SIGKILL)
		<-p.ended
		p.t.Errorf("%s had not ended within %s", p.name, eventually)
	}
	return p.cmd.ProcessState.ExitCode()
}

// freeAddr is a loopback address that nobody listens on. A process that starts
// again needs the same one, so it cannot be left to the process. It is below those
// that the system gives to connections, or one could take it before its server does.
func freeAddr(t *testing.T) string {
	t.Helper()
	for range 1000 {
		at := fmt.Sprintf("127.0.0.1:%d", 20000+(os.Getpid()*64+int(lastPort.Add(1)))%12000)
		if ln, err := net.Listen("tcp", at); err == nil {
			_ = ln.Close()
			return at
		}
	}
	t.Fatal("no port is free")
	return ""
}

var lastPort atomic.Int64

// fixed is where a fleet of processes answers.
type fixed struct{ realm, manager string }

func (a fixed) RealmURL() string   { return "http://" + a.realm }
func (a fixed) ManagerURL() string { return "http://" + a.manager }

// PrerenderURL is nobody's: there may be several. See [fleet.servers].
func (a fixed) PrerenderURL() string { return "" }

// processes is a fleet whose roles are processes of their own.
type processes struct {
	*fleet
	natsAddr       string
	data           string
	realmEnv       []string // of the realm server, when it starts the next time
	manager, realm *process
	prerender      []*process
}

// quick are settings that make a fleet notice and end quickly.
var quick = []string{
	"PRERENDER_HEARTBEAT_INTERVAL_MS=1000", "PRERENDER_HEARTBEAT_TIMEOUT_MS=4000", "PRERENDER_HEARTBEAT_SWEEP_INTERVAL_MS=500",
	"PRERENDER_SHUTDOWN_GRACE_MS=1000",
}

// startProcesses runs a manager with its store, a realm server on the vanilla
// example's r0, and n prerender servers.
func startProcesses(t *testing.T, n int) *processes {
	t.Helper()
	place := fixed{realm: freeAddr(t), manager: freeAddr(t)}
	f := &processes{natsAddr: freeAddr(t), data: t.TempDir(), fleet: newFleetAt(t, place)}
	f.write("r0")
	f.startManager()
	f.startRealm()
	for i := range n {
		f.startPrerender(i)
	}
	f.openStore()
	if n > 0 {
		f.until("all servers are complete on r0", func() bool {
			rollout, ok := f.progress()
			return ok && rollout.Phase == wire.RolloutComplete && len(rollout.Servers) == n
		})
	}
	f.until("the realm server answers", func() bool { return f.status(f.up.RealmURL()+"/_host-shell-hash") == http.StatusOK })
	f.note("r0", f.token())
	return f
}

// openStore joins the fleet's store, to judge what is in it.
func (f *processes) openStore() {
	f.t.Helper()
	f.until("the manager answers", func() bool { _, ok := f.progress(); return ok })
	ctx, stop := context.WithCancel(context.Background())
	f.t.Cleanup(stop)
	connection, err := bus.Start(ctx, bus.Options{URLs: []string{"nats://" + f.natsAddr}, Secret: secret, Name: "e2e"})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = connection.Close() })
	if f.store, err = ledger.Open(ctx, connection.Conn(), ledger.Options{}); err != nil {
		f.t.Fatal(err)
	}
}

func (f *processes) startManager() {
	f.t.Helper()
	f.manager = start(f.t, quick, "prerender-manager", "--addr", f.up.(fixed).manager, "--nats-listen", f.natsAddr,
		"--data", filepath.Join(f.data, "manager"), "--secret", secret)
}

func (f *processes) startRealm() {
	f.t.Helper()
	f.realm = f.startRealmAt("realm", f.up.(fixed).realm, f.host)
}

// startRealmAt runs a realm server of that name on a host directory.
func (f *processes) startRealmAt(name, addr, host string) *process {
	f.t.Helper()
	return start(f.t, slices.Concat(quick, f.realmEnv), "realm-server", "--host", host, "--addr", addr, "--realm-url", f.up.RealmURL(), "--manager-url", f.up.ManagerURL(),
		"--nats", "nats://"+f.natsAddr, "--data", filepath.Join(f.data, name), "--secret", secret)
}

// prerenderData is the data directory of the i-th prerender server.
func (f *processes) prerenderData(i int) string {
	return filepath.Join(f.data, fmt.Sprintf("prerender%d", i))
}

func (f *processes) startPrerender(i int) *process {
	f.t.Helper()
	p := start(f.t, quick, "prerender-server", "--addr", "127.0.0.1:0", "--manager-url", f.up.ManagerURL(), "--realm-url", f.up.RealmURL(),
		"--pages", "2", "--data", f.prerenderData(i), "--secret", secret)
	f.prerender = append(f.prerender, p)
	return p
}

// servers are the URLs of the live prerender servers.
func (f *processes) servers() (urls []string) {
	rollout, _ := f.progress()
	for _, s := range rollout.Servers {
		urls = append(urls, s.URL)
	}
	return urls
}

// profiles are the Chrome profiles on disk of the i-th prerender server.
func (f *processes) profiles(i int) (names []string) {
	f.t.Helper()
	entries, err := os.ReadDir(filepath.Join(f.prerenderData(i), "prerender-server"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		f.t.Fatal(err)
	}
	for _, entry := range entries {
		if entry.IsDir() {
			names = append(names, entry.Name())
		}
	}
	return names
}

// withSecret sends the fleet's secret with every request that has none.
type withSecret struct {
	next   http.RoundTripper
	secret string
}

func (s withSecret) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Header.Get("Authorization") == "" {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+s.secret)
	}
	return s.next.RoundTrip(r)
}

func (p *process) says(text string) bool { return strings.Contains(p.log.String(), text) }
