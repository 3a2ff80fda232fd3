package egress

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/rewarm/rewarm/internal/fault"
)

func TestF13_VectorsLeaveTheCanaryUntouched(t *testing.T) {
	w := newWorld(t, nil)
	w.names = map[string][]string{
		"loopback.example": {"127.0.0.1"}, "six.example": {"::1"}, "mapped.example": {"::ffff:127.0.0.1"},
		"metadata.example": {"169.254.169.254"}, "two.example": {"10.0.0.1 127.0.0.1"}, "zoned.example": {"fe80::1%lo"}, "none.example": {""},
		"2130706433.example": {"127.0.0.1"},
		// What these two answer first is public; they may be asked, but once.
		"rebinding.example": {"93.184.216.34", "127.0.0.1"}, "mixed.example": {"93.184.216.34 127.0.0.1 ::1"},
	}
	const refused, odd, nothing = http.StatusForbidden, http.StatusBadRequest, 0
	for _, c := range []struct {
		host   string
		status int // of a plain request
	}{
		{"127.0.0.1", refused}, {"127.0.0.2", refused}, {"127.255.255.254", refused}, {"0.0.0.0", refused}, {"0.1.2.3", refused},
		{"[::1]", refused}, {"[::]", refused}, {"[0:0:0:0:0:0:0:1]", refused}, {"[::0001]", refused},
		{"[::ffff:127.0.0.1]", refused}, {"[::ffff:7f00:1]", refused}, {"[::ffff:0:127.0.0.1]", refused}, {"[0:0:0:0:0:ffff:7f00:0001]", refused},
		{"[::127.0.0.1]", refused}, {"[::7f00:1]", refused}, {"[64:ff9b::7f00:1]", refused}, {"[64:ff9b::127.0.0.1]", refused}, {"[64:ff9b:1::7f00:1]", refused},
		{"[2002:7f00:1::]", refused}, {"[2002:7f00:1::1]", refused}, {"[2001:0:7f00:1::]", refused}, {"[2001:0000:4136:e378:8000:63bf:80ff:fffe]", refused},
		{"[fe80::1]", refused}, {"[fec0::1]", refused}, {"[fc00::1]", refused}, {"[fd00:ec2::254]", refused}, {"[ff02::1]", refused},
		{"[2001:db8::1]", refused}, {"[3fff::1]", refused}, {"[100::1]", refused}, {"[5f00::1]", refused}, {"[2620:4f:8000::1]", refused}, {"[4000::1]", refused},
		{"10.0.0.1", refused}, {"172.16.0.1", refused}, {"172.31.255.255", refused}, {"192.168.1.1", refused}, {"169.254.169.254", refused}, {"100.64.0.1", refused}, {"100.100.100.200", refused},
		{"192.0.0.192", refused}, {"192.0.2.1", refused}, {"198.18.0.1", refused}, {"198.51.100.1", refused}, {"203.0.113.1", refused}, {"192.88.99.1", refused},
		{"224.0.0.1", refused}, {"239.255.255.250", refused}, {"240.0.0.1", refused}, {"255.255.255.255", refused}, {"168.63.129.16", refused},
		{"localhost", refused}, {"LOCALHOST", refused}, {"localhost.", refused}, {"sub.localhost", refused}, {"loopback.example", refused}, {"loopback.example.", refused}, {"six.example", refused},
		{"mapped.example", refused}, {"metadata.example", refused}, {"two.example", refused}, {"zoned.example", refused}, {"2130706433.example", refused},
		{"none.example", nothing}, {"unknown.example", nothing},
		{"127.1", odd}, {"127.0.1", odd}, {"2130706433", odd}, {"0x7f000001", odd}, {"0x7f.0.0.1", odd}, {"0177.0.0.1", odd}, {"017700000001", odd}, {"0", odd}, {"127.0.0.1.", odd}, {"127.000.000.001", odd},
		{"user@127.0.0.1", odd}, {"user:pw@127.0.0.1", odd}, {"example.com@127.0.0.1", odd}, {"127.0.0.1%00.example.com", odd}, {"[::1%25lo]", odd}, {"%31%32%37.0.0.1", odd}, {"①②⑦.0.0.1", odd}, {"", odd},
	} {
		target := c.host + ":" + w.canary.port()
		if status, body := w.ask(t, "GET http://"+target+"/"); status != c.status || strings.Contains(body, "canary") {
			t.Errorf("GET http://%s/: %d %s, want %d", target, status, body, c.status)
		}
		if status, body := w.ask(t, "CONNECT "+target); status < 400 {
			t.Errorf("CONNECT %s: %d %s", target, status, body)
		}
	}
	for range 3 {
		for _, host := range []string{"rebinding.example", "mixed.example"} {
			status, body := w.ask(t, "GET http://"+host+":"+w.canary.port()+"/")
			if strings.Contains(body, "canary") || status != http.StatusOK && status != refused {
				t.Errorf("%s: %d %s", host, status, body)
			}
			w.ask(t, "CONNECT "+host+":"+w.canary.port())
		}
	}
	for _, to := range w.dials() {
		if to.Addr() != netip.MustParseAddr("93.184.216.34") {
			t.Errorf("%s was dialled", to)
		}
	}
	if touched := w.canary.touched(); len(touched) > 0 {
		t.Errorf("the canary was touched: %v", touched)
	}
	if n := w.count(t, private); n < 100 {
		t.Errorf("%d refusals are counted", n)
	}
	// The page may hammer; the log is for people.
	if lines := strings.Count(w.logged.String(), "\n"); lines == 0 || lines > logTargets {
		t.Errorf("%d lines are logged", lines)
	}
}

