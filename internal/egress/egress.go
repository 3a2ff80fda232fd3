// Package egress is the way out of Chrome: a forward proxy on loopback that all
// of a browser's traffic goes through, and that reaches nothing a page must not
// reach.
//
// It judges the address that is dialled, and dials the very address that it
// judged: a name is resolved once. So it makes no difference how a page spells
// an address, or how it came to it: a redirect, a frame, a worker, a WebSocket,
// a name that answers differently the second time. Public addresses are
// reachable; of the others only the origins of the realms, and those that an
// operator permits, by exact scheme, host and port; addresses of the fleet
// itself never.
//
// The proxy asks for no password. Chrome would only give one to a proxy that
// challenged it, through a debugger that then holds up every request. It is not
// needed: it listens on loopback, on a port that changes with every start, and
// whoever reaches loopback can dial all that it dials. A page in a person's
// browser on this machine cannot use it, for such a page can send neither
// CONNECT nor a request line with a whole URL to what is not its proxy; all
// else is refused.
package egress

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rewarm/rewarm/internal/wire"
)

// The bounds of what a page can make the proxy hold.
const (
	// maxConnections of the browser: beyond it the next one waits. A browser
	// context has 32 to a proxy, and as many WebSockets, so this is far above
	// what pages use and far below what a process may open.
	maxConnections = 1024
	// maxHeader is Chrome's own limit for an answer's header.
	maxHeader = 256 << 10
	// idleUpstream is less than the five seconds after which common servers
	// close an idle connection: a POST that meets one that is just being closed
	// fails, for it may not be sent again.
	idleUpstream = 4 * time.Second
	idleBrowser  = 2 * time.Minute
	headerWithin = 10 * time.Second
)

// Options configure a proxy.
type Options struct {
	// Realms are the base URLs of the realms; their origins are permitted.
	Realms []string
	// AllowOrigins are further origins that pages may reach though their
	// address is not public, as scheme://host:port.
	AllowOrigins []string
	// Fleet are the addresses that no page may reach even if an origin permits
	// it, as host:port. A host that is a name is known by that name: an address
	// may be shared with a realm behind one load balancer. An unspecified host
	// (0.0.0.0) is this machine under all its addresses.
	Fleet      []string
	Registerer prometheus.Registerer // default: one of its own
	Log        *slog.Logger          // default: discarded
}

// Proxy is a forward proxy for one browser.
type Proxy struct {
	listener net.Listener
	policy   *policy
	refusals *refusals
	running  sync.WaitGroup // connections that are served, and tunnels
	// resolve and dial are replaced in tests, which have no public addresses.
	resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	dial    func(ctx context.Context, to netip.AddrPort) (net.Conn, error)
}

// New checks the options and binds a port on loopback; it starts nothing.
func New(o Options) (*Proxy, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Registerer == nil {
		o.Registerer = prometheus.NewRegistry()
	}
	judge, err := newPolicy(o)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("egress: listen on loopback: %w", err)
	}
	judge.forbid(listener.Addr().String())
	return &Proxy{
		listener: listener, policy: judge, refusals: newRefusals(o.Registerer, o.Log),
		resolve: resolve, dial: dial,
	}, nil
}

// SetRealms replaces the realms that pages may reach, and returns those that
// are permitted: a realm at an address of the fleet itself is not. What is
// connected already stays so.
func (p *Proxy) SetRealms(realms []string) (permitted []string) {
	origins := map[origin]bool{}
	for _, realm := range realms {
		o, err := p.policy.origin("realm", realm)
		if err != nil {
			p.refusals.log.Warn("realm not permitted", "realm", realm, "error", err)
			continue
		}
		origins[o] = true
		permitted = append(permitted, realm)
	}
	p.policy.realms.Store(&origins)
	return permitted
}

// URL is what Chrome is given as its proxy.
func (p *Proxy) URL() string { return "http://" + p.listener.Addr().String() }

// Run serves until ctx ends, then cuts everything off. Requests and tunnels
// have ended when it returns.
func (p *Proxy) Run(ctx context.Context) error {
	alive, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	transport := p.transport(alive)
	server := &http.Server{
		Handler:           p.handler(transport),
		ReadHeaderTimeout: headerWithin,
		IdleTimeout:       idleBrowser,
		MaxHeaderBytes:    maxHeader,
		BaseContext:       func(net.Listener) context.Context { return alive },
		ConnState:         p.count,
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(newLimited(p.listener, maxConnections)) }()
	var failed error
	select {
	case failed = <-ended:
		failed = fmt.Errorf("egress: serve %s: %w", p.listener.Addr(), failed)
	case <-ctx.Done():
	}
	cut()
	_ = server.Close()
	if failed == nil {
		<-ended
	}
	p.running.Wait()
	transport.CloseIdleConnections()
	return failed
}

