package realm

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

func TestW03_ServedAndReportedAreTheSameBytes(t *testing.T) {
	o, f := options(t), newFleet()
	o.Manager = f
	s, _ := start(t, o)
	deployed := map[words.Token]bool{}
	for _, release := range []string{"aaaaaaa1", "bbbbbbb2", "ccccccc3"} {
		deployed[words.TokenOf([]byte(shellOf(release)))] = true
	}
	check := func() {
		t.Helper()
		standby := get(t, s, "/_standby")
		token := words.TokenOf([]byte(standby.body))
		if named := standby.header.Get(wire.HeaderDocumentShell); named != string(token) {
			t.Errorf("served %s, named %s", token, named)
		}
		if !deployed[token] {
			t.Errorf("served a shell that was never accepted: %q", standby.body)
		}
		app := get(t, s, "/some/route")
		if words.TokenOf([]byte(app.body)) != words.Token(app.header.Get(wire.HeaderDocumentShell)) {
			t.Error("an app route names another token than its shell has")
		}
	}
	var readers sync.WaitGroup
	stop := make(chan struct{})
	readers.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				check()
			}
		}
	})
	for _, release := range []string{"bbbbbbb2", "ccccccc3", "aaaaaaa1"} {
		before := s.Token()
		deploy(t, o.Host, release)
		if s.Token() != before {
			t.Error("a change of the directory alone changed the token")
		}
		mustAccept(t, s)
		if hash := get(t, s, "/_host-shell-hash"); words.Token(hash.body) != words.TokenOf([]byte(shellOf(release))) {
			t.Errorf("release %s has hash %s", release, hash.body)
		}
	}
	close(stop)
	readers.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, report := range f.heard {
		if !deployed[report.Hash] {
			t.Errorf("reported %s, which was never served", report.Hash)
		}
	}
}

func TestW08_PresenceRepeatsWhatWasNotHeard(t *testing.T) {
	o, f := options(t), newFleet()
	f.setDown(true)
	o.Manager = f
	s, _ := start(t, o)
	if code := get(t, s, "/").code; code != http.StatusOK {
		t.Fatalf("a dead manager made the realm answer %d", code)
	}
	f.setDown(false)
	first := <-f.reports
	if first.Source != words.SourceBoot || first.Hash != s.Token() || first.Reporter != "realm-1" || first.Realms[0] != s.URL() || first.Since.IsZero() {
		t.Errorf("first report: %+v", first)
	}
	if next := <-f.reports; next.Source != words.SourcePresence || next.Hash != first.Hash || !next.Since.Equal(first.Since) {
		t.Errorf("presence: %+v", next)
	}
	f.setDown(true)
	deploy(t, o.Host, "bbbbbbb2")
	mustAccept(t, s) // returns though nobody hears
	f.setDown(false)
	until(t, "the deploy is reported as one", func() bool {
		report := <-f.reports
		return report.Source == words.SourceDeployment && report.Hash == s.Token()
	})
}

func TestHookReportsBeforeItAnswers(t *testing.T) {
	o, f := options(t), newFleet()
	o.Manager, o.PresenceInterval = f, time.Hour
	s, _ := start(t, o)
	<-f.reports
	deploy(t, o.Host, "bbbbbbb2")
	a := ask(t, s, http.MethodPost, "/_post-deployment")
	contains(t, a.body, `"accepted":true`, `"currentChecksum":"`+string(s.Token())+`"`, `"previousChecksum":"`+string(words.TokenOf([]byte(shellOf("aaaaaaa1"))))+`"`)
	f.mu.Lock()
	last := f.heard[len(f.heard)-1]
	f.mu.Unlock()
	if last.Source != words.SourceDeployment || last.Hash != s.Token() {
		t.Errorf("%+v", last)
	}
	if a := get(t, s, "/_post-deployment"); a.code != http.StatusMethodNotAllowed {
		t.Error(a.code)
	}
}

