package web_test

import (
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/rewarm/rewarm/internal/web"
)

// FuzzGuard asks who may call, in all the ways that a fleet is guarded.
func FuzzGuard(f *testing.F) {
	f.Add("Bearer s", "127.0.0.1:1", "localhost:4222", "", "s")
	f.Add("s", "[::1]:1", "[::1]", "http://[::1]", "s")
	f.Add("Bearer ", "10.1.2.3:9", "evil.example", "http://evil.example", " ")
	f.Add("", "[::ffff:127.0.0.1]:9", "127.0.0.1.evil.example", "null", "")
	f.Fuzz(func(t *testing.T, authorization, peer, host, origin, secret string) {
		r := httptest.NewRequest("POST", "/", nil)
		r.RemoteAddr, r.Host = peer, host
		r.Header["Authorization"], r.Header["Origin"] = []string{authorization}, []string{origin}
		address, _ := netip.ParseAddrPort(peer)
		if (web.Guard{}).Allows(r) {
			if !address.Addr().Unmap().IsLoopback() {
				t.Errorf("a peer at %q is let in without a secret", peer)
			}
			if !local("http://"+host) || origin != "" && origin != "http://"+host && origin != "https://"+host {
				t.Errorf("a page of %q, asking %q, is let in without a secret", origin, host)
			}
		}
		network := netip.MustParsePrefix("10.0.0.0/8")
		guarded := web.Guard{Secrets: []string{"other", secret}}
		for _, raw := range []bool{false, true} {
			guarded.AllowRaw = raw
			shown, bearer := strings.CutPrefix(authorization, "Bearer ")
			shows := slices.Contains(guarded.Secrets, strings.TrimSpace(shown)) && (bearer || raw)
			if got := guarded.Allows(r); got != shows {
				t.Errorf("%q shows %q: %v", authorization, guarded.Secrets, got)
			}
		}
		guarded.AllowUnauthenticated = []netip.Prefix{network}
		if !guarded.Allows(r) && network.Contains(address.Addr().Unmap()) {
			t.Errorf("a peer at %q needs a secret", peer)
		}
	})
}

// local is whether a browser that is asked for the URL asks this machine. It
// reads it by other means than the guard does.
func local(raw string) bool {
	u, err := url.Parse(raw)
	if err != nil || strings.ContainsAny(raw[len("http://"):], `@/?#\`) {
		return true // no browser sends it as a host
	}
	address, err := netip.ParseAddr(u.Hostname())
	return strings.EqualFold(u.Hostname(), "localhost") || err == nil && address.Unmap().IsLoopback()
}
