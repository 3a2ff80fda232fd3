package realm

import (
	"context"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rewarm/rewarm/internal/client"
)

// whileCollecting does something between a release's collection and its switch.
type whileCollecting struct {
	source
	do func()
}

func (w whileCollecting) collect(ctx context.Context, kept *releaseSet) (collected, error) {
	c, err := w.source.collect(ctx, kept)
	w.do()
	return c, err
}

// No release names what is being collected, so a promotion in the middle of it
// must not take its files for old ones.
func TestAPromotionSparesTheReleaseThatIsBeingCollected(t *testing.T) {
	f := newFleet()
	o := gatedOn(t, f)
	s, _ := start(t, o)
	deploy(t, o.Host, "bbbbbbb2")
	mustAccept(t, s)
	deploy(t, o.Host, "ccccccc3")
	s.source = whileCollecting{s.source, func() {
		if err := s.hear(t.Context(), client.Orders{Sequence: 2, Token: tokenOf("bbbbbbb2")}); err != nil {
			t.Error(err)
		}
	}}
	mustAccept(t, s)
	serves(t, s, "bbbbbbb2")
	for _, path := range []string{"/assets/main-ccccccc3.js", "/assets/main-bbbbbbb2.js"} {
		if a := get(t, s, path); a.code != http.StatusOK {
			t.Errorf("%s: %d", path, a.code)
		}
	}
	f.promote(3, tokenOf("ccccccc3"))
	until(t, "it is served", func() bool { return s.Token() == tokenOf("ccccccc3") })
	serves(t, s, "ccccccc3")
}

// A file that changes while the shell does not makes no candidate, so nobody
// would check it: visitors keep what was promoted, and who deployed is told.
func TestFilesThatChangeUnderThePromotedTokenAreNotServed(t *testing.T) {
	f := newFleet()
	o := gatedOn(t, f)
	var log logBuffer
	o.Log = slog.New(slog.NewTextHandler(&log, nil))
	s, stop := start(t, o)
	f.promote(1, tokenOf("aaaaaaa1"))
	put(t, o.Host, map[string]string{"robots.txt": "unchecked", "assets/more.js": "more"})
	if err := os.Remove(filepath.Join(o.Host, "assets", "lazy.aaaaaaa11.js")); err != nil {
		t.Fatal(err)
	}
	judge := func(s *Server) {
		t.Helper()
		for range 2 {
			if a := hook(t, s); a.Accepted || a.Candidate != "" || a.Current != tokenOf("aaaaaaa1") || !strings.Contains(a.Reason, "robots.txt is not (1 files differ)") {
				t.Errorf("%+v", a)
			}
		}
		for path, want := range map[string]string{"/robots.txt": "robots of aaaaaaa1", "/assets/more.js": "more", "/assets/lazy.aaaaaaa11.js": "lazy aaaaaaa1"} {
			if a := get(t, s, path); a.body != want {
				t.Errorf("%s: %d %q", path, a.code, a.body)
			}
		}
		if a := get(t, s, "/readyz"); a.code != http.StatusOK || !strings.Contains(a.body, "robots.txt") || strings.Contains(a.body, `"host":"served"`) {
			t.Errorf("%d %s", a.code, a.body)
		}
	}
	until(t, "it has heard", func() bool { return get(t, s, "/readyz").code == http.StatusOK })
	judge(s)
	if n := log.count("not served"); n != 1 {
		t.Errorf("told %d times", n)
	}
	stop()
	s, _ = start(t, o)
	until(t, "it has heard", func() bool { return get(t, s, "/readyz").code == http.StatusOK })
	judge(s)
	deploy(t, o.Host, "bbbbbbb2")
	if a := hook(t, s); a.Candidate != tokenOf("bbbbbbb2") {
		t.Errorf("%+v", a)
	}
	contains(t, get(t, s, "/readyz").body, `"host":"served"`)
}

// A check that is under way has seen other files.
func TestACandidateWhoseFilesChangeIsAnotherOne(t *testing.T) {
	f := newFleet()
	o := gatedOn(t, f)
	s, _ := start(t, o)
	deploy(t, o.Host, "bbbbbbb2")
	mustAccept(t, s)
	first := s.releases.Load().held()
	mustAccept(t, s)
	if again := s.releases.Load().held(); !again.since.Equal(first.since) {
		t.Error("the same files begin anew")
	}
	put(t, o.Host, map[string]string{"robots.txt": "of another"})
	mustAccept(t, s)
	if other := s.releases.Load().held(); other.since.Equal(first.since) {
		t.Error("other files are the same candidate")
	}
}

// After the loss of the store the sequence begins anew. A manager that lags, in
// between others that do not, is another thing.
func TestALowerSequenceIsBelievedOnceNothingElseIsHeard(t *testing.T) {
	o := gatedOn(t, newFleet())
	at := clock{at: time.Now()}
	o.Now, o.PresenceInterval = at.now, time.Hour
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	deploy(t, o.Host, "bbbbbbb2")
	if o, err := s.accept(t.Context()); err != nil || o.candidate != tokenOf("bbbbbbb2") {
		t.Fatalf("%+v, %v", o, err)
	}
	hear := func(sequence uint64, release, serves string) {
		t.Helper()
		if err := s.hear(t.Context(), client.Orders{Sequence: sequence, Token: tokenOf(release)}); err != nil {
			t.Fatal(err)
		}
		if s.Token() != tokenOf(serves) {
			t.Fatalf("after %d %s it serves %s, want %s", sequence, release, s.Token(), serves)
		}
	}
	hear(7, "aaaaaaa1", "aaaaaaa1")
	for range 4 {
		hear(1, "bbbbbbb2", "aaaaaaa1")
		at.add(2 * time.Hour)
		hear(7, "aaaaaaa1", "aaaaaaa1")
	}
	for range 3 {
		hear(1, "bbbbbbb2", "aaaaaaa1")
		at.add(time.Hour)
	}
	hear(1, "bbbbbbb2", "bbbbbbb2")
	hear(2, "aaaaaaa1", "aaaaaaa1")
}
