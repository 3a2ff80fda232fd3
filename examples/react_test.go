package examples_test

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/rewarm/rewarm/examples"
)

// viteName is how Vite names what it builds: eight characters of base64url.
var viteName = regexp.MustCompile(`^assets/[a-z]+-[A-Za-z0-9_-]{8}\.(js|css)$`)

var viteReference = regexp.MustCompile(`(?:href|src)="/(assets/[^"]+|favicon\.svg)"|["']\./([a-z]+-[A-Za-z0-9_-]{8}\.js)["']`)

func TestReactBuildsAreWhole(t *testing.T) {
	for _, release := range examples.Releases() {
		for _, transition := range []bool{false, true} {
			host, err := examples.React(release, transition)
			if err != nil {
				t.Fatal(err)
			}
			if err := fstest.TestFS(host, "index.html", "favicon.svg", "data/birds.json"); err != nil {
				t.Error(err)
			}
			checkVite(t, contents(t, host), release, transition)
		}
	}
}

// checkVite reads what Vite built of a release; with transition it has a hook.
func checkVite(t *testing.T, files map[string]string, release string, transition bool) {
	t.Helper()
	if got := examples.ReleasesIn(files["index.html"]); !slices.Equal(got, []string{release}) {
		t.Errorf("the shell of %s names %q", release, got)
	}
	references, hooked := 0, false
	for name, content := range files {
		if strings.HasPrefix(name, "assets/") && !viteName.MatchString(name) {
			t.Errorf("%s: %s carries no hash", release, name)
		}
		hooked = hooked || strings.Contains(content, "prerenderTransitionTo")
		for _, match := range viteReference.FindAllStringSubmatch(content, -1) {
			target := match[1]
			if match[2] != "" {
				target = path.Join(path.Dir(name), match[2])
			}
			if _, ok := files[target]; !ok {
				t.Errorf("%s: %s names %s, which is not there", release, name, target)
			}
			references++
		}
	}
	if references < 10 {
		t.Errorf("%s: only %d references found: the test looks at nothing", release, references)
	}
	if hooked != transition {
		t.Errorf("%s: prerenderTransitionTo is there: %t, want %t", release, hooked, transition)
	}
}

// What the two releases share is as telling as what they do not: a style sheet
// of the same name must go on being served after a deploy, a chunk of the old
// name only from what was kept.
func TestReactReleasesShareLibrariesAndStylesOnly(t *testing.T) {
	v1, err := examples.React("v1", false)
	if err != nil {
		t.Fatal(err)
	}
	v2, err := examples.React("v2", false)
	if err != nil {
		t.Fatal(err)
	}
	newer := contents(t, v2)
	var shared []string
	for name := range contents(t, v1) {
		if _, ok := newer[name]; ok && strings.HasPrefix(name, "assets/") {
			shared = append(shared, name[:strings.Index(name, "-")]+path.Ext(name))
		}
	}
	slices.Sort(shared)
	if want := []string{"assets/card.js", "assets/index.css", "assets/vendor.js"}; !slices.Equal(shared, want) {
		t.Errorf("the releases share %q, want %q", shared, want)
	}
}

func TestReactHasNoOtherReleases(t *testing.T) {
	for _, release := range []string{"", "v3", "v1-transition", "../dist/v1"} {
		if _, err := examples.React(release, false); err == nil {
			t.Errorf("release %q was found", release)
		}
	}
}

// The builds are made by hand; this says when that was forgotten.
func TestBuildsAreOfTheseSources(t *testing.T) {
	for _, example := range []string{"react", "vue"} {
		t.Run(example, func(t *testing.T) { checkSources(t, example) })
	}
}

func checkSources(t *testing.T, example string) {
	t.Helper()
	var names []string
	for _, top := range []string{"build.mjs", "index.html", "package-lock.json", "public", "src"} {
		err := filepath.WalkDir(filepath.Join(example, top), func(name string, entry fs.DirEntry, err error) error {
			if err == nil && !entry.IsDir() {
				names = append(names, strings.TrimPrefix(filepath.ToSlash(name), example+"/"))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(names)
	sum := sha256.New()
	for _, name := range names {
		content, err := os.ReadFile(filepath.Join(example, filepath.FromSlash(name)))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(sum, name+"\x00"+string(content)+"\x00") // a hash never fails to be written to
	}
	built, err := os.ReadFile(filepath.Join(example, "dist", "sources.sha256"))
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != strings.TrimSpace(string(built)) {
		t.Errorf("%s/dist was built from other sources: run `npm ci && npm run build` in examples/%s", example, example)
	}
}
