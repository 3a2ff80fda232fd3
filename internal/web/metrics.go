package web

import (
	"net/http"
	"net/netip"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/rewarm/rewarm/internal/fault"
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
