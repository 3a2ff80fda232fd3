package config

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/realm"
	"github.com/rewarm/rewarm/internal/worker"
)

func TestRealmsAreReadAsTheyAreWritten(t *testing.T) {
	f, err := Parse("rewarm.yaml", []byte(`
# a comment
log-level: debug
realm-server:
  host: dist
  proxy: [/api=http://h]
worker: {rate: 5}
realms:
  - url: https://A.example/
  - url: https://example.com/shop
    max-age: 1m
    query: [page, sort]
    on-miss: wait
    wait-at-most: 2s
    page-header: surrogate-key
    route: [/products]
    rate: 0.5
  - {url: "http://localhost:4201", query: [], page-header: [], route: []}
`))
	if err != nil {
		t.Fatal(err)
	}
	want := []Realm{
		{Realm: realm.Realm{URL: "https://A.example/"}},
		{Realm: realm.Realm{
			URL: "https://example.com/shop", MaxAge: time.Minute, Query: []string{"page", "sort"},
			OnMiss: realm.MissWait, WaitAtMost: 2 * time.Second, PageHeaders: []string{"Surrogate-Key"},
		}, Routes: []string{"/products"}, Rate: 0.5},
		{Realm: realm.Realm{URL: "http://localhost:4201", Query: []string{}, PageHeaders: []string{}}, Routes: []string{}},
	}
	if diff := cmp.Diff(want, f.Realms); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]string{
		"log-level": "debug", "realm-server-host": "dist", "realm-server-proxy": "['/api=http://h']", "worker-rate": "5",
	}, f.Flags); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(worker.Site{}, f.Sites()["https://a.example"]); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(worker.Site{Routes: []string{"/products"}, QueryAllow: []string{"page", "sort"}, MaxAge: time.Minute, Rate: 0.5}, f.Sites()["https://example.com/shop"]); diff != "" {
		t.Error(diff)
	}
}

func TestWhatIsWrongIsToldWithItsLine(t *testing.T) {
	for _, test := range []struct{ file, says string }{
		{"realms:\n  - url: https://a.example\n    max_age: 1m\n", `:3: unknown key "max_age"; a realm has url, max-age,`},
		{"realms:\n  - url: https://a.example\n\n  - url: http://a.example/\n", ":4: http://a.example is there twice, as https://a.example too"},
		{"realms:\n  - url: https://a.example?x\n", ":2: "},
		{"realms:\n  - url: https://a.example#x\n", ":2: "},
		{"realms:\n  - url: https://a.example\n    max-age: 10\n", `:3: max-age: "10" is no time such as`},
		{"realms:\n  - url: https://a.example\n    max-age: 0s\n", ":3: max-age: 0s is not above 0"},
		{"realms:\n  - url: https://a.example\n    wait-at-most: 2m\n", ":3: wait-at-most: 2m0s is not above 0 and at most 1m0s"},
		{"realms:\n  - url: https://a.example\n    on-miss: maybe\n", `:3: on-miss: "maybe" is neither shell nor wait`},
		{"realms:\n  - url: https://a.example\n    page-header: [Set-Cookie]\n", ":3: page-header Set-Cookie: it would sign visitors in or out"},
		{"realms:\n  - url: https://a.example\n    route: [products]\n", ":3: route: each is a path"},
		{"realms:\n  - url: https://a.example\n    rate: -1\n", `:3: rate: "-1" is no number`},
		{"realms:\n  - url: https://a.example\n    rate: .inf\n", `:3: rate:`},
		{"realms:\n  - url: https://a.example\n    query:\n", ":3: query is to have a list"},
		{"realms:\n  - url: https://a.example\n    url: https://b.example\n", ":3: url is there twice, in line 2 too"},
		{"realms:\n  - max-age: 1m\n", ":2: a realm without a url"},
		{"realms:\n  - https://a.example\n", ":2: a realm is to have keys"},
		{"realms: https://a.example\n", ":1: realms is to have a list"},
		{"realms:\n", ":1: realms is to have a list"},
		{"realms: []\n", ":1: realms is to have a list"},
		{"a: 1\na: 2\n", ":2: a is there twice"},
		{"a: {b: 1}\na-b: 2\n", ":2: a-b is there twice"},
		{"a: &x {b: 1}\nc: *x\n", ":2: c: aliases"},
		{"? [a]\n: b\n", ":1: the file has a key that is no plain word"},
		{"- a\n", ":1: the file is to have keys"},
		{"a: 1\n---\nb: 2\n", "a second document"},
		{"a: [\n", "line "},
		{strings.Repeat(" ", MaxBytes+1), "more than"},
	} {
		_, err := Parse("rewarm.yaml", []byte(test.file))
		if err == nil || !strings.HasPrefix(err.Error(), "rewarm.yaml:") || !strings.Contains(err.Error(), test.says) || !fault.Is(err, fault.Usage) {
			t.Errorf("%.80q: %v; want %q, as wrong usage", test.file, err, test.says)
		}
	}
	for _, file := range []string{"", "# nothing\n", "~\n", "---\n"} {
		if f, err := Parse("rewarm.yaml", []byte(file)); err != nil || len(f.Realms)+len(f.Flags) > 0 {
			t.Errorf("%q: %v", file, err)
		}
	}
}

