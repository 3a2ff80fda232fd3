package web

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/wire"
)

// Metrics serves g to loopback peers, and to others with the secret.
func (g Guard) Metrics(gatherer prometheus.Gatherer) Handler {
	metrics := promhttp.HandlerFor(gatherer, promhttp.HandlerOpts{})
	return func(w http.ResponseWriter, r *http.Request) error {
		peer, _ := netip.ParseAddrPort(r.RemoteAddr)
		if !peer.Addr().Unmap().IsLoopback() && !g.Allows(r) {
			return fault.New(fault.Unauthorized, "Unauthorized")
		}
		metrics.ServeHTTP(w, r)
		return nil
	}
}

// metricsGrace bounds how long a scrape may go on when all else has ended.
const metricsGrace = time.Second

// MetricsOptions of a MetricsServer; all but Addr are required.
type MetricsOptions struct {
	Command  string // names it in errors
	Addr     string // host:port, the command's --metrics-addr; "" serves nothing
	Guard    Guard
	Gatherer prometheus.Gatherer
	Log      *slog.Logger
}

// MetricsServer serves GET /metrics and /livez, for what serves nothing else.
type MetricsServer struct {
	listener net.Listener // nil: serves nothing
	handler  http.Handler
	log      *slog.Logger
}

// NewMetricsServer binds the listener. Its errors say what to do: one of kind
// [fault.Usage] when other machines could reach it and nothing keeps them out.
func NewMetricsServer(o MetricsOptions) (*MetricsServer, error) {
	if o.Addr == "" {
		return &MetricsServer{}, nil
	}
	if err := o.Guard.CheckListen(o.Command, "--metrics-addr", o.Addr); err != nil {
		return nil, err
	}
	listener, err := Listen(o.Command, "--metrics-addr", o.Addr)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", Route(o.Log, NotFound))
	mux.HandleFunc("GET /metrics", Route(o.Log, o.Guard.Metrics(o.Gatherer)))
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		WriteJSON(w, http.StatusOK, wire.ContentTypeJSON, map[string]bool{"live": true})
	})
	return &MetricsServer{listener, Handle(o.Log, mux), o.Log}, nil
}

// Run serves until ctx ends; without an address it only waits for that.
func (s *MetricsServer) Run(ctx context.Context) error {
	if s.listener == nil {
		<-ctx.Done()
		return nil
	}
	s.log.Info("metrics are served", "addr", s.listener.Addr().String())
	return Serve(ctx, s.listener, s.handler, metricsGrace)
}

// Close frees the address, also of a server that never ran.
func (s *MetricsServer) Close() error {
	if s.listener == nil {
		return nil
	}
	if err := s.listener.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}
