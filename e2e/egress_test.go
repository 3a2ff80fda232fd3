package e2e

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/rewarm/rewarm/internal/app"
	"github.com/rewarm/rewarm/internal/words"
)

// reachingApp shows what it gets from the URL in its own.
const reachingApp = `
const app = document.getElementById('app');
const at = decodeURIComponent(location.pathname.slice(1));
if (at.startsWith('http')) {
  window.prerenderReady = false;
  fetch(at).then(answer => answer.text(), () => 'not reached').then(text => { app.textContent = text; window.prerenderReady = true });
} else app.textContent = 'standby';
`

func TestF13_PagesReachTheRealmAndNotTheFleet(t *testing.T) {
	server := func(text string) *httptest.Server {
		site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Access-Control-Allow-Origin", "*")
			_, _ = w.Write([]byte(text))
		}))
		t.Cleanup(site.Close)
		return site
	}
	api, neighbour := server("the permitted API"), server("a neighbour")
	host := fstest.MapFS{
		"index.html": {Data: []byte(`<!doctype html><title>reaching</title><main id="app"></main><script src="/app.js"></script>`)},
		"app.js":     {Data: []byte(reachingApp)},
		"data.txt":   {Data: []byte("the realm's data")},
	}
	f := startFleetOn(t, host, "reaching", func(o *app.UpOptions) { o.AllowOrigins = []string{api.URL} })
	refused := func(reason string) float64 {
		return max(0, f.metric(`rewarm_egress_refused_total{reason="`+reason+`"}`))
	}
	for _, c := range []struct{ at, want, reason string }{
		{f.up.RealmURL() + "/data.txt", "the realm's data", ""},
		{api.URL, "the permitted API", ""},
		{neighbour.URL, "not reached", "private"},
		{f.up.ManagerURL() + "/host-shell", "not reached", "fleet"},
		{f.up.PrerenderURL() + "/metrics", "not reached", "fleet"},
	} {
		before := refused(c.reason)
		answer, err := f.visit(t.Context(), "/"+url.QueryEscape(c.at), words.ModeNavigate)
		if got := answer.Data.Attributes; err != nil || got.Status != words.StatusReady || !strings.Contains(got.Body, c.want) {
			t.Errorf("%s: %v %.400s, want %q", c.at, err, answer.Body, c.want)
		}
		if c.reason != "" && refused(c.reason) <= before {
			t.Errorf("%s: no refusal is counted for %s", c.at, c.reason)
		}
	}
}
