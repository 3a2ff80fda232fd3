package e2e

import (
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/rewarm/rewarm/examples"
	"github.com/rewarm/rewarm/internal/client"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

func (f *fleet) check(path string) wire.TakeoverResult {
	f.t.Helper()
	result, err := f.asks().TakeoverCheck(f.t.Context(), wire.TakeoverRequest{URL: f.up.RealmURL() + path}, client.Call{})
	if err != nil {
		f.t.Fatal(err)
	}
	return result
}

// TestTakeoverOfEveryExample has every route of every example taken over in a
// visitor's browser without a break, once it is prerendered, through the
// manager.
func TestTakeoverOfEveryExample(t *testing.T) {
	vanilla, err := examples.Vanilla("v1")
	if err != nil {
		t.Fatal(err)
	}
	vue, err := examples.Vue("v1")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		host   fs.FS
		routes []string
	}{
		"vanilla":             {vanilla, []string{"/", "/about", "/products", "/products/kettle", "/no/such/page"}},
		"vue":                 {vue, []string{"/", "/about", "/harbours", "/harbours/skerry", "/no/such/page"}},
		"react":               {react(t, "v1", false), []string{"/", "/about", "/birds", "/birds/robin", "/no/such/page"}},
		"react by transition": {react(t, "v1", true), []string{"/", "/about", "/birds", "/birds/robin", "/no/such/page"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := startFleetOn(t, c.host, "v1", nil)
			for _, route := range c.routes {
				f.untilHit(route, "v1")
				v := f.check(route)
				// The vanilla example adopts what it finds, at no moment that shows.
				if v.Snapshot != "hit" || v.Token != f.token() || v.Timings.TakeoverMs == 0 && name != "vanilla" {
					t.Errorf("%s: %+v", route, v)
				}
				for _, found := range v.Findings {
					// React clears its mount before a lazy route has come: it shows nothing
					// for a moment, here and without Rewarm; on a busy machine for a long one.
					if found.Kind != words.FindingFlash || name == "vanilla" || name == "vue" {
						t.Errorf("%s: %+v", route, found)
					}
				}
			}
		})
	}
}

// TestTakeoverFindsAReleaseWhoseChunkIsGone breaks a deploy as they break: the
// page is prerendered, and then a visitor's browser misses a file.
func TestTakeoverFindsAReleaseWhoseChunkIsGone(t *testing.T) {
	whole := react(t, "v1", false)
	files := fstest.MapFS{}
	err := fs.WalkDir(whole, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		raw, err := fs.ReadFile(whole, name)
		if strings.HasPrefix(name, "assets/index-") && strings.HasSuffix(name, ".js") {
			// Only a visitor asks for it: it is no prerender's.
			raw = append(raw, []byte("\nif(!window.__rewarm)import('./gone-0a1b2c3d.js');")...)
		}
		files[name] = &fstest.MapFile{Data: raw, Mode: 0o644}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	f := startFleetOn(t, files, "v1", nil)
	f.untilHit("/about", "v1")
	v := f.check("/about")
	found := map[words.FindingKind]bool{}
	for _, finding := range v.Findings {
		found[finding.Kind] = found[finding.Kind] || finding.Severity == words.SeverityBreak
	}
	if v.Verdict.Verdict != words.VerdictBroken || !found[words.FindingChunk] || !found[words.FindingAssetMissing] {
		t.Errorf("%+v", v)
	}
}