// What is permitted is a scheme, a host and a port; no other name of the same
// server, and nothing else on the same machine.
func TestF13_OnlyTheRealmsOwnOriginIsPermitted(t *testing.T) {
	w := newWorld(t, nil)
	w.names = map[string][]string{"alias.example": {"127.0.0.1"}}
	port := portOf(w.realm.URL)
	for line, want := range map[string]int{
		"GET http://127.0.0.1:" + port + "/":                200,
		"GET HTTP://127.0.0.1:" + port:                      200,
		"OPTIONS http://127.0.0.1:" + port + "/":            200,
		"CONNECT 127.0.0.1:" + port:                         200,
		"GET https://127.0.0.1:" + port + "/":               400,
		"GET ws://127.0.0.1:" + port + "/socket":            400,
		"GET ftp://127.0.0.1:" + port + "/":                 400,
		"GET /":                                             400,
		"GET http:///":                                      400,
		"GET //127.0.0.1:" + port + "/":                     400,
		"CONNECT 127.0.0.1":                                 400,
		"CONNECT /":                                         400,
		"GET http://localhost:" + port + "/":                403,
		"GET http://[::ffff:127.0.0.1]:" + port + "/":       200, // the same address, written otherwise
		"GET http://[::1]:" + port + "/":                    403,
		"GET http://127.0.0.2:" + port + "/":                403,
		"GET http://alias.example:" + port + "/":            403,
		"GET http://user@127.0.0.1:" + port + "/":           400,
		"GET http://127.0.0.1:" + w.canary.port() + "/":     403,
		"GET http://127.0.0.1/":                             403,
		"CONNECT localhost:" + port:                         403,
		"GET http://" + w.listener.Addr().String() + "/":    403,
		"CONNECT " + w.listener.Addr().String():             403,
		"GET http://93.184.216.34/":                         200,
		"GET http://[2606:2800:220:1:248:1893:25c8:1946]/":  200,
		"GET http://[::ffff:93.184.216.34]:8080/":           200,
		"CONNECT 93.184.216.34:443":                         200,
		"CONNECT [2606:2800:220:1:248:1893:25c8:1946]:8443": 200,
	} {
		if status, body := w.ask(t, line); status != want {
			t.Errorf("%s: %d %s, want %d", line, status, body, want)
		}
	}
	if touched := w.canary.touched(); len(touched) > 0 {
		t.Errorf("the canary was touched: %v", touched)
	}
}

