package shell

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// hashes stand for those of our scripts, which change with them.
var hashes = regexp.MustCompile(`sha256-[A-Za-z0-9+/]{43}=`)

// TestCorpus composes the cases of testdata/compose. Each says first what it
// holds, and then has a shell, a capture and the wanted composition, in which
// TAKEOVER stands for the script that ends it and HASH for a script's or a
// style's. REWARM_UPDATE=1 writes what comes out as what is wanted: read it
// before you believe it.
func TestCorpus(t *testing.T) {
	names, err := filepath.Glob("testdata/compose/*.txtar")
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if len(archive.Files) != 3 || archive.Files[0].Name != "shell" || archive.Files[1].Name != "capture" || archive.Files[2].Name != "wanted" || len(archive.Comment) == 0 {
				t.Fatal("a case says what it holds, and has a shell, a capture and the wanted composition")
			}
			shell, capture, wanted := archive.Files[0].Data, archive.Files[1].Data, &archive.Files[2].Data
			composed, err := Compose(shell, string(capture), Options{})
			got := composed.HTML
			if err != nil {
				got = []byte("ERROR " + err.Error() + "\n")
			} else {
				givesTheShellBack(t, shell, composed)
			}
			got = bytes.ReplaceAll(got, []byte(takeover), []byte("TAKEOVER"))
			got = hashes.ReplaceAll(got, []byte("HASH"))
			if os.Getenv("REWARM_UPDATE") != "" {
				*wanted = got
				if err := os.WriteFile(name, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if !bytes.Equal(got, *wanted) {
				t.Errorf("composed:\n%s\nwanted:\n%s", got, *wanted)
			}
		})
	}
}

// givesTheShellBack takes out what was put in, and puts back what that
// replaced: what comes is the shell, byte for byte, and what was replaced is
// nothing that runs, loads or styles.
func givesTheShellBack(t *testing.T, shell []byte, composed Composed) {
	t.Helper()
	var back bytes.Buffer
	rest, last := composed.HTML, 0
	for _, e := range composed.edits {
		kept := e.start - last
		if kept < 0 || kept > len(rest) || !bytes.HasPrefix(rest[kept:], []byte(e.text)) {
			t.Fatalf("%q was not put in after %q", e.text, back.Bytes())
		}
		back.Write(rest[:kept])
		back.Write(shell[e.start:e.end])
		rest, last = rest[kept+len(e.text):], e.end
		mayGo(t, shell[e.start:e.end], e.text)
	}
	back.Write(rest)
	if !bytes.Equal(back.Bytes(), shell) {
		t.Errorf("what is left of\n%q\nis\n%q, not the shell\n%q", composed.HTML, back.Bytes(), shell)
	}
}

// mayGo holds that a piece of a shell is one that a page may replace: an element
// of the head that says what the page is, a policy that lets us in, or what a
// mount element showed meanwhile.
func mayGo(t *testing.T, piece []byte, by string) {
	t.Helper()
	tags := scan(piece)
	if len(tags) == 0 {
		return
	}
	first := tags[0]
	switch {
	case tags[len(tags)-1].end != len(piece) && first.name != "title":
	case first.name == "title", first.name == "script" && strings.EqualFold(strings.TrimSpace(first.attr("type")), "application/ld+json"):
		if len(tags) == 2 && tags[1].close && tags[1].name == first.name {
			return
		}
	case len(tags) > 1:
	case isPolicy(first):
		if now := scan([]byte(by)); len(now) == 1 && isPolicy(now[0]) {
			return
		}
	case first.name == "meta" && first.attr("http-equiv")+first.attr("charset") == "",
		first.name == "link" && (hasRel(first.token.Attr, "canonical") || hasRel(first.token.Attr, "alternate") && !hasRel(first.token.Attr, "stylesheet")):
		return
	}
	loads := []string{"script", "style", "link", "meta", "base", "template", "html", "head", "body"}
	if i := slices.IndexFunc(tags, func(t tag) bool { return slices.Contains(loads, t.name) }); i >= 0 {
		t.Errorf("%q must not go, its %s least of all", piece, tags[i].name)
	}
}
