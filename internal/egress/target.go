package egress

import (
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/rewarm/rewarm/internal/fault"
)

// target is the host and port that a request line names.
type target struct {
	host string     // lower case, without a trailing dot; an address in its usual spelling
	addr netip.Addr // valid if the host is an address
	port uint16
}

func (t target) String() string { return net.JoinHostPort(t.host, portText(t.port)) }

// maxHost is the longest name that DNS knows.
const maxHost = 253

// parseTarget reads "host:port"; without a port it is usual, if that is not 0.
// It takes what a browser sends and no more: Chrome has spelled every address
// in the usual way before it asks.
func parseTarget(authority string, usual uint16) (target, error) {
	t, ok := splitTarget(authority, usual)
	if !ok {
		return target{}, refused(malformed, "the request")
	}
	if addr, err := netip.ParseAddr(t.host); err == nil {
		// An IPv4 address within an IPv6 one is dialled as what it is.
		t.addr = addr.Unmap()
		t.host = t.addr.String()
		return t, nil
	}
	t.host = strings.TrimSuffix(strings.ToLower(t.host), ".")
	if !isName(t.host) {
		return target{}, refused(malformed, "the request")
	}
	return t, nil
}

func splitTarget(authority string, usual uint16) (target, bool) {
	host, port := authority, ""
	inside, rest, bracketed := strings.Cut(authority, "]")
	switch {
	case strings.HasPrefix(authority, "["):
		addr, err := netip.ParseAddr(inside[1:])
		if !bracketed || err != nil || !addr.Is6() || addr.Zone() != "" {
			return target{}, false
		}
		host, port = inside[1:], rest
	case strings.Contains(authority, ":"):
		var digits string
		host, digits, _ = strings.Cut(authority, ":")
		port = ":" + digits
	}
	if port == "" {
		return target{host: host, port: usual}, usual != 0
	}
	number, err := strconv.ParseUint(strings.TrimPrefix(port, ":"), 10, 16)
	return target{host: host, port: uint16(number)}, err == nil && number > 0 && port[0] == ':'
}

// isName is whether host, in lower case, can be a name. One that ends in a
// number is an address to a browser, and some resolvers take 0177.1 for one.
func isName(host string) bool {
	if host == "" || len(host) > maxHost {
		return false
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" {
			return false
		}
	}
	for i := range len(host) {
		c := host[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '.' && c != '_' {
			return false
		}
	}
	return !isNumber(host[strings.LastIndexByte(host, '.')+1:])
}

func isNumber(label string) bool {
	if hex, ok := strings.CutPrefix(label, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return strings.Trim(label, "0123456789") == ""
}

// origin is an origin that pages may reach.
type origin struct {
	scheme string
	host   string
	port   uint16
}

// parseOrigin reads the origin of a URL; flag names where it was given.
func parseOrigin(flag, raw string) (origin, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.User != nil {
		return origin{}, fault.New(fault.Usage, "%s %q is no origin such as http://127.0.0.1:3000", flag, raw)
	}
	usual := uint16(80)
	if u.Scheme == "https" {
		usual = 443
	}
	t, err := parseTarget(u.Host, usual)
	if err != nil {
		return origin{}, fault.New(fault.Usage, "%s %q is no origin such as http://127.0.0.1:3000", flag, raw)
	}
	return origin{scheme: u.Scheme, host: t.host, port: t.port}, nil
}
