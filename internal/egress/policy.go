package egress

import (
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"

	"code.dny.dev/ssrf"

	"github.com/rewarm/rewarm/internal/fault"
)

// hostAgent is Azure's: a public address at which each virtual machine reaches
// the platform below it, which no registry lists as special.
var hostAgent = netip.MustParsePrefix("168.63.129.16/32")

// policy says what may be reached.
type policy struct {
	public  *ssrf.Guardian
	origins map[origin]bool // beside those of realms
	fleet   []target        // those with an address; unspecified is this machine
	names   map[target]bool
	// own are this machine's addresses; a function, for they change.
	own func() []netip.Addr
	// realms are the realms' origins; the rest does not change.
	realms atomic.Pointer[map[origin]bool]
}

func newPolicy(o Options) (*policy, error) {
	p := &policy{
		public:  ssrf.New(ssrf.WithAnyPort(), ssrf.WithDeniedV4Prefixes(hostAgent)),
		origins: map[origin]bool{}, names: map[target]bool{}, own: interfaces,
	}
	for _, address := range o.Fleet {
		p.forbid(address)
	}
	realms := map[origin]bool{}
	for _, realm := range o.Realms {
		permitted, err := p.origin("--realm-url", realm)
		if err != nil {
			return nil, err
		}
		realms[permitted] = true
	}
	p.realms.Store(&realms)
	for _, raw := range o.AllowOrigins {
		u, err := url.Parse(raw)
		if err != nil || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
			return nil, fault.New(fault.Usage, "--allow-origin %q is more than an origin such as http://127.0.0.1:3000", raw)
		}
		permitted, err := p.origin("--allow-origin", raw)
		if err != nil {
			return nil, err
		}
		p.origins[permitted] = true
	}
	return p, nil
}

// origin is that of a URL, if pages may be permitted to reach it.
func (p *policy) origin(flag, raw string) (origin, error) {
	o, err := parseOrigin(flag, raw)
	if err != nil {
		return o, err
	}
	t := target{host: o.host, port: o.port}
	if addr, err := netip.ParseAddr(o.host); err == nil {
		t.addr = addr
	}
	if p.names[t] || t.addr.IsValid() && p.isFleet(netip.AddrPortFrom(t.addr, t.port)) {
		return o, fault.New(fault.Usage, "%s %s is an address of the fleet itself, which pages may not reach", flag, raw)
	}
	return o, nil
}

// forbid takes host:port; what is neither names nothing that could be dialled.
func (p *policy) forbid(address string) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return
	}
	if host == "" {
		host = "::"
	}
	switch t, err := parseTarget(net.JoinHostPort(host, port), 0); {
	case err != nil:
	case t.addr.IsValid():
		p.fleet = append(p.fleet, t)
	default:
		p.names[t] = true
	}
}

// permits is whether the origin may be reached wherever its name leads.
func (p *policy) permits(t target, scheme string) bool {
	o := origin{scheme: scheme, host: t.host, port: t.port}
	return p.origins[o] || (*p.realms.Load())[o]
}

// named judges a target by what it is called, before anything is resolved.
// schemes are those that the request can be of: of a CONNECT it is not known.
func (p *policy) named(t target, schemes ...string) error {
	if p.names[t] {
		return refused(ofFleet, t.String())
	}
	for _, scheme := range schemes {
		if p.permits(t, scheme) {
			return nil
		}
	}
	if Collects(t.host) {
		return refused(analytics, t.String())
	}
	return nil
}

// judge says why an address may not be dialled; "" if it may.
func (p *policy) judge(to netip.AddrPort, permitted bool) reason {
	switch {
	case p.isFleet(to):
		return ofFleet
	case permitted:
		return ""
	case p.public.SafeAddr(to.Addr()) != nil || p.isOwn(to.Addr()):
		return private
	}
	return ""
}

func (p *policy) isFleet(to netip.AddrPort) bool {
	for _, f := range p.fleet {
		if f.port == to.Port() && (f.addr == to.Addr() || f.addr.IsUnspecified() && p.isOwn(to.Addr())) {
			return true
		}
	}
	return false
}

// isOwn is whether an address is this machine's. A public one of its own is
// not reached from outside: what a firewall keeps from others it lets in.
func (p *policy) isOwn(addr netip.Addr) bool {
	if addr.IsLoopback() || addr.IsUnspecified() {
		return true
	}
	return slices.Contains(p.own(), addr)
}

func interfaces() []netip.Addr {
	found, err := net.InterfaceAddrs()
	if err != nil {
		return nil // no address is known to be ours; the tables still hold
	}
	var own []netip.Addr
	for _, a := range found {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil {
			own = append(own, prefix.Addr().Unmap().WithZone(""))
		}
	}
	return own
}

// isLocalhost is whether a name is this machine's by definition (RFC 6761),
// which browsers know and not every resolver does.
func isLocalhost(host string) bool {
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}
