package manager

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rewarm/rewarm/internal/bus"
	"github.com/rewarm/rewarm/internal/ledger"
	"github.com/rewarm/rewarm/internal/wire"
)

const (
	secret = "s3cret"
	realm  = "http://realm.example/app"
)

// rig is one manager on a real store.
type rig struct {
	*Manager
	t    *testing.T
	base string
	stop func() // ends Run and waits for it
}

func newStore(t *testing.T) *bus.Bus {
	t.Helper()
	b, err := bus.Start(t.Context(), bus.Options{DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func newLedger(t *testing.T, b *bus.Bus) *ledger.Ledger {
	t.Helper()
	l, err := ledger.Open(t.Context(), b.Conn(), ledger.Options{CallTimeout: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func start(t *testing.T, change ...func(*Options)) *rig {
	t.Helper()
	return startOn(t, newLedger(t, newStore(t)), change...)
}

func startOn(t *testing.T, l *ledger.Ledger, change ...func(*Options)) *rig {
	t.Helper()
	o := Options{
		Addr: "127.0.0.1:0", Ledger: l, DiscoveryWait: 50 * time.Millisecond,
		DrainMin: time.Millisecond, DrainGrace: 5 * time.Second, Log: slog.New(slog.DiscardHandler),
	}
	for _, f := range change {
		f(&o)
	}
	m, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	r := &rig{Manager: m, t: t, base: "http://" + m.Addr().String()}
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(r.stop)
	return r
}

// reply is an answer that has been read.
type reply struct {
	status int
	header http.Header
	body   string
}

func (r reply) message() string {
	var doc struct {
		Errors []struct {
			Status  int
			Message string
		}
	}
	if json.Unmarshal([]byte(r.body), &doc) != nil || len(doc.Errors) != 1 || doc.Errors[0].Status != r.status {
		return "no error document: " + r.body
	}
	return doc.Errors[0].Message
}

func (r *rig) try(ctx context.Context, method, path, body string, header ...string) (reply, error) {
	request, err := http.NewRequestWithContext(ctx, method, r.base+path, strings.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		return reply{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return reply{response.StatusCode, response.Header, string(text)}, err
}

func (r *rig) do(method, path, body string, header ...string) reply {
	r.t.Helper()
	got, err := r.try(r.t.Context(), method, path, body, header...)
	if err != nil {
		r.t.Fatal(err)
	}
	return got
}

func attrs(pairs map[string]any) string {
	body, _ := json.Marshal(map[string]any{"data": map[string]any{"type": "x", "attributes": pairs}})
	return string(body)
}

func (r *rig) beat(url string, more map[string]any, header ...string) reply {
	r.t.Helper()
	a := map[string]any{"url": url}
	maps.Copy(a, more)
	got := r.do("POST", "/prerender-servers", attrs(a), header...)
	if got.status != 204 {
		r.t.Fatalf("heartbeat: %d %s", got.status, got.body)
	}
	return got
}

func pagesOf(release uint64, desired string, pages map[string]int) map[string]any {
	return map[string]any{"hostShell": map[string]any{"release": release, "desired": desired, "pages": pages, "phase": "fresh"}}
}

func (r *rig) says(hash, source, reporter string, more ...string) reply {
	r.t.Helper()
	a := map[string]any{"hash": hash, "source": source, "reporter": reporter, "realms": []string{realm}}
	for i := 0; i < len(more); i += 2 {
		a[more[i]] = more[i+1]
	}
	return r.do("POST", "/host-shell", attrs(a))
}

func (r *rig) mustSay(hash, source, reporter string, more ...string) string {
	r.t.Helper()
	got := r.says(hash, source, reporter, more...)
	if got.status != 204 {
		r.t.Fatalf("report: %d %s", got.status, got.body)
	}
	return got.header.Get(wire.HeaderRelease)
}

func visitBody(more ...any) string {
	a := map[string]any{"url": realm + "/page", "affinityType": "realm", "affinityValue": realm}
	for i := 0; i < len(more); i += 2 {
		a[more[i].(string)] = more[i+1]
	}
	return attrs(a)
}

// fake is a prerender server as the manager sees one.
type fake struct {
	*httptest.Server
	mu   sync.Mutex
	seen []*http.Request
	body []string
}

func newFake(t *testing.T, h http.HandlerFunc) *fake {
	t.Helper()
	f := &fake{}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		f.mu.Lock()
		f.seen = append(f.seen, r)
		f.body = append(f.body, string(text))
		f.mu.Unlock()
		r.Body = io.NopCloser(bytes.NewReader(text))
		h(w, r)
	}))
	t.Cleanup(f.Close)
	return f
}

func (f *fake) calls() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.seen)
}

func status(code int, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
		_, _ = fmt.Fprintf(w, `{"from":"%s"}`, r.Host)
	}
}

// eventually polls a condition for at most ten seconds.
func eventually(t *testing.T, what string, met func() bool) {
	t.Helper()
	limit := time.After(10 * time.Second)
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for !met() {
		select {
		case <-limit:
			t.Fatalf("never: %s", what)
		case <-poll.C:
		}
	}
}

func deadURL(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return "http://" + ln.Addr().String()
}