func TestKeyOfNoFlagIsTold(t *testing.T) {
	known := map[string]bool{"log-level": true, "up-host": true, "realm-server-max-age": true}
	for _, test := range []struct{ file, says string }{
		{"log-level: debug\nup: {host: x}\nrealm:\n  server-max-age: 1m\n", ""},
		{"log-level: debug\nrelms:\n  - url: x\n", `rewarm.yaml:2: unknown key "relms"; rewarm COMMAND --help`},
		{"\nmax-age: 1m\n", `rewarm.yaml:2: unknown key "max-age"; the flag is a command's: put it below one, such as realm-server:`},
		{"up:\n  host: x\n  hots: y\n", `rewarm.yaml:3: unknown key "up-hots"`},
	} {
		f, err := Parse("rewarm.yaml", []byte(test.file))
		if err != nil {
			t.Fatal(err)
		}
		err = f.CheckFlags("rewarm.yaml", known)
		if (err == nil) != (test.says == "") || err != nil && !strings.HasPrefix(err.Error(), test.says) {
			t.Errorf("%q: %v, want %q", test.file, err, test.says)
		}
	}
}

// follower is a file that is followed until the test ends.
type follower struct {
	t       *testing.T
	path    string
	watcher *Watcher
	tables  chan []string // the URLs of each table that is set; nil for none
}

func follow(t *testing.T, content string) *follower {
	t.Helper()
	f := &follower{t: t, path: filepath.Join(t.TempDir(), "rewarm.yaml"), tables: make(chan []string, 16)}
	f.write(content)
	read, err := Read(f.path)
	if err != nil {
		t.Fatal(err)
	}
	f.watcher = NewWatcher(f.path, read, func(*File) error { return nil }, slog.New(slog.NewTextHandler(io.Discard, nil)))
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f.watcher.Follow(ctx, func(table *realm.Table) error {
			if table == nil {
				f.tables <- nil
				return nil
			}
			urls := []string{}
			for _, r := range table.Realms() {
				urls = append(urls, r.URL)
			}
			f.tables <- urls
			if slices.Contains(urls, "https://refused.example") {
				return fault.New(fault.Usage, "no")
			}
			return nil
		})
	}()
	t.Cleanup(func() {
		stop()
		<-ended
	})
	return f
}

// write replaces the file as a deploy does.
func (f *follower) write(content string) {
	f.t.Helper()
	next := f.path + ".next"
	if err := os.WriteFile(next, []byte(content), 0o600); err != nil {
		f.t.Fatal(err)
	}
	if err := os.Rename(next, f.path); err != nil {
		f.t.Fatal(err)
	}
}

func (f *follower) next() []string {
	f.t.Helper()
	select {
	case urls := <-f.tables:
		return urls
	case <-time.After(30 * time.Second):
		f.t.Fatal("nothing is set")
		return nil
	}
}