// count follows the browser's connections. One that was taken over by a tunnel
// is no more the server's: from then on its handler is counted.
func (p *Proxy) count(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		p.running.Add(1)
	case http.StateHijacked, http.StateClosed:
		p.running.Done()
	}
}

func (p *Proxy) handler(transport *http.Transport) http.Handler {
	forward := &httputil.ReverseProxy{
		Rewrite:      rewrite,
		Transport:    transport,
		BufferPool:   &buffers{},
		ErrorHandler: p.failed,
		ErrorLog:     slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.running.Add(1) // while its connection is counted, so never from zero
		defer p.running.Done()
		if r.Method == http.MethodConnect {
			p.connect(w, r)
			return
		}
		if err := p.plain(r); err != nil {
			p.refuse(w, err)
			return
		}
		forward.ServeHTTP(w, r)
	})
}

// plain judges a request for an http URL by what it names. A page's https is a
// CONNECT.
func (p *Proxy) plain(r *http.Request) error {
	if r.URL.Scheme != "http" || r.URL.User != nil {
		return refused(malformed, "the request")
	}
	t, err := parseTarget(r.URL.Host, 80)
	if err != nil {
		return err
	}
	return p.policy.named(t, "http")
}

// rewrite asks for what the browser asked for, byte by byte, of the host in the
// spelling that was judged.
func rewrite(r *httputil.ProxyRequest) {
	if t, err := parseTarget(r.In.URL.Host, 80); err == nil {
		r.Out.URL.Host = t.String()
	}
	r.Out.URL.RawQuery = r.In.URL.RawQuery
	_, rest, _ := strings.Cut(r.In.RequestURI, "://")
	path, _, _ := strings.Cut(rest[max(0, strings.IndexByte(rest, '/')):], "?")
	if strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "//") {
		r.Out.URL.Opaque = path // else an encoded slash beside a bar would become a slash
	}
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if values, ok := r.In.Header[name]; ok {
			r.Out.Header[name] = values // the page's own, for we are nobody's way in
		}
	}
}

// transport is how plain requests go out. It resolves, judges and dials when
// it needs a connection; those it keeps were judged.
func (p *Proxy) transport(alive context.Context) *http.Transport {
	return &http.Transport{
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			// A dial may outlive the request that it was for, not the proxy.
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			defer context.AfterFunc(alive, cancel)()
			t, err := parseTarget(address, 0)
			if err != nil {
				return nil, err
			}
			return p.reach(ctx, t, p.policy.permits(t, "http"))
		},
		DisableCompression:     true, // bodies pass as they are
		MaxIdleConns:           256,
		MaxIdleConnsPerHost:    64,
		IdleConnTimeout:        idleUpstream,
		MaxResponseHeaderBytes: maxHeader,
		ReadBufferSize:         bufferSize,
	}
}

// failed answers a request that got no answer. A browser without a proxy would
// see its connection fail, and so it does here. It sends a request again that
// failed on a used connection, so that is for what may be sent twice; of the
// rest it hears in words.
func (p *Proxy) failed(w http.ResponseWriter, r *http.Request, err error) {
	if _, ok := errors.AsType[*refusal](err); ok {
		p.refuse(w, err)
		return
	}
	_, unsent := errors.AsType[*unreachable](err)
	if unsent || r.Method == http.MethodGet || r.Method == http.MethodHead {
		panic(http.ErrAbortHandler)
	}
	http.Error(w, "rewarm: the server broke off", http.StatusBadGateway)
}

// refuse answers with the reason and counts it.
func (p *Proxy) refuse(w http.ResponseWriter, err error) {
	why, ok := errors.AsType[*refusal](err)
	if !ok {
		http.Error(w, "rewarm: the server cannot be reached", http.StatusBadGateway)
		return
	}
	p.refusals.note(why)
	status := http.StatusForbidden
	if why.reason == malformed {
		status = http.StatusBadRequest
	}
	w.Header().Set(wire.HeaderRefused, string(why.reason))
	w.Header().Set("Cache-Control", "no-store")
	http.Error(w, "rewarm: "+why.Error(), status)
}

// bufferSize is a body's step; a bundle passes in a few.
const bufferSize = 32 << 10

// buffers is a pool of them.
type buffers struct{ pool sync.Pool }

func (b *buffers) Get() []byte {
	if kept, ok := b.pool.Get().(*[bufferSize]byte); ok {
		return kept[:]
	}
	return make([]byte, bufferSize)
}

func (b *buffers) Put(used []byte) { b.pool.Put((*[bufferSize]byte)(used)) }

func portText(port uint16) string { return strconv.Itoa(int(port)) }