func TestTheHooksBodyMayNameTheDeployment(t *testing.T) {
	for body, want := range map[string]string{
		``:                       "",
		`hook=deployed`:          "",
		`[]`:                     "",
		`{"deploymentId":"one"}`: "one",
		`{"deploymentId":7}`:     "",
		`{"data":"of another","deploymentId":"one"}`:                          "one",
		`{"data":{"attributes":{"deploymentId":"two"}}}`:                      "two",
		`{"data":{"attributes":{"deploymentId":"two"}},"deploymentId":"one"}`: "one",
		`{"DeploymentID":"one"}`:                                              "",
		`{"deploymentId":"one","deploymentId":"two"}`:                         "",
		`{"deploymentId":"` + strings.Repeat("x", 129) + `"}`:                 "",
	} {
		if got := deploymentID([]byte(body)); got != want {
			t.Errorf("%.99s: %q, want %q", body, got, want)
		}
	}
}

func TestHookNeedsTheSecret(t *testing.T) {
	o := options(t)
	o.Guard.Secrets = []string{"s3cret"}
	s, _ := start(t, o)
	before := s.Token()
	deploy(t, o.Host, "bbbbbbb2")
	for _, header := range []string{"", "Bearer no", "no"} {
		if a := ask(t, s, http.MethodPost, "/_post-deployment", "Authorization", header); a.code != http.StatusUnauthorized || s.Token() != before {
			t.Errorf("%q: %d", header, a.code)
		}
	}
	for _, header := range []string{"Bearer s3cret", "s3cret"} {
		if a := ask(t, s, http.MethodPost, "/_post-deployment", "Authorization", header); a.code != http.StatusOK {
			t.Errorf("%q: %d", header, a.code)
		}
	}
}

func TestBrokenHostsAreRefusedAndTheOldReleaseStays(t *testing.T) {
	cases := map[string]struct {
		breakIt func(t *testing.T, host string)
		reason  string
	}{
		"no index": {func(t *testing.T, host string) { _ = os.Remove(filepath.Join(host, "index.html")) }, "no index.html"},
		"empty":    {func(t *testing.T, host string) { put(t, host, map[string]string{"index.html": " \n"}) }, "empty"},
		"incomplete": {func(t *testing.T, host string) {
			put(t, host, map[string]string{"index.html": shellOf("missing9")})
		}, "/assets/main-missing9.js, which is not there"},
		"link out": {func(t *testing.T, host string) {
			if err := os.Symlink("/etc/hosts", filepath.Join(host, "leak.txt")); err != nil {
				t.Fatal(err)
			}
		}, "leak.txt is a link"},
		"no directory": {func(t *testing.T, host string) { _ = os.RemoveAll(host) }, "cannot be opened"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			o := options(t)
			s, _ := start(t, o)
			before := s.Token()
			c.breakIt(t, o.Host)
			a := hook(t, s)
			if a.Accepted || a.Current != before || a.Previous != before {
				t.Errorf("%+v", a)
			}
			contains(t, a.Reason, c.reason)
			if got := get(t, s, "/_standby"); got.body != shellOf("aaaaaaa1") {
				t.Error("the old release is gone")
			}
			contains(t, get(t, s, "/readyz").body, "refused")
			if a := get(t, s, "/assets/main-aaaaaaa1.js"); a.code != http.StatusOK {
				t.Error("the old release's files are gone")
			}
		})
	}
}

func TestTornCopyIsRefused(t *testing.T) {
	files := fstest.MapFS{"index.html": {Data: []byte(shellOf("aaaaaaa1"))}, "assets/main-aaaaaaa1.js": {Data: []byte("1")}}
	listed, err := walk(files)
	if err != nil {
		t.Fatal(err)
	}
	s, _ := start(t, options(t))
	host := s.source.(*directory)
	copied, err := host.copyAll(files, listed)
	if err != nil {
		t.Fatal(err)
	}
	if err := untorn(files, listed, copied, []string{"index.html"}); err != nil {
		t.Errorf("nothing changed: %v", err)
	}
	for name, changed := range map[string]fstest.MapFS{
		"same size and time": {"index.html": {Data: []byte(shellOf("aaaaaaa2"))}, "assets/main-aaaaaaa1.js": {Data: []byte("1")}},
		"a new file":         {"index.html": files["index.html"], "assets/main-aaaaaaa1.js": {Data: []byte("1")}, "assets/new.js": {Data: []byte("1")}},
		"a file gone":        {"index.html": files["index.html"]},
	} {
		if err := untorn(changed, listed, copied, []string{"index.html"}); err == nil {
			t.Errorf("%s: not noticed", name)
		}
	}
	files["index.html"] = &fstest.MapFile{Data: []byte("longer " + shellOf("aaaaaaa1"))}
	if _, err := host.copyAll(files, listed); err == nil {
		t.Error("a file that grew was copied")
	}
}

