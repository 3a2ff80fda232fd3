package examples_test

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/rewarm/rewarm/examples"
)

func vanilla(t *testing.T, release string) map[string]string {
	t.Helper()
	host, err := examples.Vanilla(release)
	if err != nil {
		t.Fatal(err)
	}
	return contents(t, host)
}

func contents(t *testing.T, host fs.FS) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := fs.WalkDir(host, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := fs.ReadFile(host, name)
		files[name] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestVanillaIsAFileSystem(t *testing.T) {
	host, err := examples.Vanilla("v1")
	if err != nil {
		t.Fatal(err)
	}
	if err := fstest.TestFS(host, "index.html", "favicon.svg", "data/products.json"); err != nil {
		t.Error(err)
	}
}

func TestVanillaIsDeterministic(t *testing.T) {
	if diff := cmp.Diff(vanilla(t, "v1"), vanilla(t, "v1")); diff != "" {
		t.Errorf("two builds of one release differ:\n%s", diff)
	}
}

var (
	placeholder = regexp.MustCompile(`%[A-Z]+%`)
	reference   = regexp.MustCompile(`(?:href|src)="(/[^"$]+\.[a-z]+)"|import\("\./([^"]+)"\)`)
	hashedName  = regexp.MustCompile(`^assets/[a-z]+-[0-9a-f]{10}\.(js|css)$`)
)

func TestVanillaNamesOnlyFilesThatExist(t *testing.T) {
	files := vanilla(t, "v2")
	seen := 0
	for name, content := range files {
		if left := placeholder.FindString(content); left != "" {
			t.Errorf("%s: placeholder %s was not filled in", name, left)
		}
		for _, match := range reference.FindAllStringSubmatch(content, -1) {
			target := strings.TrimPrefix(match[1], "/")
			if match[2] != "" {
				target = path.Join(path.Dir(name), match[2])
			}
			if _, ok := files[target]; !ok {
				t.Errorf("%s names %s, which is not there", name, target)
			}
			seen++
		}
	}
	if seen < 9 { // favicon twice, style, app, five chunks
		t.Errorf("only %d references found: the test looks at nothing", seen)
	}
}

// A deploy must change the shell and every hashed name, or a fleet that mixes
// two releases would not be found out.
func TestVanillaReleasesShareNoHashedNameAndNoShell(t *testing.T) {
	shells := map[string]string{}
	owner := map[string]string{}
	for _, release := range append(examples.Releases(), "r1", "r2", "r10", "r11", "r20") {
		files := vanilla(t, release)
		if other, taken := shells[files["index.html"]]; taken {
			t.Errorf("%s and %s have the same shell", release, other)
		}
		shells[files["index.html"]] = release
		for name := range files {
			if !strings.HasPrefix(name, "assets/") {
				continue
			}
			if !hashedName.MatchString(name) {
				t.Errorf("%s: %s carries no hash", release, name)
			}
			if other, taken := owner[name]; taken {
				t.Errorf("%s is in %s and in %s", name, release, other)
			}
			owner[name] = release
		}
	}
}

func TestVanillaEveryScriptAndTheShellNameTheRelease(t *testing.T) {
	for name, content := range vanilla(t, "r7") {
		switch {
		case strings.HasPrefix(name, "assets/app-"):
			if !strings.Contains(content, `const release = "r7";`) {
				t.Errorf("%s does not know its release", name)
			}
		case strings.HasSuffix(name, ".js"), name == "index.html":
			if got := examples.ReleasesIn(content); !slices.Equal(got, []string{"r7"}) {
				t.Errorf("%s names the releases %q, want r7 alone", name, got)
			}
		}
	}
}

func TestReleasesIn(t *testing.T) {
	for _, test := range []struct {
		html string
		want []string
	}{
		{"", nil},
		{"<p>a new release of ours</p>", nil},
		{"<span>release v1</span>", []string{"v1"}},
		{"<span class=\"release\">\nrelease r12 </span><b>release r12</b>", []string{"r12"}},
		{`<meta name="release" content="v2"><i>release v1</i>`, []string{"v1", "v2"}},
	} {
		if got := examples.ReleasesIn(test.html); !slices.Equal(got, test.want) {
			t.Errorf("ReleasesIn(%q) = %q, want %q", test.html, got, test.want)
		}
	}
}

func TestReleaseNamesThatWouldEscapeAreRefused(t *testing.T) {
	for _, release := range []string{"", "V1", "a b", "../x", "<script>", `v"1`, "-v", strings.Repeat("a", 33)} {
		if _, err := examples.Vanilla(release); err == nil {
			t.Errorf("release %q was accepted", release)
		}
	}
}

func TestDeployLeavesExactlyTheRelease(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "missing", "host")
	for _, release := range []string{"r1", "r2", "r1", "r1"} {
		if err := examples.WriteVanilla(dir, release); err != nil {
			t.Fatal(err)
		}
		// What an interrupted deploy or a careless hand left is gone, too.
		if diff := cmp.Diff(vanilla(t, release), contents(t, os.DirFS(dir))); diff != "" {
			t.Fatalf("after the deploy of %s:\n%s", release, diff)
		}
		if err := os.MkdirAll(filepath.Join(dir, "left", "over"), 0o755); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"index.html.next", "left/over/file", "assets/old-1234.js"} {
			if err := os.WriteFile(filepath.Join(dir, filepath.FromSlash(name)), []byte("x"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A reader beside a deploy sees each file whole.
func TestDeployNeverShowsHalfAFile(t *testing.T) {
	dir := t.TempDir()
	if err := examples.WriteVanilla(dir, "r0"); err != nil {
		t.Fatal(err)
	}
	whole := map[string]bool{}
	names := []string{"r0", "r1", "r2", "r3", "r4", "r5"}
	for _, release := range names {
		whole[vanilla(t, release)["index.html"]] = true
	}
	deployed := make(chan error, 1)
	go func() {
		for _, release := range names {
			if err := examples.WriteVanilla(dir, release); err != nil {
				deployed <- err
				return
			}
		}
		deployed <- nil
	}()
	for {
		shell, err := os.ReadFile(filepath.Join(dir, "index.html"))
		if err != nil || !whole[string(shell)] {
			t.Errorf("read beside a deploy: %d bytes that are no release's shell, %v", len(shell), err)
		}
		select {
		case err := <-deployed:
			if err != nil {
				t.Error(err)
			}
			return
		default:
		}
	}
}
