package egress

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"
)

const (
	// reachWithin bounds resolving and dialling together.
	reachWithin = 10 * time.Second
	// nextAfter is when the next address of a host is tried instead.
	nextAfter = 3 * time.Second
)

// unreachable says that no connection was made, so that nothing was sent.
type unreachable struct{ cause error }

func (e *unreachable) Error() string { return "unreachable: " + e.cause.Error() }
func (e *unreachable) Unwrap() error { return e.cause }

// reach connects to a target. Its name is resolved once; the addresses that
// the policy refuses are left out, and one of the rest is dialled as it is. If
// there is no rest, the error is a *refusal.
func (p *Proxy) reach(ctx context.Context, t target, permitted bool) (net.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, reachWithin, fmt.Errorf("%s not reached within %s", t, reachWithin))
	defer cancel()
	addrs := []netip.Addr{t.addr}
	if !t.addr.IsValid() {
		var err error
		if addrs, err = p.resolve(ctx, t.host); err != nil {
			return nil, &unreachable{err}
		}
	}
	var (
		why    reason
		failed error
	)
	for _, addr := range addrs {
		to := netip.AddrPortFrom(addr.Unmap().WithZone(""), t.port)
		if r := p.policy.judge(to, permitted); r != "" {
			why = r
			continue
		}
		conn, err := p.dial(ctx, to)
		if err == nil {
			return conn, nil
		}
		failed = &unreachable{err}
	}
	switch {
	case failed != nil:
		return nil, failed
	case why != "":
		return nil, refused(why, t.String())
	}
	return nil, &unreachable{fmt.Errorf("%s has no address", t)}
}

// resolve looks a name up.
func resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if isLocalhost(host) {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}, nil
	}
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

// dial dials an address, never a name.
func dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, nextAfter, fmt.Errorf("no answer from %s within %s", to, nextAfter))
	defer cancel()
	conn, err := new(net.Dialer).DialTCP(ctx, "tcp", netip.AddrPort{}, to)
	if err != nil {
		return nil, err // a nil *net.TCPConn in the interface would not be nil
	}
	return conn, nil
}
