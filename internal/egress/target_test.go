package egress

import (
	"strings"
	"testing"
)

func TestParseTarget(t *testing.T) {
	for authority, want := range map[string]string{
		"example.com:443":         "example.com:443",
		"EXAMPLE.com.:443":        "example.com:443",
		"example.com":             "example.com:80",
		"a_b.example:1":           "a_b.example:1",
		"127.0.0.1:65535":         "127.0.0.1:65535",
		"[::1]:80":                "[::1]:80",
		"[0:0:0:0:0:0:0:1]":       "[::1]:80",
		"[::ffff:127.0.0.1]:80":   "127.0.0.1:80",
		"[::FFFF:7f00:1]:80":      "127.0.0.1:80",
		"[2001:4860:4860::8888]":  "[2001:4860:4860::8888]:80",
		"xn--bcher-kva.example:8": "xn--bcher-kva.example:8",
		"1password.com:443":       "1password.com:443",
		"0xcafe.example:80":       "0xcafe.example:80",
	} {
		if got, err := parseTarget(authority, 80); err != nil || got.String() != want {
			t.Errorf("%q: %v, %v, want %s", authority, got, err, want)
		}
	}
	for _, authority := range []string{
		"", ":80", "example.com:", "example.com:0", "example.com:65536", "example.com:-1", "example.com:+80", "example.com:8o", "example.com:80:80", "example.com:0x50",
		"user@example.com:80", "user:pw@example.com:80", "example.com/:80", "example.com:80/", "example .com:80", "exa\tmple.com:80", "example.com\x00:80", "bücher.example:80",
		"..", ".", "a..b:80", ".example.com:80", "example.com..:80",
		"2130706433:80", "0x7f000001:80", "0X7F.1:80", "0177.0.0.1:80", "127.1:80", "127.0.0.1.:80", "127.0.0.01:80", "256.256.256.256:80", "1.2.3.4.5:80", "example.0x1:80", "0x:80",
		"::1", "::1:80", "[::1", "[::1]80", "[::1]:", "[::1]x:80", "[127.0.0.1]:80", "[fe80::1%eth0]:80", "[fe80::1%25eth0]:80", "[]:80", "[[::1]]:80", "[v1.x]:80",
		"%31%32%37.0.0.1:80", "①②⑦.0.0.1:80", "127。0。0。1:80", strings.Repeat("a.", 127) + "a:80",
	} {
		if got, err := parseTarget(authority, 80); err == nil {
			t.Errorf("%q: %v, want an error", authority, got)
		}
	}
	if _, err := parseTarget("example.com", 0); err == nil {
		t.Error("a CONNECT without a port is no target")
	}
}

// What is taken says one thing in one way, and nothing that a resolver or a
// dialler could read as something else.
func FuzzParseTarget(f *testing.F) {
	for _, seed := range []string{
		"example.com:443", "[::1]:80", "[::ffff:127.0.0.1]:80", "127.0.0.1:1", "2130706433", "0x7f.1:80", "user@host:80", "[fe80::1%25lo]:80", "a..b", "host:", "[::1]80", "EXAMPLE.:80", "0177.0.0.1:80",
	} {
		f.Add(seed, uint16(80))
		f.Add(seed, uint16(0))
	}
	f.Fuzz(func(t *testing.T, authority string, usual uint16) {
		got, err := parseTarget(authority, usual)
		if err != nil {
			return
		}
		again, err := parseTarget(got.String(), 0)
		if err != nil || again != got {
			t.Errorf("%q is %+v, which is %+v, %v", authority, got, again, err)
		}
		if got.port == 0 || got.host == "" || got.addr.Zone() != "" || got.addr.Is4In6() {
			t.Errorf("%q is %+v", authority, got)
		}
		if !got.addr.IsValid() && (!isName(got.host) || strings.ToLower(got.host) != got.host) {
			t.Errorf("%q is the name %q", authority, got.host)
		}
	})
}
