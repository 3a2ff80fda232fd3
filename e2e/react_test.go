package e2e

import (
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/rewarm/rewarm/examples"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// TestReactWorksUnchanged renders an application that knows nothing of Rewarm,
// and once more with a transition hook, through a deploy: every route is whole,
// of one release, and prerendered for visitors.
func TestReactWorksUnchanged(t *testing.T) {
	for name, transition := range map[string]bool{"unchanged": false, "with a transition hook": true} {
		t.Run(name, func(t *testing.T) {
			f := startFleetOn(t, react(t, "v1", transition), "v1", nil)
			f.checkRoutes("v1")
			f.place(react(t, "v2", transition))
			f.completeOn(f.accept("v2"))
			f.checkRoutes("v2")
		})
	}
}

func react(t *testing.T, release string, transition bool) fs.FS {
	t.Helper()
	host, err := examples.React(release, transition)
	if err != nil {
		t.Fatal(err)
	}
	return host
}

// checkRoutes renders each route and reads what a visitor gets of it.
func (f *fleet) checkRoutes(release string) {
	t := f.t
	t.Helper()
	for path, status := range map[string]int{"/": 200, "/about": 200, "/birds": 200, "/no/such/page": 404} {
		answer, err := f.visit(t.Context(), path, words.ModeDefault)
		if err != nil || answer.Status != 201 {
			t.Fatalf("%s: %d %v %.300s", path, answer.Status, err, answer.Body)
		}
		got := answer.Data.Attributes
		if got.Status != words.StatusReady || got.HTTPStatus != status || len(got.Console) > 0 || len(got.FailedRequests) > 0 {
			t.Errorf("%s: %s, HTTP %d, want %d; console %v, failed %v", path, got.Status, got.HTTPStatus, status, got.Console, got.FailedRequests)
		}
		if named := examples.ReleasesIn(got.HTML); !slices.Equal(named, []string{release}) {
			t.Errorf("%s names %v, want %s", path, named, release)
		}
		f.untilHit(path, release)
	}
}

// untilHit visits a route until it is served prerendered.
func (f *fleet) untilHit(path, release string) {
	f.t.Helper()
	f.until(path+" is prerendered for visitors", func() bool {
		header, body := f.get(path)
		if header.Get(wire.HeaderSnapshot) != "hit" {
			return false
		}
		if named := examples.ReleasesIn(body); !slices.Equal(named, []string{release}) {
			f.t.Errorf("visitor of %s: the text names %v, want %s", path, named, release)
		}
		if strings.Count(body, "<title>") != 1 {
			f.t.Errorf("visitor of %s: %d titles", path, strings.Count(body, "<title>"))
		}
		return true
	})
}
