package manager

import (
	"net/http"
	"testing"

	"github.com/rewarm/rewarm/internal/wire"
)

// What a page waits for joins no flight: the one it would join is its own
// parent's, which is named, or somebody else's that may wait for the same page.
func TestF04_NestedVisitJoinsNoFlight(t *testing.T) {
	const id = "abc"
	var r *rig
	s := newFake(t, func(w http.ResponseWriter, request *http.Request) {
		if request.Header.Get(wire.HeaderRequestID) != id {
			status(201)(w, request)
			return
		}
		for as, want := range map[string]int{
			wire.Descendant(id, 1):                     422, // waits for itself
			wire.Descendant(wire.Descendant(id, 1), 2): 422,
			wire.Descendant("def", 1):                  201, // is rendered beside it
		} {
			got, err := r.try(request.Context(), "POST", "/prerender-visit", visitBody(), wire.HeaderRequestID, as)
			if err != nil || got.status != want {
				t.Errorf("%s: %v %v, want %d", as, got, err, want)
			}
		}
		status(201)(w, request)
	})
	r = start(t)
	r.beat(s.URL, nil)
	if got := r.do("POST", "/prerender-visit", visitBody(), wire.HeaderRequestID, id); got.status != 201 || s.calls() != 2 {
		t.Errorf("%v after %d calls", got, s.calls())
	}
	if got := r.do("GET", "/", ""); got.status != 200 {
		t.Errorf("the server left rotation: %v", got)
	}
}

// All that a page asks for carries one id: other commands under it are others,
// the same one is not run twice.
func TestF02_CommandsOfOnePageAreToldApart(t *testing.T) {
	s := newFake(t, status(201))
	r := start(t)
	r.beat(s.URL, nil)
	id := wire.Descendant("abc", 1)
	for _, command := range []string{"x", "y", "x", "y"} {
		if got := r.do("POST", "/run-command", visitBody("command", command), wire.HeaderRequestID, id); got.status != 201 {
			t.Errorf("%v", got)
		}
	}
	if s.calls() != 2 {
		t.Errorf("two commands ran %d times", s.calls())
	}
}
