package web

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/rewarm/rewarm/internal/fault"
)

// Guard decides who may call a protected route (protocol, "Who may call what").
type Guard struct {
	// Secrets are the fleet secrets in force; two while one replaces the other.
	// Without any, only loopback peers are served.
	Secrets []string
	// Insecure serves peers from anywhere without a secret.
	Insecure bool
	// AllowUnauthenticated lists networks whose peers need no secret (Boxel
	// peers cannot send one).
	AllowUnauthenticated []netip.Prefix
	// AllowRaw accepts the bare secret without "Bearer" too.
	AllowRaw bool
}

// CheckListen refuses an address that others can reach when nothing would keep
// them out.
func (g Guard) CheckListen(role, flag, addr string) error {
	if len(g.Secrets) > 0 || g.Insecure {
		return nil
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil || isLoopbackHost(host) {
		return nil // a malformed address is Listen's to explain
	}
	return fault.New(fault.Usage, "%s: %s %s can be reached by other machines; set --secret, or --insecure if the network itself keeps strangers out", role, flag, addr)
}

// Allows reports whether the caller of r may use a protected route.
func (g Guard) Allows(r *http.Request) bool {
	peer, _ := netip.ParseAddrPort(r.RemoteAddr)
	for _, network := range g.AllowUnauthenticated {
		if network.Contains(peer.Addr().Unmap()) {
			return true
		}
	}
	if len(g.Secrets) > 0 {
		return g.hasSecret(r.Header.Get("Authorization"))
	}
	if g.Insecure {
		return true
	}
	// A browser on this machine is a loopback peer too: a page from elsewhere
	// reaches us by name (DNS rebinding: the Host differs) or across origins.
	return peer.Addr().Unmap().IsLoopback() && isLoopbackHost(hostOnly(r.Host)) && sameOrigin(r)
}

// Protect lets only allowed callers through to h; others get 401.
func (g Guard) Protect(h Handler) Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if !g.Allows(r) {
			return fault.New(fault.Unauthorized, "Unauthorized")
		}
		return h(w, r)
	}
}

func (g Guard) hasSecret(header string) bool {
	given, bearer := strings.CutPrefix(header, "Bearer ")
	if !bearer && !g.AllowRaw {
		return false
	}
	sum := sha256.Sum256([]byte(strings.TrimSpace(given)))
	found := 0
	for _, secret := range g.Secrets {
		want := sha256.Sum256([]byte(secret))
		found |= subtle.ConstantTimeCompare(sum[:], want[:])
	}
	return found == 1
}

func sameOrigin(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	return origin == "" || origin == "http://"+r.Host || origin == "https://"+r.Host
}

func hostOnly(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		return host
	}
	return unbracket(hostport)
}

// unbracket takes an IPv6 address out of its brackets.
func unbracket(host string) string {
	if inner, ok := strings.CutPrefix(host, "["); ok && strings.HasSuffix(inner, "]") {
		return strings.TrimSuffix(inner, "]")
	}
	return host
}

func isLoopbackHost(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(unbracket(host))
	return err == nil && addr.Unmap().IsLoopback()
}
