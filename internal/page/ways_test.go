package page

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"golang.org/x/net/html"

	"github.com/rewarm/rewarm/examples"
	"github.com/rewarm/rewarm/internal/words"
)

// exampleHosts are the example hosts with all kinds of routes that they have.
func exampleHosts(t *testing.T) map[string]exampleHost {
	t.Helper()
	made := map[string]exampleHost{}
	add := func(name string, host fs.FS, err error, transitions bool, routes ...string) {
		if err != nil {
			t.Fatal(err)
		}
		made[name] = exampleHost{host, transitions, routes}
	}
	vanilla, err := examples.Vanilla("v1")
	add("vanilla", vanilla, err, true, "/", "/about", "/products", "/products/kettle", "/products/lantern?from=a", "/products/none", "/no/such/page")
	birds := []string{"/", "/about", "/birds", "/birds/hoopoe", "/birds/wren?from=a", "/birds/none", "/no/such/page"}
	unchanged, err := examples.React("v1", false)
	add("react", unchanged, err, false, birds...)
	hooked, err := examples.React("v1", true)
	add("react-transition", hooked, err, true, birds...)
	return made
}

type exampleHost struct {
	files       fs.FS
	transitions bool // it has prerenderTransitionTo
	routes      []string
}

// serve serves the example; what a page is opened with comes from the shell.
func (e exampleHost) serve(t *testing.T) *host {
	t.Helper()
	files := http.FileServerFS(e.files)
	h := &host{Server: httptest.NewServer(files)}
	t.Cleanup(h.Close)
	t.Cleanup(h.CloseClientConnections)
	return h
}

// pairs is a walk through n routes that goes from each to each, itself
// included, exactly once.
func pairs(n int) (walk []int) {
	for i := range n {
		walk = append(walk, i)
		for j := i + 1; j < n; j++ {
			walk = append(walk, i, j)
		}
	}
	return append(walk, 0)
}

// equally compares captures but for the order of attributes, and for how the
// end of a render was noticed.
var equally = cmpopts.AcyclicTransformer("tokens", func(c words.Capture) words.Capture {
	c.SettledBy = ""
	c.HTML, c.Head, c.Body = tokens(c.HTML), tokens(c.Head), tokens(c.Body)
	return c
})

func tokens(document string) string {
	var all strings.Builder
	for z := html.NewTokenizer(strings.NewReader(document)); ; {
		t := nextToken(z)
		if t.Type == html.ErrorToken {
			return all.String()
		}
		all.WriteString(t.String())
	}
}

// What a route's capture is does not depend on the way to it, nor on where the
// page was before.
func TestThreeWaysToARouteGiveTheSame(t *testing.T) {
	for name, example := range exampleHosts(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			shell, err := fs.ReadFile(example.files, "index.html")
			if err != nil {
				t.Fatal(err)
			}
			h := example.serve(t)
			want := map[string]words.Capture{}
			for _, path := range example.routes {
				p := open(t, h, string(shell))
				want[path] = h.render(t, p, path, isolated)
				if err := p.Close(); err != nil {
					t.Fatal(err)
				}
				if want[path].Status != words.StatusReady {
					t.Fatalf("%s: %s", path, brief(want[path]))
				}
			}
			walking, loading := open(t, h, string(shell)), open(t, h, string(shell))
			at := "/_standby"
			walk := pairs(len(example.routes))
			if !example.transitions {
				walk = walk[:len(example.routes)] // each render is a load, wherever it comes from
			}
			for _, i := range walk {
				path := example.routes[i]
				got := h.render(t, walking, path, nil)
				if d := cmp.Diff(want[path], got, equally); d != "" {
					t.Errorf("from %s to %s by %s: %s", at, path, walking.Report().Mode, d)
				}
				// A route that is gone to twice in a row finds its own things, and is
				// shown once to be right with them.
				if r := walking.Report(); len(r.Residue) > 0 || r.FellBack && at != path || !r.FellBack && example.transitions != (r.Mode == words.ModeTransition) {
					t.Errorf("from %s to %s: %+v", at, path, r)
				}
				at = path
			}
			for _, path := range example.routes {
				if d := cmp.Diff(want[path], h.render(t, loading, path, navigating), equally); d != "" {
					t.Errorf("loading %s: %s", path, d)
				}
			}
		})
	}
}
