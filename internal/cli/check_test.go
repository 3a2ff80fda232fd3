package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"image/png"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// checkSite serves one page that is taken over well, and some that break.
func checkSite(t *testing.T) *httptest.Server {
	t.Helper()
	apps := map[string]string{
		"/good":    `app.innerHTML = '<p>the robin</p>'`,
		"/other":   `app.innerHTML = '<p>the wren</p>'`,
		"/throws":  `app.innerHTML = '<p>the robin</p>'; throw new Error('boom \u001b[31m \u202e')`,
		"/miss":    `app.innerHTML = '<p>the robin</p>'`,
		"/foreign": `app.innerHTML = '<p>the robin</p>'`,
	}
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		app, known := apps[r.URL.Path]
		if !known {
			http.NotFound(w, r)
			return
		}
		body := "<p>the robin</p>"
		switch r.URL.Path {
		case "/miss":
			body = ""
			w.Header().Set(wire.HeaderSnapshot, "miss")
		case "/foreign":
		default:
			w.Header().Set(wire.HeaderSnapshot, "hit")
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, `<!doctype html><title>t</title><link rel="icon" href="data:,"><div id="app">`+body+`</div><script type="module">const app = document.getElementById('app'); `+app+`</script>`)
	}))
	t.Cleanup(site.Close)
	return site
}

// runCheck runs the command line with a temporary directory of its own, in
// which nothing may be left.
func runCheck(t *testing.T, args ...string) (code int, out, said string) {
	t.Helper()
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	var stdout, stderr bytes.Buffer
	code = Main(t.Context(), append([]string{"check"}, args...), Streams{Out: &stdout, Err: &stderr})
	if left, _ := filepath.Glob(filepath.Join(tmp, "*")); len(left) != 0 {
		t.Errorf("%v left %v", args, left)
	}
	return code, stdout.String(), stderr.String()
}

func TestCheckReportsForPeople(t *testing.T) {
	site := checkSite(t)
	code, out, said := runCheck(t, site.URL+"/good", site.URL+"/miss", site.URL+"/foreign")
	if code != 0 || said != "" || strings.Count(out, "ok      http") != 3 {
		t.Errorf("exit %d, %s, %s", code, out, said)
	}
	for _, want := range []string{"prerendered; taken over after", "not prerendered yet: the bare shell", "no realm server of Rewarm's"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in %s", want, out)
		}
	}
	code, out, said = runCheck(t, site.URL+"/good", site.URL+"/other", site.URL+"/throws")
	if code != 1 || !strings.Contains(said, "2 of 3 pages break") || !strings.Contains(out, "BROKEN  "+site.URL+"/other") ||
		!strings.Contains(out, "  break   text-lost: 1 line of the prerendered text is gone after the takeover: \"the robin\"\n            the robin\n") ||
		!strings.Contains(out, "exception: uncaught: Error: boom") {
		t.Errorf("exit %d, %s, %s", code, out, said)
	}
	if strings.ContainsAny(out, "\x1b\u202e") {
		t.Errorf("a page reaches the terminal: %q", out)
	}
}

func TestCheckReportsForMachines(t *testing.T) {
	site := checkSite(t)
	code, out, said := runCheck(t, "--format", "json", site.URL+"/good", site.URL+"/throws")
	var pages []wire.TakeoverResult
	if err := json.Unmarshal([]byte(out), &pages); err != nil || code != 1 || len(pages) != 2 {
		t.Fatalf("exit %d, %v, %s, %s", code, err, out, said)
	}
	if pages[0].Verdict.Verdict != words.VerdictOK || pages[0].Timings.TakeoverMs == 0 || pages[1].Verdict.Verdict != words.VerdictBroken ||
		pages[1].Findings[0].Kind != words.FindingException || !strings.Contains(out, `"findings": []`) {
		t.Errorf("%s", out)
	}
	code, out, said = runCheck(t, "--format", "junit", site.URL+"/good", site.URL+"/throws")
	var suite junitSuite
	if err := xml.Unmarshal([]byte(out), &suite); err != nil || code != 1 {
		t.Fatalf("exit %d, %v, %s, %s", code, err, out, said)
	}
	if suite.Tests != 2 || suite.Failures != 1 || suite.Cases[0].Failure != nil || suite.Cases[1].Failure.Type != "exception" || suite.Cases[1].Name != site.URL+"/throws" {
		t.Errorf("%s", out)
	}
}

