package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"

	"github.com/rewarm/rewarm/internal/app"
	"github.com/rewarm/rewarm/internal/realm"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// nestingShell is an application whose pages are made of others: /a?b,c shows
// what the backend had rendered of /b and /c.
const nestingShell = `<!DOCTYPE html><html><head><title>nesting</title></head><body><div id="app"></div><script>
const show = async at => {
  const app = document.getElementById('app');
  app.textContent = 'loading';
  const parts = ({'/ring': ['/ring2'], '/ring2': ['/ring']})[at.pathname] || at.search.slice(1).split(',').filter(p => p);
  const texts = await Promise.all(parts.map(p => fetch('/api/part?of=' + encodeURIComponent(p.replaceAll('~', '?'))).then(r => r.text())));
  app.textContent = '[' + at.pathname + texts.join('') + ']';
};
window.prerenderTransitionTo = async path => { history.pushState({}, '', path); await show(location) };
if (location.pathname !== '/_standby') show(location);
</script></body></html>`

// A page's fetch goes to a backend that asks the manager for another render of
// the same affinity, and there is one page: that is rendered beside it, and a
// render that waits for itself is named at once.
func TestF04_PageThatNeedsAnotherRender(t *testing.T) {
	var f *fleet
	var asked atomic.Int32
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		body := fmt.Sprintf(`{"data":{"attributes":{"url":%q}}}`, f.up.RealmURL()+r.URL.Query().Get("of"))
		request, err := http.NewRequestWithContext(r.Context(), http.MethodPost, f.up.ManagerURL()+"/prerender-visit", bytes.NewReader([]byte(body)))
		if err != nil {
			t.Error(err)
			return
		}
		request.Header.Set(wire.HeaderRequestID, r.Header.Get(wire.HeaderRequestID))
		response, err := f.http.Do(request)
		if err != nil {
			return // the page gave up
		}
		defer response.Body.Close()
		raw, _ := io.ReadAll(response.Body)
		var got struct {
			Data   struct{ Attributes wire.VisitResult }
			Errors []struct{ Message string }
		}
		_ = json.Unmarshal(raw, &got)
		if len(got.Errors) > 0 {
			_, _ = fmt.Fprintf(w, "(%d %s)", response.StatusCode, got.Errors[0].Message)
			return
		}
		_, text, _ := strings.Cut(got.Data.Attributes.Body, `<div id="app">`)
		text, _, _ = strings.Cut(text, "</div>")
		_, _ = io.WriteString(w, text)
	}))
	t.Cleanup(backend.Close)
	target, err := url.Parse(backend.URL)
	if err != nil {
		t.Fatal(err)
	}
	f = startFleetOn(t, fstest.MapFS{"index.html": {Data: []byte(nestingShell)}}, "r0", func(o *app.UpOptions) {
		o.Pages, o.Proxy = 1, []realm.ProxyRule{{Prefix: "/api", Target: target}}
	})
	for _, mode := range []words.Mode{words.ModeTransition, words.ModeNavigate} {
		for path, want := range map[string]string{
			"/a?/b":       "[/a[/b]]",
			"/a?/b,/c":    "[/a[/b][/c]]",
			"/a?/b~/c":    "[/a[/b[/c]]]",
			"/a?/b~/c,/c": "[/a[/b[/c]][/c]]",
			"/a?/a":       "[/a[/a]]",
			"/loop?/loop": "[/loop[/loop]]",
		} {
			answer, err := f.visit(t.Context(), path, mode)
			if err != nil || answer.Status != http.StatusCreated || !strings.Contains(answer.Data.Attributes.Body, want) {
				t.Errorf("%s %s: %v %d %.500s", mode, path, err, answer.Status, answer.Body)
			}
		}
	}
	answer, err := f.visit(t.Context(), "/ring", words.ModeDefault)
	if err != nil || answer.Status != http.StatusCreated || !strings.Contains(answer.Data.Attributes.Body, "[/ring[/ring2(422 wait-for cycle: /ring ") {
		t.Errorf("a ring: %v %d %.500s", err, answer.Status, answer.Body)
	}
	if n := asked.Load(); n != 2*(1+2+2+3+1+1)+2 {
		t.Errorf("the backend was asked %d times", n)
	}
	f.until("the pool has its size again", func() bool { return f.metric("rewarm_prerender_pages") == 1 })
}