// TLS in a tunnel to an origin that is permitted as http, and the reverse, is
// another scheme on the same port.
func TestF13_TunnelsAreHeldToTheirScheme(t *testing.T) {
	secure := httptest.NewTLSServer(realmHandler())
	defer secure.Close()
	w := newWorld(t, func(_ *world, o *Options) { o.AllowOrigins = []string{secure.URL} })
	for _, c := range []struct {
		at     string
		scheme string
		want   bool
	}{
		{w.realm.URL, "http", true}, {w.realm.URL, "https", false},
		{secure.URL, "https", true}, {secure.URL, "http", false},
	} {
		_, at, _ := strings.Cut(c.at, "://")
		conn := w.open(t)
		fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", at, at)
		if answer, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || answer.StatusCode != http.StatusOK {
			t.Fatal(answer, err)
		}
		if c.scheme == "https" {
			conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
		}
		fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if (err == nil && answer.StatusCode == http.StatusOK) != c.want {
			t.Errorf("%s in a tunnel to %s: %v, %v", c.scheme, c.at, answer, err)
		}
	}
	if n := w.count(t, scheme); n != 2 {
		t.Errorf("%d refusals for the scheme", n)
	}
}

func TestF13_FleetIsNeverReached(t *testing.T) {
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	var port string
	w := newWorld(t, func(w *world, o *Options) {
		port = w.canary.port()
		o.AllowOrigins = []string{"http://localhost:" + port, "http://alias.example:" + port, "http://api.example:4222", "http://public.example:" + port}
		o.Fleet = []string{"0.0.0.0:" + port, other.Addr().String(), "manager.example:4222", "", "nonsense"}
		w.names = map[string][]string{
			"alias.example": {"127.0.0.1"}, "api.example": {"93.184.216.34"}, "manager.example": {"93.184.216.34"}, "public.example": {"93.184.216.34"},
		}
	})
	w.policy.own = func() []netip.Addr { return []netip.Addr{netip.MustParseAddr("93.184.216.35")} }
	for line, want := range map[string]int{
		"GET http://localhost:" + port + "/":           403,
		"GET http://alias.example:" + port + "/":       403,
		"GET http://93.184.216.35:" + port + "/":       403, // an address of this machine
		"GET http://93.184.216.35/":                    403, // whatever listens there
		"CONNECT 93.184.216.35:443":                    403,
		"GET http://manager.example:4222/":             403,
		"CONNECT manager.example:4222":                 403,
		"CONNECT MANAGER.example.:4222":                403,
		"GET http://api.example:4222/":                 200, // shares an address with the manager
		"GET http://public.example:" + port + "/":      200,
		"GET http://" + other.Addr().String() + "/":    403,
		"GET http://93.184.216.36:" + port + "/public": 200,
	} {
		if status, body := w.ask(t, line); status != want {
			t.Errorf("%s: %d %s, want %d", line, status, body, want)
		}
	}
	if touched := w.canary.touched(); len(touched) > 0 {
		t.Errorf("the canary was touched: %v", touched)
	}
	for _, raw := range []string{"http://127.0.0.1:" + port, "http://[::1]:" + port, "http://manager.example:4222", "https://manager.example:4222/"} {
		if _, err := New(Options{AllowOrigins: []string{raw}, Fleet: []string{":" + port, "manager.example:4222"}}); !fault.Is(err, fault.Usage) || !strings.Contains(err.Error(), "fleet itself") {
			t.Errorf("--allow-origin %s: %v", raw, err)
		}
	}
}

