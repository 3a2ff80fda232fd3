package app

import (
	"cmp"
	"context"
	"net"
	"net/url"
	"strings"

	"github.com/rewarm/rewarm/internal/egress"
)

// startEgress starts the proxy that Chrome's traffic goes through. It ends with
// the teardown, so after the Chrome that uses it.
func startEgress(o egress.Options, teardown *stack) (*egress.Proxy, error) {
	proxy, err := egress.New(o)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- proxy.Run(ctx) }()
	teardown.push(func() error {
		stop()
		return <-ended
	})
	return proxy, nil
}

// addresses are the host:port of URLs; one without a port has its scheme's, and
// one without a scheme is NATS's.
func addresses(urls ...string) (found []string) {
	ports := map[string]string{"http": "80", "https": "443", "nats": "4222", "tls": "4222"}
	for _, raw := range urls {
		if !strings.Contains(raw, "://") {
			raw = "nats://" + raw
		}
		if u, err := url.Parse(raw); err == nil && u.Host != "" {
			found = append(found, net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), ports[u.Scheme])))
		}
	}
	return found
}
