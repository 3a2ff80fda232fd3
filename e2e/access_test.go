package e2e

import (
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rewarm/rewarm/examples"
	"github.com/rewarm/rewarm/internal/wire"
)

// who a caller says it is.
const (
	nobody = ""
	wrong  = "Bearer not-the-secret"
	right  = "Bearer " + secret
	raw    = secret
)

// access is a route and what callers without the secret get of it.
type access struct {
	role      string // manager, prerender or realm
	method    string
	path      string
	protected bool
	raw       bool // the bare secret is taken too
}

var accesses = []access{
	{role: "manager", method: "POST", path: "/prerender-servers", protected: true},
	{role: "manager", method: "DELETE", path: "/prerender-servers?url=http://127.0.0.1:9", protected: true},
	{role: "manager", method: "DELETE", path: "/prerender-servers/affinities/realm:x?url=http://127.0.0.1:9", protected: true},
	{role: "manager", method: "POST", path: "/prerender-maintenance/reset", protected: true},
	{role: "manager", method: "POST", path: "/host-shell", protected: true},
	{role: "manager", method: "GET", path: "/host-shell", protected: true},
	{role: "manager", method: "GET", path: "/rollout", protected: true},
	{role: "manager", method: "GET", path: "/events", protected: true},
	{role: "manager", method: "POST", path: "/rollout/pause", protected: true},
	{role: "manager", method: "POST", path: "/rollout/resume", protected: true},
	{role: "manager", method: "POST", path: "/rollout/undo", protected: true},
	{role: "manager", method: "POST", path: "/prerender-visit", protected: true},
	{role: "manager", method: "POST", path: "/prerender-module", protected: true},
	{role: "manager", method: "POST", path: "/prerender-screenshot", protected: true},
	{role: "manager", method: "POST", path: "/run-command", protected: true},
	{role: "manager", method: "POST", path: "/takeover-check", protected: true},
	{role: "manager", method: "POST", path: "/release-batch", protected: true},
	{role: "manager", method: "POST", path: "/index", protected: true},
	{role: "manager", method: "GET", path: "/index?realm=http://127.0.0.1:9", protected: true},
	{role: "manager", method: "DELETE", path: "/index?realm=http://127.0.0.1:9&all=true", protected: true},
	{role: "manager", method: "GET", path: "/"},
	{role: "manager", method: "HEAD", path: "/"},
	{role: "manager", method: "GET", path: "/livez"},
	{role: "manager", method: "GET", path: "/readyz"},
	{role: "manager", method: "GET", path: "/metrics"},
	{role: "prerender", method: "POST", path: "/prerender-visit", protected: true},
	{role: "prerender", method: "POST", path: "/takeover-check", protected: true},
	{role: "prerender", method: "GET", path: "/"},
	{role: "prerender", method: "GET", path: "/livez"},
	{role: "prerender", method: "GET", path: "/readyz"},
	{role: "prerender", method: "GET", path: "/metrics"},
	{role: "realm", method: "POST", path: "/_post-deployment", protected: true, raw: true},
	{role: "realm", method: "DELETE", path: "/_modules?url=http://127.0.0.1:9/m", protected: true, raw: true},
	{role: "realm", method: "GET", path: "/_modules?url=http://127.0.0.1:9/m"},
	{role: "realm", method: "GET", path: "/"},
	{role: "realm", method: "GET", path: "/_standby"},
	{role: "realm", method: "GET", path: "/_host-shell-hash"},
	{role: "realm", method: "GET", path: "/livez"},
}

// TestW10_OnlyTheFleetsSecretOpensWhatChangesAnything: every route, called by
// nobody, with a wrong secret, with the bare one, and with the right one. The
// bodies are wrong on purpose: a call that is let in changes nothing either.
func TestW10_OnlyTheFleetsSecretOpensWhatChangesAnything(t *testing.T) {
	f := startProcesses(t, 1)
	client := &http.Client{} // which adds no secret
	defer client.CloseIdleConnections()
	roots := map[string]string{"manager": f.up.ManagerURL(), "prerender": f.servers()[0], "realm": f.up.RealmURL()}
	before := f.state()
	for _, a := range accesses {
		for _, as := range []string{nobody, wrong, raw, right} {
			url := roots[a.role] + a.path
			header := http.Header{}
			if as != nobody {
				header.Set("Authorization", as)
			}
			if as == right && a.path == "/rollout/undo" {
				continue // would work
			}
			status := call(t, client, a.method, url, header)
			allowed := !a.protected || as == right || as == raw && a.raw
			if refused := status == http.StatusUnauthorized; refused == allowed {
				t.Errorf("%s %s of the %s as %q: %d, allowed %t", a.method, a.path, a.role, as, status, allowed)
			}
		}
	}
	if after := f.state(); after != before {
		t.Errorf("the calls changed %s to %s", before, after)
	}
	health := body(t, client, f.up.ManagerURL()+"/")
	if strings.Contains(health, "included") || strings.Contains(health, f.servers()[0]) {
		t.Errorf("health without the secret: %s", health)
	}
	badTokens(t, f)
}