func TestOriginsAreChecked(t *testing.T) {
	for _, raw := range []string{"", "127.0.0.1:3000", "localhost", "ftp://a", "http://", "http://a/path", "http://a?q", "http://a#f", "http://u@a", "http://2130706433", "http://*.a", "http://a:99999", "%"} {
		if _, err := New(Options{AllowOrigins: []string{raw}}); !fault.Is(err, fault.Usage) || !strings.Contains(err.Error(), "--allow-origin") {
			t.Errorf("%q: %v", raw, err)
		}
	}
	for _, raw := range []string{"realm.example", "file:///x", "http://a b/"} {
		if _, err := New(Options{Realms: []string{raw}}); !fault.Is(err, fault.Usage) || !strings.Contains(err.Error(), "--realm-url") {
			t.Errorf("%q: %v", raw, err)
		}
	}
}

func TestVisitCountersAreRefusedByName(t *testing.T) {
	w := newWorld(t, func(w *world, o *Options) {
		o.AllowOrigins = []string{"http://plausible.io", "https://plausible.io"} // one's own
		w.names = map[string][]string{"plausible.io": {"93.184.216.34"}, "www.googletagmanager.com": {"93.184.216.34"}, "notgoogle-analytics.com": {"93.184.216.34"}}
	})
	for line, want := range map[string]int{
		"GET http://www.google-analytics.com/collect":  403,
		"CONNECT region1.google-analytics.com:443":     403,
		"CONNECT GOOGLE-ANALYTICS.com.:443":            403,
		"CONNECT plausible.io:443":                     200,
		"GET http://plausible.io/":                     200,
		"CONNECT www.googletagmanager.com:443":         200,
		"CONNECT notgoogle-analytics.com:443":          200,
		"GET http://google-analytics.com.unknown.test": 0,
	} {
		if status, body := w.ask(t, line); status != want {
			t.Errorf("%s: %d %s, want %d", line, status, body, want)
		}
	}
	if n := w.count(t, analytics); n != 3 {
		t.Errorf("%d refusals are counted", n)
	}
	if said := w.logged.String(); strings.Contains(said, "WARN") || !strings.Contains(said, "DEBUG") {
		t.Errorf("logged: %s", said)
	}
}

func TestRefusalSaysWhyInWords(t *testing.T) {
	w := newWorld(t, nil)
	answer, body := get(t, w.client(t), "http://10.1.2.3/secret?token=1")
	if answer.StatusCode != http.StatusForbidden || answer.Header.Get("X-Rewarm-Refused") != "private" || answer.Header.Get("Cache-Control") != "no-store" ||
		!strings.Contains(body, "10.1.2.3:80 is refused") || !strings.Contains(body, "--allow-origin") || strings.Contains(body, "token") {
		t.Errorf("%d %v %s", answer.StatusCode, answer.Header, body)
	}
}

func TestRefusalsAreLoggedInBounds(t *testing.T) {
	w := newWorld(t, nil)
	now := time.Unix(1e9, 0)
	news := func(i int) bool { return w.refusals.isNews(refusal{private, fmt.Sprint(i)}, now) }
	if !news(0) || news(0) || !news(1) {
		t.Error("a target is not logged once")
	}
	for i := range 1000 {
		news(i)
	}
	if len(w.refusals.known) != logTargets {
		t.Errorf("%d targets are remembered", len(w.refusals.known))
	}
	if now = now.Add(logEvery); !news(0) || news(0) {
		t.Error("nothing is logged a minute later")
	}
}

func TestResolverKnowsThisMachine(t *testing.T) {
	for _, host := range []string{"localhost", "shop.localhost"} {
		addrs, err := resolve(t.Context(), host)
		if err != nil || len(addrs) != 2 || !addrs[0].IsLoopback() || !addrs[1].IsLoopback() {
			t.Errorf("%s: %v, %v", host, addrs, err)
		}
	}
	if own := interfaces(); len(own) == 0 {
		t.Error("this machine has no address")
	}
}
