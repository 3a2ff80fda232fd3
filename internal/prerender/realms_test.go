package prerender

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rewarm/rewarm/internal/client"
	"github.com/rewarm/rewarm/internal/wire"
)

// reporting is a manager that knows the realms of its reporters.
func reporting(t *testing.T, reported func() []string) (manager *client.Manager, asked *atomic.Int32) {
	t.Helper()
	asked = &atomic.Int32{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.URL.Path != "/host-shell" {
			t.Errorf("asked for %s", r.URL.Path)
		}
		_ = json.NewEncoder(w).Encode(wire.Releases{Reporters: []wire.ReporterView{{Realms: reported()}}})
	}))
	t.Cleanup(server.Close)
	return client.NewManager(server.URL, ""), asked
}

func TestRealmsAreThoseGivenAndThoseReported(t *testing.T) {
	var many []string
	for i := range maxRealms + 10 {
		many = append(many, fmt.Sprintf("http://r%03d", i))
	}
	for _, test := range []struct {
		name            string
		given, reported []string
		want            []string
	}{
		{"as given", []string{"http://b"}, []string{"http://b"}, []string{"http://b"}},
		{"others come behind", []string{"http://b"}, []string{"http://a", "http://b"}, []string{"http://b", "http://a"}},
		{"what is not reported goes last", []string{"http://gone", "http://b"}, []string{"http://B/", "http://a"}, []string{"http://b", "http://a", "http://gone"}},
		{"a manager that knows none", []string{"http://b"}, nil, []string{"http://b"}},
		{"what is no realm", []string{"http://b"}, []string{"nonsense", "file:///etc", ""}, []string{"http://b"}},
		{"what is not permitted", []string{"http://b"}, []string{"http://refused", "http://b"}, []string{"http://b"}},
		{"too many", []string{many[0]}, many, many[:maxRealms]},
	} {
		manager, _ := reporting(t, func() []string { return test.reported })
		r := newRealms(test.given, func(all []string) []string {
			return slices.DeleteFunc(all, func(realm string) bool { return realm == "http://refused" })
		})
		if err := r.learn(t.Context(), manager); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		if got := r.all(); !slices.Equal(got, test.want) {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

func TestManagerThatDoesNotAnswerTakesNoRealmAway(t *testing.T) {
	manager, _ := reporting(t, func() []string { return []string{"http://b"} })
	r := newRealms([]string{"http://a"}, nil)
	if err := r.learn(t.Context(), manager); err != nil {
		t.Fatal(err)
	}
	known := r.all()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.learn(gone, client.NewManager("http://127.0.0.1:1", "")); err == nil {
		t.Error("nobody was asked, and no error")
	}
	if err := r.learn(t.Context(), client.NewManager("http://127.0.0.1:1", "")); err == nil {
		t.Error("nobody answered, and no error")
	}
	if !slices.Equal(r.all(), known) {
		t.Errorf("%q, want %q", r.all(), known)
	}
}

// Anyone who may ask for renders may name realms that nobody has: a crowd of
// them asks the manager once a second, not once each.
func TestCrowdOfUnknownRealmsAsksTheManagerOnce(t *testing.T) {
	manager, asked := reporting(t, func() []string { return []string{"http://a"} })
	r := newRealms([]string{"http://a"}, nil)
	began := time.Now()
	var crowd sync.WaitGroup
	for range 100 {
		crowd.Go(func() { _ = r.learn(t.Context(), manager) })
	}
	crowd.Wait()
	if most := 2 + int32(time.Since(began)/learnAgain); asked.Load() > most {
		t.Errorf("asked %d times, at most %d", asked.Load(), most)
	}
}

// A realm that a realm server began to serve after this server started is
// rendered at its first visit.
func TestRealmThatIsAddedIsRenderedAtOnce(t *testing.T) {
	var added atomic.Pointer[string]
	manager, _ := reporting(t, func() []string {
		if realm := added.Load(); realm != nil {
			return []string{*realm}
		}
		return nil
	})
	s := &Server{options: Options{Manager: manager}, realms: newRealms([]string{"http://a"}, nil)}
	body := `{"data":{"attributes":{"url":"http://b/x"}}}`
	ask := func() error {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/prerender-visit", nil)
		request, err := wire.ParseVisitRequest([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		affinity, given, _ := request.Affinity()
		_, err = s.placeOrLearn(r, 0, &request, affinity, given)
		return err
	}
	if err := ask(); err == nil {
		t.Error("a URL in no realm has one")
	}
	realm := "http://b"
	added.Store(&realm)
	if err := ask(); err != nil {
		t.Error(err)
	}
}
