package page

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

const carryShell = `<!DOCTYPE html><html><head><title>s</title></head><body><div id="app"></div><script>
const app = document.getElementById('app');
const ways = {
  '/fetch': () => fetch('/data').then(r => r.text()),
  '/post': () => fetch('/data', {method: 'POST', body: 'b', headers: {'X-Own': 'o'}}).then(r => r.text()),
  '/request': () => fetch(new Request('data', {method: 'POST', body: 'b', headers: {'X-Own': 'o'}})).then(r => r.text()),
  '/url': () => fetch(new URL('/data', location.href)).then(r => r.text()),
  '/xhr': () => new Promise(done => { const x = new XMLHttpRequest(); x.onload = () => done(x.responseText); x.open('GET', '/data'); x.send() }),
};
window.prerenderTransitionTo = async path => { history.pushState({}, '', path); app.textContent = path; if (ways[path]) app.textContent = await ways[path]() };
if (location.pathname !== '/_standby') prerenderTransitionTo(location.pathname);
</script></body></html>`

// What a page asks of its own origin carries the id of the render it is for,
// with all that the page said itself.
func TestRequestsCarryTheRendersID(t *testing.T) {
	var mu sync.Mutex
	var heard []string
	echo := func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		heard = append(heard, r.Method+" "+r.Header.Get(wire.HeaderRequestID)+" "+r.Header.Get("X-Own"))
		mu.Unlock()
		fmt.Fprint(w, "answered")
	}
	own := httptest.NewServer(http.HandlerFunc(echo))
	t.Cleanup(own.Close)
	h := &host{Server: own}
	p := open(t, h, carryShell)
	n := 0
	for _, mode := range []words.Mode{words.ModeTransition, words.ModeNavigate} {
		for path, want := range map[string]string{
			"/fetch": "GET %s ", "/post": "POST %s o", "/request": "POST %s o", "/url": "GET %s ", "/xhr": "GET %s ",
		} {
			mu.Lock()
			heard = nil
			mu.Unlock()
			n++
			id := fmt.Sprintf("abc--1%08x", n)
			c := h.render(t, p, path, func(v *words.Visit) { v.Options.Mode, v.Carry = mode, id })
			mu.Lock()
			if !slices.Contains(heard, fmt.Sprintf(want, id)) || len(heard) != 1 {
				t.Errorf("%s %s: heard %q: %s", mode, path, heard, brief(c))
			}
			mu.Unlock()
		}
	}
}
