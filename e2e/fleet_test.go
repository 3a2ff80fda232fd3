// Package e2e runs whole fleets on the real thing: real Chrome, real built
// applications, the real store, real sockets.
package e2e

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rewarm/rewarm/examples"
	"github.com/rewarm/rewarm/internal/app"
	"github.com/rewarm/rewarm/internal/bus"
	"github.com/rewarm/rewarm/internal/client"
	"github.com/rewarm/rewarm/internal/ledger"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// eventually bounds every wait of these tests; it is generous because the
// machine is shared, and reached only when something is broken.
const eventually = 2 * time.Minute

// place is where a fleet answers; [app.Up] is one.
type place interface {
	RealmURL() string
	ManagerURL() string
	PrerenderURL() string
}

// fleet is a whole fleet, its store open to the test: in this process, or in
// processes of its own.
type fleet struct {
	t     *testing.T
	up    place
	host  string // the host directory
	data  string // the data directory of a fleet in this process
	store *ledger.Ledger
	nats  string // URL of the store of a fleet in this process
	log   *syncBuffer
	http  *http.Client
	// origin is where visitors and the hook reach the realm server; "" is its
	// public URL.
	origin string
	// secret is the fleet's; "" for none.
	secret string
	// asks is what the manager is polled with: a client for each poll would leave
	// its connection open.
	asks func() *client.Manager

	mu       sync.Mutex
	tokens   map[words.Token]string // release name by token
	deployed []string               // release names in the order they were accepted
}

// startFleet runs a fleet on the vanilla example's release r0.
func startFleet(t *testing.T, change func(*app.UpOptions)) *fleet {
	t.Helper()
	host, err := examples.Vanilla("r0")
	if err != nil {
		t.Fatal(err)
	}
	return startFleetOn(t, host, "r0", change)
}

// startFleetOn runs a fleet on a host whose release has the given name.
func startFleetOn(t *testing.T, host fs.FS, release string, change func(*app.UpOptions)) *fleet {
	t.Helper()
	f := &fleet{
		t: t, host: t.TempDir(), data: t.TempDir(), log: &syncBuffer{}, tokens: map[words.Token]string{},
		http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}},
	}
	f.asks = sync.OnceValue(f.client)
	f.place(host)
	log := slog.New(slog.NewTextHandler(f.log, nil))
	t.Cleanup(func() {
		if t.Failed() {
			t.Log("log of the fleet:\n" + f.log.String())
		}
	})
	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(stop)
	store, err := bus.Start(ctx, bus.Options{Listen: "127.0.0.1:0", DataDir: t.TempDir(), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	if f.store, err = ledger.Open(ctx, store.Conn(), ledger.Options{}); err != nil {
		t.Fatal(err)
	}
	f.nats = "nats://" + store.Addr()
	options := app.UpOptions{
		Host: f.host, RealmAddr: "127.0.0.1:0", ManagerAddr: "127.0.0.1:0", PrerenderAddr: "127.0.0.1:0", Pages: 3,
	}
	if change != nil {
		change(&options)
	}
	up, err := app.NewUp(ctx, app.Fleet{NATS: []string{f.nats}, Replicas: 1, DataDir: f.data, Log: log}, options)
	if err != nil {
		t.Fatal(err)
	}
	f.up = up
	ended := make(chan error, 1)
	go func() { ended <- up.Run(ctx) }()
	t.Cleanup(func() {
		pid := f.browserPID()
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the fleet ended with: %v", err)
		}
		if pid > 0 && syscall.Kill(pid, 0) == nil {
			t.Errorf("chrome %d is still there after the fleet has ended", pid)
		}
		f.http.CloseIdleConnections()
	})
	f.until("the fleet is complete on "+release, func() bool { return f.rollout().Phase == wire.RolloutComplete })
	f.note(release, f.token())
	return f
}

// place replaces the host directory's content.
func (f *fleet) place(host fs.FS) {
	f.t.Helper()
	if err := examples.Deploy(f.host, host); err != nil {
		f.t.Fatal(err)
	}
}

// write replaces the host directory's content by a release of the example.
func (f *fleet) write(release string) {
	f.t.Helper()
	if err := examples.WriteVanilla(f.host, release); err != nil {
		f.t.Fatal(err)
	}
}

// deployed is what the hook answers.
type deployed struct {
	CurrentChecksum words.Token `json:"currentChecksum"`
	Candidate       words.Token `json:"candidateChecksum"`
	Accepted        bool        `json:"accepted"`
	Reason          string      `json:"reason"`
}

