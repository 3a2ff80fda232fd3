package page

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/rewarm/rewarm/internal/takeover"
	"github.com/rewarm/rewarm/internal/words"
)

// givenApp goes to another page of the realm if it is asked to, and else shows
// where it is.
const givenApp = `
if (location.search === '?goes') location.replace('/other');
else document.querySelector('#app').innerHTML = '<h1>new at ' + location.pathname + '</h1>';
`

// giveTo visits a path whose server serves another release, with that of a shell
// in its place; asked are the documents that the server was asked for.
func giveTo(t *testing.T, target string, change func(*Given)) (v words.Verdict, seen Observation, asked []string) {
	t.Helper()
	var mu sync.Mutex
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/new.js":
			w.Header().Set("Content-Type", "text/javascript")
			_, _ = io.WriteString(w, givenApp)
		case "/favicon.ico":
			w.WriteHeader(http.StatusNoContent)
		default:
			mu.Lock()
			asked = append(asked, r.URL.Path)
			mu.Unlock()
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, "<!doctype html><title>old</title><p>old "+r.URL.Path)
		}
	}))
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	bytes := []byte(visitedHead + `<div id="app"></div><script type="module" src="/new.js"></script></body></html>`)
	given := &Given{
		Shell:    words.Shell{Token: words.TokenOf(bytes), Bytes: bytes, Header: map[string]string{"Content-Type": "text/html; charset=utf-8", "Content-Language": "en"}},
		Body:     []byte(strings.Replace(string(bytes), `<div id="app">`, `<div id="app"><h1>new at /page</h1>`, 1)),
		Snapshot: "hit", Status: http.StatusOK,
	}
	if change != nil {
		change(given)
	}
	seen, err := shared.Observe(t.Context(), ObserveOptions{URL: server.URL + target, Realms: []string{server.URL}, Patience: testLimit, Given: given})
	if err != nil {
		t.Fatal(err)
	}
	if seen.Token != given.Shell.Token {
		t.Errorf("the document is of %q, want %s", seen.Token, given.Shell.Token)
	}
	mu.Lock()
	defer mu.Unlock()
	return takeover.Judge(seen.Evidence), seen, asked
}

func TestVisitorGetsTheGivenPageInPlaceOfTheServers(t *testing.T) {
	for _, target := range []string{"/page", "/page#part"} {
		v, seen, asked := giveTo(t, target, nil)
		if v.Verdict != words.VerdictOK || v.Snapshot != "hit" || v.HTTPStatus != 200 || len(asked) > 0 || !slices.Contains(seen.Before.Lines, "new at /page") || !slices.Contains(seen.After.Lines, "new at /page") {
			t.Errorf("%s: %+v; before %q, after %q, asked %q", target, v, seen.Before.Lines, seen.After.Lines, asked)
		}
	}
}

func TestVisitorOfAGivenPageNeverGetsTheServersRelease(t *testing.T) {
	v, seen, asked := giveTo(t, "/page?goes", nil)
	if len(asked) > 0 || !slices.Contains(seen.After.Lines, "new at /other") || v.Snapshot != "bypass" {
		t.Errorf("%+v; after %q, asked %q", v, seen.After.Lines, asked)
	}
}

func TestVisitorOfAGivenPageHasItsStatusAndItsFrames(t *testing.T) {
	v, _, asked := giveTo(t, "/page", func(g *Given) {
		g.Status = http.StatusNotFound
		g.Body = []byte(strings.Replace(string(g.Body), `<script`, `<iframe src="/frame"></iframe><script`, 1))
	})
	if v.HTTPStatus != http.StatusNotFound || !slices.Equal(asked, []string{"/frame", "/frame"}) && !slices.Equal(asked, []string{"/frame"}) {
		t.Errorf("%+v, asked %q", v, asked)
	}
}
