package e2e

import (
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rewarm/rewarm/examples"
)

// TestConfigurationFileIsReadAgain: a realm server's realms are changed in
// rewarm.yaml while it runs; a mistake in it changes nothing; the doctor says of
// each realm how it is.
func TestConfigurationFileIsReadAgain(t *testing.T) {
	addr, dir := freeAddr(t), t.TempDir()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	host, config := filepath.Join(dir, "host"), filepath.Join(dir, "rewarm.yaml")
	if err := os.Mkdir(host, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := examples.WriteVanilla(host, "r0"); err != nil {
		t.Fatal(err)
	}
	write := func(realms string) {
		t.Helper()
		content := "realm-server:\n  host: " + host + "\n  addr: " + addr + "\n  data: " + filepath.Join(dir, "data") + "\n" + realms
		if err := os.WriteFile(config, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	one, two := "http://127.0.0.1:"+port, "http://localhost:"+port
	write("realms:\n  - url: " + one + "\n  - url: https://elsewhere.example\n")
	server := start(t, nil, "realm-server", "--config", config)
	status := func(address string) (int, string) {
		answer, err := http.Get(address)
		if err != nil {
			return 0, err.Error()
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			return 0, err.Error()
		}
		return answer.StatusCode, string(body)
	}
	// until polls what nothing announces.
	until := func(what string, met func() bool) {
		t.Helper()
		bound := time.After(eventually)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for !met() {
			select {
			case <-tick.C:
			case <-bound:
				t.Fatalf("waited in vain: %s", what)
			}
		}
	}
	is := func(address string, want int) func() bool {
		return func() bool { got, _ := status(address); return got == want }
	}
	ready := func(says string) func() bool {
		return func() bool { _, body := status(one + "/readyz"); return strings.Contains(body, says) }
	}
	gauge := func(value string) func() bool {
		return func() bool {
			_, body := status(one + "/metrics")
			return strings.Contains(body, "\nrewarm_realm_config_refused "+value+"\n")
		}
	}
	until("the server answers", is(one+"/about", 200))
	if got, body := status(two + "/about"); got != http.StatusMisdirectedRequest {
		t.Errorf("a host of no realm: %d %q", got, body)
	}

	write("realms:\n  - url: " + one + "\n  - url: " + two + "/shop\n")
	until("a new realm is served", is(two+"/shop/about", 200))
	if got, _ := status(two + "/about"); got != http.StatusNotFound {
		t.Errorf("beside a realm below a path: %d", got)
	}
	if got, body := status(two + "/shop/_standby"); got != 200 || !strings.Contains(body, "<script") {
		t.Errorf("the shell below a path: %d %q", got, body)
	}

	if !gauge("0")() {
		t.Error("before any mistake the gauge is not 0")
	}
	write("realms:\n  - url: " + two + "\n    max-age: soon\n")
	until("a mistake is told", ready("refused"))
	until("a monitor hears of it", gauge("1"))
	until("with its line", func() bool { return server.says("rewarm.yaml:7: max-age:") })
	if got, _ := status(two + "/shop/about"); got != 200 {
		t.Errorf("after a mistake a realm that was served answers %d", got)
	}

	write("realms:\n  - url: " + one + "\n  - url: " + two + "\n")
	server.signal(syscall.SIGHUP)
	until("the next one is served", is(two+"/about", 200))
	until("nothing is wrong any more", func() bool { return !ready("refused")() })
	until("for a monitor too", gauge("0"))

	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(dir, "other.yaml")
	if err := os.WriteFile(other, []byte("realms:\n  - url: "+one+"\n  - url: http://[::1]:1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	said, _ := exec.CommandContext(t.Context(), path, "doctor", "--config", other, "--data", filepath.Join(dir, "doctor")).Output()
	for _, line := range []string{"✓ configuration   " + other + ": 2 realms", "✓ realm           " + one + " answers, release ", "✗ realm           http://[::1]:1: no answer; start the realm server"} {
		if !strings.Contains(string(said), line) {
			t.Errorf("the doctor does not say %q:\n%s", line, said)
		}
	}
}
