package egress

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/websocket"
)

const testLimit = 20 * time.Second

// world is a proxy in a world of its own: names resolve as the test says, and
// public addresses lead to one server, private ones to where they are.
type world struct {
	*Proxy
	registry *prometheus.Registry
	realm    *httptest.Server
	canary   *canary
	stop     func() // and wait

	mu     sync.Mutex
	names  map[string][]string // the answers, one after the other; the last stays
	dialed []netip.AddrPort
	logged strings.Builder
}

// canary is a server that must stay untouched.
type canary struct {
	*httptest.Server
	mu   sync.Mutex
	hits []string
}

func (c *canary) touched() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.hits)
}

func (c *canary) port() string { return portOf(c.URL) }

func portOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return u.Port()
}

// serveAll serves a handler on all addresses of this machine.
func serveAll(t testing.TB, handler http.Handler, state func(net.Conn, http.ConnState)) *httptest.Server {
	t.Helper()
	listener, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	site := httptest.NewUnstartedServer(handler)
	site.Listener, site.Config.ConnState = listener, state
	site.Start()
	site.URL = "http://127.0.0.1:" + portOf("http://"+listener.Addr().String())
	t.Cleanup(site.Close)
	t.Cleanup(site.CloseClientConnections)
	return site
}

func newWorld(t testing.TB, change func(*world, *Options)) *world {
	t.Helper()
	w := &world{registry: prometheus.NewRegistry(), names: map[string][]string{}, canary: &canary{}}
	w.canary.Server = serveAll(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "canary") }),
		func(conn net.Conn, state http.ConnState) {
			if state == http.StateNew {
				w.canary.mu.Lock()
				defer w.canary.mu.Unlock()
				w.canary.hits = append(w.canary.hits, conn.LocalAddr().String())
			}
		})
	w.realm = serveAll(t, realmHandler(), nil)
	o := Options{
		Realms: []string{w.realm.URL + "/base/"}, Registerer: w.registry,
		Log: slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if change != nil {
		change(w, &o)
	}
	proxy, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	w.Proxy = proxy
	proxy.resolve, proxy.dial = w.lookup, w.connectTo
	ctx, end := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- proxy.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		end()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(testLimit):
			t.Error("the proxy has not ended")
		}
	})
	t.Cleanup(w.stop)
	return w
}

// Write takes the log.
func (w *world) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.logged.Write(line)
}

func (w *world) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	w.mu.Lock()
	answers, known := w.names[host]
	if len(answers) > 1 {
		w.names[host] = answers[1:]
	}
	w.mu.Unlock()
	if !known && isLocalhost(host) {
		return resolve(ctx, host)
	}
	if !known {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	var addrs []netip.Addr
	for text := range strings.FieldsSeq(answers[0]) {
		addrs = append(addrs, netip.MustParseAddr(text))
	}
	return addrs, nil
}

// connectTo leads public addresses to the realm's server.
func (w *world) connectTo(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	w.mu.Lock()
	w.dialed = append(w.dialed, to)
	w.mu.Unlock()
	if to.Addr().IsGlobalUnicast() && !to.Addr().IsPrivate() {
		to = netip.MustParseAddrPort(w.realm.Listener.Addr().String())
		to = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), to.Port())
	}
	return dial(ctx, to)
}

func (w *world) dials() []netip.AddrPort {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.dialed)
}

// count is the metric, as it is scraped.
func (w *world) count(t *testing.T, why reason) (n int) {
	t.Helper()
	families, err := w.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() == "rewarm_egress_refused_total" && m.GetLabel()[0].GetValue() == string(why) {
				n = int(m.GetCounter().GetValue())
			}
		}
	}
	return n
}

// realmHandler answers what a realm does.
func realmHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		for name, values := range r.Header {
			w.Header()["Seen-"+name] = values
		}
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s %s", r.Method, r.Host, r.RequestURI, body)
	})
	mux.HandleFunc("/stream", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, "data: first\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	mux.HandleFunc("/breaks", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	mux.Handle("/socket", websocket.Handler(func(conn *websocket.Conn) { _, _ = io.Copy(conn, conn) }))
	return mux
}

// open is a connection to the proxy.
func (w *world) open(t testing.TB) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", w.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(testLimit)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// ask writes a request line, with a Host header that says something else, and
// reads the answer.
func (w *world) ask(t testing.TB, line string) (status int, body string) {
	t.Helper()
	conn := w.open(t)
	fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: elsewhere.example\r\n\r\n", line)
	method, _, _ := strings.Cut(line, " ")
	answer, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode == http.StatusOK && method == http.MethodConnect {
		return answer.StatusCode, ""
	}
	text, _ := io.ReadAll(answer.Body)
	return answer.StatusCode, string(text)
}

// client is a browser's HTTP client, as far as Go has one.
func (w *world) client(t testing.TB) *http.Client {
	t.Helper()
	through, err := url.Parse(w.URL())
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{
		Proxy: http.ProxyURL(through), MaxIdleConnsPerHost: 64,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: testLimit}
}

func get(t *testing.T, client *http.Client, at string) (*http.Response, string) {
	t.Helper()
	answer, err := client.Get(at)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer, string(body)
}