func TestThreeReleasesAreKeptAlsoAcrossRestarts(t *testing.T) {
	o := options(t)
	s, stop := start(t, o)
	for _, release := range []string{"bbbbbbb2", "ccccccc3"} {
		deploy(t, o.Host, release)
		mustAccept(t, s)
	}
	reachable := func(want ...int) {
		t.Helper()
		for i, release := range []string{"aaaaaaa1", "bbbbbbb2", "ccccccc3", "ddddddd4"} {
			if a := get(t, s, "/assets/main-"+release+".js"); a.code != want[i] {
				t.Errorf("release %s: %d", release, a.code)
			}
			token := string(words.TokenOf([]byte(shellOf(release))))
			if a := get(t, s, "/_standby?release="+token); a.code != want[i] || a.code == 200 && a.body != shellOf(release) {
				t.Errorf("shell of %s: %d", release, a.code)
			}
		}
	}
	reachable(200, 200, 200, 404)
	if a := get(t, s, "/robots.txt"); a.body != "robots of ccccccc3" || a.header.Get("Cache-Control") != "no-cache" {
		t.Errorf("the current copy must win: %+v", a)
	}
	if a := get(t, s, "/assets/lazy.aaaaaaa11.js"); !strings.Contains(a.header.Get("Cache-Control"), "immutable") {
		t.Errorf("%+v", a)
	}
	stop()
	s, stop = start(t, o)
	reachable(200, 200, 200, 404)
	deploy(t, o.Host, "ddddddd4")
	mustAccept(t, s)
	reachable(404, 200, 200, 200)
	stop()
	if blobs, err := os.ReadDir(filepath.Join(o.DataDir, "blobs")); err != nil || len(blobs) != 12 {
		t.Errorf("%d contents of three releases with four files each, %v", len(blobs), err)
	}
	// The host is gone, a kept release is not.
	if err := os.RemoveAll(o.Host); err != nil {
		t.Fatal(err)
	}
	s, stop = start(t, o)
	reachable(404, 200, 200, 200)
	if s.Token() != words.TokenOf([]byte(shellOf("ddddddd4"))) {
		t.Error("another release is current after the restart")
	}
	stop()
	o.DataDir = t.TempDir()
	if _, err := New(o); !fault.Is(err, fault.Invalid) {
		t.Errorf("no host and nothing kept: %v", err)
	} else {
		contains(t, err.Error(), "--host", "index.html")
	}
}

func TestDamagedKeptReleaseIsLeftOut(t *testing.T) {
	o := options(t)
	s, stop := start(t, o)
	old := s.releases.Load().current().files[indexName]
	deploy(t, o.Host, "bbbbbbb2")
	mustAccept(t, s)
	stop()
	if err := os.WriteFile(filepath.Join(o.DataDir, "blobs", old.Sum), []byte("damaged"), 0o644); err != nil {
		t.Fatal(err)
	}
	s, _ = start(t, o)
	if n := len(s.releases.Load().kept); n != 1 {
		t.Errorf("%d releases", n)
	}
}

func TestStartErrorsSayWhatToDo(t *testing.T) {
	o := options(t)
	other, stop := start(t, o)
	busy := options(t)
	busy.Addr = other.Addr()
	file := filepath.Join(t.TempDir(), "file")
	put(t, filepath.Dir(file), map[string]string{"file": ""})
	noDir := options(t)
	noDir.DataDir = file
	for want, o := range map[string]Options{"--realm-addr": busy, "--data": noDir, "--host": {}} {
		_, err := New(o)
		if err == nil {
			t.Fatalf("%s: started", want)
		}
		contains(t, err.Error(), want)
	}
	stop()
}