// badTokens are reported with the right secret, and change nothing.
func badTokens(t *testing.T, f *processes) {
	before := f.state()
	for _, token := range []string{``, ` `, `a\r\nX-Evil: 1`, `a\u0000b`, `with space`, `ä`, strings.Repeat("a", 65)} {
		response, err := f.http.Post(f.up.ManagerURL()+"/host-shell", wire.ContentTypeJSONAPI,
			strings.NewReader(`{"data":{"attributes":{"source":"operator","hash":"`+token+`"}}}`))
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusBadRequest {
			t.Errorf("token %q: %d", token, response.StatusCode)
		}
	}
	if after := f.state(); after != before {
		t.Errorf("a bad token changed %s to %s", before, after)
	}
}

// state is what calls could have changed: the release and the registry.
func (f *processes) state() string {
	rollout, ok := f.progress()
	return fmt.Sprint(ok, rollout.Release, f.servers())
}

func call(t *testing.T, client *http.Client, method, url string, header http.Header) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader("not json"))
	if err != nil {
		t.Fatal(err)
	}
	request.Header = header
	if host := header.Get("Host"); host != "" {
		request.Host = host
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	_ = response.Body.Close() // unread: /events has no end
	return response.StatusCode
}

func body(t *testing.T, client *http.Client, url string) string {
	t.Helper()
	response, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// fleetAt finds the address that `rewarm up` prints.
var fleetAt = regexp.MustCompile(`Fleet +(http://\S+)/`)

// TestW10_WithoutASecretOnlyThisMachineIsServed: a page from elsewhere that
// reaches us through a browser of this machine has another Host, or an Origin.
func TestW10_WithoutASecretOnlyThisMachineIsServed(t *testing.T) {
	p := start(t, nil, "up", "--realm-addr", "127.0.0.1:0", "--manager-addr", "127.0.0.1:0", "--prerender-addr", "127.0.0.1:0",
		"--data", t.TempDir(), "--pages", "1")
	f := newFleetAt(t, fixed{})
	f.until("the fleet says where it is", func() bool { return p.says("Fleet ") })
	manager := fleetAt.FindStringSubmatch(p.log.String())[1]
	for _, test := range []struct {
		header  http.Header
		allowed bool
	}{
		{http.Header{}, true},
		{http.Header{"Host": {"localhost:4222"}}, true},
		{http.Header{"Origin": {manager}}, true},
		{http.Header{"Host": {"rebound.example"}}, false},
		{http.Header{"Origin": {"https://elsewhere.example"}}, false},
		{http.Header{"Origin": {"null"}}, false},
	} {
		for _, route := range []string{"POST /host-shell", "POST /prerender-visit", "POST /prerender-servers", "GET /host-shell", "GET /rollout"} {
			method, path, _ := strings.Cut(route, " ")
			status := call(t, f.http, method, manager+path, test.header.Clone())
			if refused := status == http.StatusUnauthorized; refused == test.allowed {
				t.Errorf("%s with %v: %d, allowed %t", route, test.header, status, test.allowed)
			}
		}
	}
}

// TestW10_ListeningElsewhereNeedsASecret: no role opens itself to a network
// without one, unless told that the network keeps strangers out.
func TestW10_ListeningElsewhereNeedsASecret(t *testing.T) {
	host := t.TempDir()
	if err := examples.WriteVanilla(host, "r0"); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"prerender-manager", "--addr", "0.0.0.0:0"},
		{"realm-server", "--addr", "0.0.0.0:0", "--host", host},
		{"prerender-server", "--addr", "0.0.0.0:0", "--realm-url", "http://127.0.0.1:9"},
		{"up", "--manager-addr", "[::]:0", "--realm-addr", "127.0.0.1:0", "--prerender-addr", "127.0.0.1:0"},
	} {
		p := start(t, nil, slices.Concat(args, []string{"--data", filepath.Join(t.TempDir(), "data")})...)
		if code := p.wait(); code != 2 || !p.says("--secret") || !p.says("--insecure") {
			t.Errorf("%v: exit code %d, %s", args, code, p.log.String())
		}
	}
}
