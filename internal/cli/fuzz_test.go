package cli

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode"

	"github.com/alecthomas/kong"
	kongyaml "github.com/alecthomas/kong-yaml"

	"github.com/rewarm/rewarm/internal/fault"
)

// FuzzFlags reads the flags whose text has a form of its own.
func FuzzFlags(f *testing.F) {
	f.Add("dist", "/api=http://127.0.0.1:8080", "s3cret", "10.0.0.0/8")
	f.Add("https://cdn.example/app/index.html", "/=https://h", "a,b", "::1/128")
	f.Add("http://u:p@h/?q", "api=ftp://h", " ", "10.0.0.1")
	f.Fuzz(func(t *testing.T, host, proxy, secret, network string) {
		dir, hostURL, err := parseHost(host)
		if err == nil && dir+hostURL != host {
			t.Errorf("host %q is directory %q and URL %q", host, dir, hostURL)
		}
		wrongUsage(t, err)
		rules, err := parseProxy([]string{proxy})
		wrongUsage(t, err)
		for _, rule := range rules {
			if !strings.HasPrefix(rule.Prefix, "/") || rule.Target.Host == "" || rule.Target.Scheme != "http" && rule.Target.Scheme != "https" {
				t.Errorf("%q sends %q to %q", proxy, rule.Prefix, rule.Target)
			}
		}
		guard, err := secretFlags{Secret: []string{secret}, AllowUnauthenticated: []string{network}}.guard()
		wrongUsage(t, err)
		if err != nil {
			return
		}
		// Whoever has the secret can show it: it fits in a header, and is let in.
		r := httptest.NewRequest(http.MethodPost, "/", nil)
		r.RemoteAddr = ""
		r.Header.Set("Authorization", "Bearer "+secret)
		if strings.ContainsFunc(secret, unicode.IsControl) || !guard.Allows(r) {
			t.Errorf("secret %q is taken, and cannot be shown", secret)
		}
	})
}

// FuzzConfig reads a configuration file.
func FuzzConfig(f *testing.F) {
	f.Add("realm-server:\n  host: dist\n  max-age: 10m\n  proxy: [/api=http://h]\n")
	f.Add("prerender-server: {realm-url: http://a, shutdown-grace: 9, pages: x}\nlog-level: [debug]\n")
	f.Add("{1: 2, ? [a] : b}")
	f.Fuzz(func(t *testing.T, config string) {
		resolver, err := kongyaml.Loader(strings.NewReader(config))
		if err != nil {
			return
		}
		for _, args := range [][]string{{"prerender-manager"}, {"prerender-server"}, {"realm-server"}} {
			var parsed root
			parser, err := kong.New(&parsed, kong.Writers(io.Discard, io.Discard), kong.Exit(func(int) {}), kong.Resolvers(resolver), kong.Bind(&configured{}))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := parser.Parse(args); err != nil {
				continue
			}
			for name, m := range map[string]milliseconds{
				"heartbeat-timeout": parsed.Manager.HeartbeatTimeout, "server-timeout": parsed.Manager.ServerTimeout,
				"render-timeout": parsed.Prerender.RenderTimeout, "shutdown-grace": parsed.Prerender.ShutdownGrace,
			} {
				if m < 0 || m.duration() < 0 || m.duration().Milliseconds() != int64(m) {
					t.Errorf("%s %d is %v in %q", name, m, m.duration(), config)
				}
			}
		}
	})
}

// FuzzText reads a page aloud.
func FuzzText(f *testing.F) {
	f.Add("<p>a</p><script>b</script>c")
	f.Add("<template><p>a</template>b&amp;<style>c")
	f.Fuzz(func(t *testing.T, body string) {
		text := textOf(body)
		if len(text) > 2*len(body)+1 {
			t.Errorf("%d bytes became %d", len(body), len(text))
		}
		// What closes nothing hides nothing.
		for _, closed := range []string{"</script>", "</style></template>"} {
			if got := textOf(closed + body); got != text {
				t.Errorf("%q is %q, and behind %s %q", body, text, closed, got)
			}
		}
	})
}

func wrongUsage(t *testing.T, err error) {
	t.Helper()
	if err != nil && !fault.Is(err, fault.Usage) {
		t.Errorf("%v is not told as wrong usage", err)
	}
}