// postDeployment calls the hook, as a pipeline does.
func (f *fleet) postDeployment() deployed {
	f.t.Helper()
	response, err := f.http.Post(cmp.Or(f.origin, f.up.RealmURL())+"/_post-deployment", "", nil)
	if err != nil {
		f.t.Fatal(err)
	}
	defer response.Body.Close()
	var answer deployed
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		f.t.Fatal(err)
	}
	return answer
}

// deploy writes a release and has it accepted.
func (f *fleet) deploy(release string) words.Token {
	f.t.Helper()
	f.write(release)
	return f.accept(release)
}

// accept has what is in the host directory accepted under a name.
func (f *fleet) accept(release string) words.Token {
	f.t.Helper()
	answer := f.postDeployment()
	if !answer.Accepted {
		f.t.Fatalf("deploying %s: %+v", release, answer)
	}
	f.note(release, answer.CurrentChecksum)
	return answer.CurrentChecksum
}

func (f *fleet) note(release string, token words.Token) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tokens[token] = release
	f.deployed = append(f.deployed, release)
}

// nameOf is the release of a token.
func (f *fleet) nameOf(token words.Token) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.tokens[token]
}

// deploys is how many releases were accepted so far.
func (f *fleet) deploys() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.deployed)
}

// indexOf is the place of a release in the order of acceptance.
func (f *fleet) indexOf(release string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := len(f.deployed) - 1; i >= 0; i-- {
		if f.deployed[i] == release {
			return i
		}
	}
	return -1
}

func (f *fleet) token() words.Token {
	f.t.Helper()
	_, body := f.get("/_host-shell-hash")
	return words.Token(body)
}

func (f *fleet) get(path string) (http.Header, string) {
	f.t.Helper()
	response, err := f.http.Get(cmp.Or(f.origin, f.up.RealmURL()) + path)
	if err != nil {
		f.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return response.Header, string(body)
}

// client is one of the manager's, until the test ends.
func (f *fleet) client() *client.Manager {
	m := client.NewManager(f.up.ManagerURL(), f.secret)
	f.t.Cleanup(m.HTTP.CloseIdleConnections)
	return m
}

func (f *fleet) rollout() wire.Rollout {
	f.t.Helper()
	rollout, err := f.asks().Rollout(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	return rollout
}

// until polls a condition that nothing announces.
func (f *fleet) until(what string, condition func() bool) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), eventually)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-ctx.Done():
			rollout, _ := json.Marshal(f.rollout())
			f.t.Fatalf("not within %s: %s; rollout %s", eventually, what, rollout)
		case <-tick.C:
		}
	}
}

// completeOn waits until every page of every server is of the token.
func (f *fleet) completeOn(token words.Token) {
	f.t.Helper()
	f.until("the fleet is complete on "+f.nameOf(token), func() bool {
		rollout := f.rollout()
		return rollout.Phase == wire.RolloutComplete && rollout.Release.Token == token
	})
}

// metric reads one sample of the prerender server, -1 when it is not there.
func (f *fleet) metric(name string) float64 {
	f.t.Helper()
	response, err := f.http.Get(f.up.PrerenderURL() + "/metrics")
	if err != nil {
		return -1
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	found := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (\S+)$`).FindSubmatch(body)
	if found == nil {
		return -1
	}
	value, err := strconv.ParseFloat(string(found[1]), 64)
	if err != nil {
		f.t.Fatal(err)
	}
	return value
}

func (f *fleet) browserPID() int { return int(f.metric("rewarm_prerender_browser_pid")) }

// visitAnswer is an answer as a caller who knows only the wire contract sees it.
type visitAnswer struct {
	Status     int
	Token      words.Token
	RetryAfter string
	Data       struct {
		Attributes wire.VisitResult `json:"attributes"`
	} `json:"data"`
	Meta wire.Meta `json:"meta"`
	Body string
}

// visit asks the manager for a render.
func (f *fleet) visit(ctx context.Context, path string, mode words.Mode) (visitAnswer, error) {
	body := fmt.Sprintf(`{"data":{"attributes":{"url":%q,"renderOptions":{"mode":%q}}}}`, f.up.RealmURL()+path, mode)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, f.up.ManagerURL()+"/prerender-visit", bytes.NewReader([]byte(body)))
	if err != nil {
		return visitAnswer{}, err
	}
	response, err := f.http.Do(request)
	if err != nil {
		return visitAnswer{}, err
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		return visitAnswer{}, err
	}
	answer := visitAnswer{Status: response.StatusCode, Token: words.Token(response.Header.Get(wire.HeaderShellHash)),
		RetryAfter: response.Header.Get("Retry-After"), Body: string(raw)}
	return answer, json.Unmarshal(raw, &answer)
}

// syncBuffer is a log that many goroutines write.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