func TestCheckKeepsPicturesAndLeavesOutWhatMayDiffer(t *testing.T) {
	site := checkSite(t)
	dir := filepath.Join(t.TempDir(), "new", "pictures")
	code, out, said := runCheck(t, site.URL+"/other", "--artifacts", dir, "--viewport", "400x300", "--allow-difference", "p, .ad", "--allow-difference", "h1")
	if code != 0 || !strings.Contains(out, "0.00 % of the picture differs") {
		t.Errorf("exit %d, %s, %s", code, out, said)
	}
	names, _ := filepath.Glob(filepath.Join(dir, "*"))
	if len(names) != 3 {
		t.Errorf("%v", names)
	}
	for _, name := range names {
		raw, err := os.ReadFile(name)
		if size, perr := png.DecodeConfig(bytes.NewReader(raw)); err != nil || perr != nil || size.Width != 400 || size.Height != 300 {
			t.Errorf("%s: %v %v %+v", name, err, perr, size)
		}
	}
	// Without the permission the difference breaks, and is in the picture.
	if code, out, _ = runCheck(t, site.URL+"/other", "--artifacts", dir, "--viewport", "400x300"); code != 1 || strings.Contains(out, "0.00 % of the picture differs") {
		t.Errorf("exit %d, %s", code, out)
	}
}

func TestCheckSaysWhatIsWrong(t *testing.T) {
	site := checkSite(t)
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"errors":[{"status":400,"message":"\">\" is no CSS selector"}]}`)
	}))
	defer refusing.Close()
	for _, c := range []struct {
		code int
		want string
		args []string
	}{
		{2, "expected \"<url> ...\"", nil},
		{2, "is no http or https URL", []string{site.URL + "/good", "file:///etc/passwd"}},
		{2, "--format must be one of", []string{site.URL, "--format", "gif"}},
		{2, "is no size such as 1280x720", []string{site.URL, "--viewport", "1280"}},
		{2, "--timeout", []string{site.URL, "--timeout", "0s"}},
		{2, "--every", []string{site.URL, "--every", "-1s"}},
		{2, "give --every too", []string{site.URL, "--metrics-addr", "127.0.0.1:0"}},
		{2, "set --secret", []string{site.URL, "--every", "1m", "--metrics-addr", "0.0.0.0:0"}},
		{2, "\">\" is no CSS selector", []string{site.URL + "/good", "--allow-difference", ">"}},
		{2, "is empty", []string{site.URL + "/good", "--allow-difference", " "}},
		{2, "--allow-origin", []string{site.URL, "--allow-origin", "127.0.0.1:3000"}},
		{2, "no CSS selector", []string{site.URL, "--via", refusing.URL}},
		{1, "no Chrome found", []string{site.URL, "--chrome", "/none"}},
		{1, "cannot be reached", []string{site.URL, "--via", "http://127.0.0.1:1"}},
		{1, "pages break", []string{"http://127.0.0.1:1/"}},
		{1, "pages break", []string{site.URL + "/none"}},
	} {
		if code, out, said := runCheck(t, c.args...); code != c.code || !strings.Contains(said, c.want) {
			t.Errorf("%v: exit %d, %s, %s; want %d, %s", c.args, code, out, said, c.code, c.want)
		}
	}
}

// said is what a command has written so far.
type said struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.String()
}

func TestCheckOnAScheduleServesMetricsUntilItIsStopped(t *testing.T) {
	site := checkSite(t)
	var out, log said
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan int, 1)
	go func() {
		ended <- Main(ctx, []string{"check", site.URL + "/good", site.URL + "/other", "--every", "10ms", "--metrics-addr", "127.0.0.1:0"}, Streams{Out: &out, Err: &log})
	}()
	bounded, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for strings.Count(out.String(), "BROKEN") < 2 {
		select {
		case <-tick.C:
		case <-bounded.Done():
			t.Fatalf("no second round: %s %s", out.String(), log.String())
		}
	}
	addr := regexp.MustCompile(`addr=(\S+)`).FindStringSubmatch(log.String())
	if addr == nil {
		t.Fatal(log.String())
	}
	response, err := http.Get("http://" + addr[1] + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	metrics, _ := io.ReadAll(response.Body)
	lines := strings.Split(string(metrics), "\n")
	for _, want := range []string{
		`rewarm_check_broken{url="` + site.URL + `/good"} 0`, `rewarm_check_broken{url="` + site.URL + `/other"} 1`,
		`rewarm_check_findings{kind="text-lost",severity="break",url="` + site.URL + `/other"} 1`, `rewarm_check_rounds_failed_total 0`,
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("%s is not in %s", want, metrics)
		}
	}
	stop()
	if code := <-ended; code != 0 {
		t.Errorf("exit %d: %s", code, log.String())
	}
}