func TestChangedFileIsTakenAsAWhole(t *testing.T) {
	f := follow(t, "realms: [{url: https://a.example, rate: 3}]\n")
	if got := f.watcher.Site("https://a.example").Rate; got != 3 {
		t.Errorf("rate %v before any change", got)
	}
	f.write("realms: [{url: https://a.example, rate: 4}, {url: https://b.example}]\n")
	if got := f.next(); !slices.Equal(got, []string{"https://a.example", "https://b.example"}) {
		t.Errorf("changed: %q is set", got)
	}
	f.write("realms: [{url: https://a.example, rate: 5}, {url: nonsense}]\n")
	if got := f.next(); got != nil {
		t.Errorf("of a file with a mistake %q is set", got)
	}
	f.write("realms: [{url: https://refused.example}]\n")
	if got := f.next(); !slices.Equal(got, []string{"https://refused.example"}) {
		t.Errorf("%q is set", got)
	}
	if got := f.next(); got != nil {
		t.Errorf("after a refusal %q is set", got)
	}
	if got := f.watcher.Site("https://a.example").Rate; got != 4 {
		t.Errorf("rate %v after two files that were not taken, want 4", got)
	}
	if err := os.Remove(f.path); err != nil {
		t.Fatal(err)
	}
	if got := f.next(); got != nil {
		t.Errorf("without a file %q is set", got)
	}
	f.write("")
	if got := f.next(); got != nil {
		t.Errorf("of an empty file %q is set: every site would be gone", got)
	}
	// SIGHUP has the file read though it is as it was.
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if got := f.next(); got != nil {
		t.Errorf("after SIGHUP %q is set", got)
	}
	f.write("realms: [{url: https://c.example}]\n")
	if got := f.next(); !slices.Equal(got, []string{"https://c.example"}) {
		t.Errorf("at the end %q is set", got)
	}
}

func TestPipeIsReadOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	go func() { _ = os.WriteFile(path, []byte("realms: [{url: https://a.example}]\n"), 0o600) }()
	read, err := Read(path)
	if err != nil || len(read.Realms) != 1 {
		t.Fatalf("%+v, %v", read, err)
	}
	ctx, stop := context.WithCancel(t.Context())
	told := &told{stop: stop}
	NewWatcher(path, read, func(*File) error { return nil }, slog.New(slog.NewTextHandler(told, nil))).Follow(ctx, func(*realm.Table) error {
		t.Error("something is set")
		return nil
	})
}

// told ends what is followed once something is logged.
type told struct{ stop func() }

func (w *told) Write(p []byte) (int, error) {
	w.stop()
	return len(p), nil
}

func TestChangedFlagsAreNamed(t *testing.T) {
	got := changed(map[string]string{"a": "1", "b": "2", "c": "3"}, map[string]string{"b": "2", "c": "4", "d": "5"})
	if want := []string{"a", "c", "d"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// FuzzFile reads what may be in a file: it is refused as wrong usage, or its
// realms can be served.
func FuzzFile(f *testing.F) {
	f.Add("realms:\n  - url: https://a.example\n    max-age: 1m\n    query: [a]\n    page-header: X\n")
	f.Add("realms: [{url: http://h/a, on-miss: wait, wait-at-most: 1s, route: [/], rate: 1e3}, {url: 'http://h/a/b'}]\nup: {host: x}\n")
	f.Add("a: &a [*a]\n<<: {b: *a}\n--- !!binary x\n")
	f.Add("realms: !!set {? a}\n\x00: {{{{")
	f.Fuzz(func(t *testing.T, content string) {
		file, err := Parse("f", []byte(content))
		if err != nil {
			if !fault.Is(err, fault.Usage) || strings.ContainsAny(err.Error(), "\x00\x1b") {
				t.Errorf("%q", err)
			}
			return
		}
		if got := len(file.Table().Realms()); got != len(file.Realms) {
			t.Errorf("%d realms are served of %d", got, len(file.Realms))
		}
		for url, site := range file.Sites() {
			if url == "" || site.Rate < 0 || site.MaxAge < 0 {
				t.Errorf("%q: %+v", url, site)
			}
		}
	})
}
