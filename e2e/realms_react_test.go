package e2e

import (
	"io/fs"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/rewarm/rewarm/examples"
	"github.com/rewarm/rewarm/internal/client"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// The two places of the built React example that an application which is served
// below a path writes otherwise: the router's basename, and the hook, which is
// told whole paths while the router wants them below its base.
var (
	routesAtTheEnd = regexp.MustCompile(`(\[\{Component:\w+,HydrateFallback:\(\)=>null,children:\[\{ErrorBoundary:\w+,children:\w+\}\]\}\])\)`)
	hookNavigates  = regexp.MustCompile(`\.navigate\((\w+),\{replace:!0\}\)`)
)

// reactBelow is the React example with a basename of /shop where it is served
// there.
func reactBelow(t *testing.T, release string, transition bool) fs.FS {
	t.Helper()
	host, changed := fstest.MapFS{}, 0
	err := fs.WalkDir(react(t, release, transition), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := fs.ReadFile(react(t, release, transition), name)
		if strings.HasPrefix(name, "assets/index-") && strings.HasSuffix(name, ".js") {
			before := string(content)
			content = routesAtTheEnd.ReplaceAll(content, []byte(`$1,{basename:/^\/shop(\/|$$)/.test(location.pathname)?"/shop":"/"})`))
			content = hookNavigates.ReplaceAll(content, []byte(`.navigate($1.replace(/^\/shop(?=\/|$$)/,"")||"/",{replace:!0})`))
			if string(content) != before {
				changed++
			}
		}
		host[name] = &fstest.MapFile{Data: content}
		return err
	})
	if err != nil || changed != 1 {
		t.Fatalf("the example was built otherwise: %d files were given a basename, %v", changed, err)
	}
	return host
}

// TestReactRouterBelowAPath: one build, at the root of a host and below /shop of
// it, through a deploy: routes, links, statuses and the takeover are each
// realm's.
func TestReactRouterBelowAPath(t *testing.T) {
	for name, transition := range map[string]bool{"unchanged": false, "with a transition hook": true} {
		t.Run(name, func(t *testing.T) {
			at := freeAddr(t)
			_, port, err := net.SplitHostPort(at)
			if err != nil {
				t.Fatal(err)
			}
			root := "http://localhost:" + port
			f := startRealms(t, at, reactBelow(t, "v1", transition), "v1", root, root+"/shop")
			f.reactRoutes(root, "", "v1")
			f.reactRoutes(root, "/shop", "v1")
			f.place(reactBelow(t, "v2", transition))
			f.completeOn(f.accept("v2"))
			f.reactRoutes(root, "/shop", "v2")
			f.reactRoutes(root, "", "v2")
		})
	}
}

// reactRoutes holds what visitors get of each route to what it is to be.
func (f *realmsFleet) reactRoutes(root, base, release string) {
	t := f.t
	t.Helper()
	for path, want := range map[string]struct {
		status int
		text   string
	}{
		"/": {200, "Fieldbook"}, "/birds": {200, "All birds"}, "/birds/wren": {200, "Troglodytes"}, "/no/such": {404, ""},
	} {
		f.until(base+path+" is prerendered", func() bool {
			status, state, body := f.page(root + base + path)
			if state != "hit" {
				return false
			}
			if status != want.status || !strings.Contains(body, want.text) || !strings.Contains(body, `href="`+base+`/birds"`) {
				t.Errorf("%s%s: %d, want %d, with %q and links below %q:\n%s", base, path, status, want.status, want.text, base, body)
			}
			if named := examples.ReleasesIn(body); !slices.Equal(named, []string{release}) {
				t.Errorf("%s%s names %v, want %s", base, path, named, release)
			}
			return true
		})
	}
	v, err := f.asks().TakeoverCheck(t.Context(), wire.TakeoverRequest{URL: root + base + "/birds"}, client.Call{})
	if err != nil || v.Snapshot != "hit" || v.HTTPStatus != http.StatusOK {
		t.Fatalf("takeover of %s/birds: %+v, %v", base, v, err)
	}
	for _, found := range v.Findings {
		if found.Kind != words.FindingFlash { // as in TestTakeoverOfEveryExample
			t.Errorf("takeover of %s/birds: %+v", base, found)
		}
	}
}
