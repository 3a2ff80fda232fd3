package prerender

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rewarm/rewarm/internal/page"
	"github.com/rewarm/rewarm/internal/pool"
	"github.com/rewarm/rewarm/internal/takeover"
	"github.com/rewarm/rewarm/internal/web"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

func (w *world) check(attributes string, header map[string]string) (status int, got wire.TakeoverResult, body string) {
	w.t.Helper()
	status, _, body = w.call(w.t.Context(), "/takeover-check", attributes, header)
	if status == http.StatusOK {
		got = decode[wire.TakeoverResult](w.t, body).Data.Attributes
	}
	return status, got, body
}

// observed makes every check see what f gives.
func (w *world) observed(f func(ctx context.Context, o page.ObserveOptions) (page.Observation, error)) {
	w.set(func() { w.observe = f })
}

func well(o page.ObserveOptions) page.Observation {
	return page.Observation{Evidence: takeover.Evidence{URL: o.URL, Documents: 1, Load: time.Second, Takeover: takeover.Takeover{Seen: true}}}
}

func TestTakeoverCheckTellsTheVerdict(t *testing.T) {
	w := newWorld(t, nil)
	w.untilFresh("<html>r1</html>")
	var asked page.ObserveOptions
	w.observed(func(_ context.Context, o page.ObserveOptions) (page.Observation, error) {
		asked = o
		return well(o), nil
	})
	status, got, body := w.check(fmt.Sprintf(`{"url":"%s/a","allowDifference":[".clock"],"timeoutMs":3000,"viewport":{"width":400,"height":300},"screenshots":true}`, w.realm.URL), nil)
	if status != 200 || got.Verdict.Verdict != words.VerdictOK || got.URL != w.realm.URL+"/a" {
		t.Errorf("%d %s", status, body)
	}
	if asked.Patience != 3*time.Second || !slices.Equal(asked.Allow, []string{".clock"}) || asked.Viewport.Width != 400 || !asked.Pictures || !slices.Equal(asked.Realms, []string{w.realm.URL}) {
		t.Errorf("%+v", asked)
	}
	w.observed(func(_ context.Context, o page.ObserveOptions) (page.Observation, error) {
		seen := well(o)
		seen.Takeover.Seen = false
		return seen, nil
	})
	if status, got, body = w.check(fmt.Sprintf(`{"url":"%s/a"}`, w.realm.URL), map[string]string{wire.HeaderBudget: "8000"}); status != 200 || got.Verdict.Verdict != words.VerdictBroken || got.Findings[0].Kind != words.FindingNoTakeover {
		t.Errorf("%d %s", status, body)
	}
}

func TestTakeoverCheckIsForTheFleetAndItsRealms(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Guard = web.Guard{Secrets: []string{"s3cret"}} })
	w.untilFresh("<html>r1</html>")
	seen := 0
	w.observed(func(_ context.Context, o page.ObserveOptions) (page.Observation, error) {
		seen++
		return well(o), nil
	})
	secret := map[string]string{"Authorization": "Bearer s3cret"}
	long := strings.Repeat("a", 3000)
	for name, c := range map[string]struct {
		status     int
		attributes string
		header     map[string]string
	}{
		"no secret":               {401, fmt.Sprintf(`{"url":"%s/a"}`, w.realm.URL), nil},
		"a wrong secret":          {401, fmt.Sprintf(`{"url":"%s/a"}`, w.realm.URL), map[string]string{"Authorization": "Bearer guess"}},
		"no URL":                  {400, `{}`, secret},
		"no JSON":                 {400, `{`, secret},
		"another site":            {403, `{"url":"http://elsewhere.example/"}`, secret},
		"a file":                  {400, `{"url":"file:///etc/passwd"}`, secret},
		"the metadata service":    {403, `{"url":"http://169.254.169.254/latest"}`, secret},
		"a name that begins so":   {400, fmt.Sprintf(`{"url":"%s.evil.example/"}`, w.realm.URL), secret},
		"out of the realm":        {400, fmt.Sprintf(`{"url":"%s/../x"}`, w.realm.URL), secret},
		"a password":              {400, `{"url":"http://u:p@h/"}`, secret},
		"a realm that is none":    {403, fmt.Sprintf(`{"url":"%s/a","realm":"http://other/"}`, w.realm.URL), secret},
		"a selector without end":  {400, fmt.Sprintf(`{"url":"%s/a","allowDifference":["%s"]}`, w.realm.URL, long), secret},
		"an empty selector":       {400, fmt.Sprintf(`{"url":"%s/a","allowDifference":[" "]}`, w.realm.URL), secret},
		"a thousand selectors":    {400, fmt.Sprintf(`{"url":"%s/a","allowDifference":[%s"b"]}`, w.realm.URL, strings.Repeat(`"a",`, 1000)), secret},
		"a window without bounds": {400, fmt.Sprintf(`{"url":"%s/a","viewport":{"width":100000,"height":100000}}`, w.realm.URL), secret},
	} {
		if status, _, body := w.check(c.attributes, c.header); status != c.status {
			t.Errorf("%s: %d %s, want %d", name, status, body, c.status)
		}
	}
	if seen != 0 {
		t.Errorf("%d were loaded all the same", seen)
	}
	if status, _, body := w.check(fmt.Sprintf(`{"url":"%s/a"}`, w.realm.URL), secret); status != 200 || seen != 1 {
		t.Errorf("%d %s", status, body)
	}
}

// A check takes a page's place: it waits as a render does, and a render waits
// for it.
func TestTakeoverCheckTakesItsTurn(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Pool = pool.Options{Size: 1} })
	w.until("a page is warm", func() bool { return w.server.keeper.status().Capacity == 1 })
	begun, end := make(chan struct{}, 1), make(chan struct{})
	w.observed(func(_ context.Context, o page.ObserveOptions) (page.Observation, error) {
		begun <- struct{}{}
		<-end
		return well(o), nil
	})
	answered := make(chan int, 1)
	go func() {
		status, _, _ := w.call(t.Context(), "/takeover-check", fmt.Sprintf(`{"url":"%s/a"}`, w.realm.URL), nil)
		answered <- status
	}()
	<-begun
	if a := w.visit(map[string]string{wire.HeaderBudget: "300"}); a.status != 503 || a.header.Get("Retry-After") == "" {
		t.Errorf("a render did not wait: %d %s", a.status, a.body)
	}
	close(end)
	if status := <-answered; status != 200 {
		t.Errorf("the check: %d", status)
	}
	if a := w.visit(nil); a.status != 201 {
		t.Errorf("the page did not come back: %d %s", a.status, a.body)
	}
}

func TestTakeoverCheckThatCannotBeDoneIsRefused(t *testing.T) {
	w := newWorld(t, nil)
	w.untilFresh("<html>r1</html>")
	at := fmt.Sprintf(`{"url":"%s/a"}`, w.realm.URL)
	w.observed(func(context.Context, page.ObserveOptions) (page.Observation, error) {
		return page.Observation{}, errors.New("chrome died")
	})
	if status, _, body := w.check(at, nil); status != 503 || strings.Contains(body, "died") {
		t.Errorf("%d %s", status, body)
	}
	w.observed(func(context.Context, page.ObserveOptions) (page.Observation, error) {
		return page.Observation{}, fmt.Errorf("observing: %w", &page.OptionsError{Err: errors.New(`">" is no CSS selector`)})
	})
	if status, _, body := w.check(at, nil); status != 400 || !strings.Contains(body, "no CSS selector") {
		t.Errorf("%d %s", status, body)
	}
	w.observed(func(ctx context.Context, _ page.ObserveOptions) (page.Observation, error) {
		<-ctx.Done()
		return page.Observation{}, context.Cause(ctx)
	})
	if status, _, body := w.check(at, map[string]string{wire.HeaderBudget: "200"}); status != 503 || !strings.Contains(body, "within the budget") {
		t.Errorf("%d %s", status, body)
	}
}

// A Chrome that dies in the middle costs the check, which is asked for again,
// and nothing else.
func TestTakeoverCheckInAKilledChromeIsRefused(t *testing.T) {
	h := newRealHost(t)
	begun := make(chan struct{}, 1)
	visited := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			begun <- struct{}{}
			<-r.Context().Done()
			return
		}
		h.Config.Handler.ServeHTTP(w, r)
	}))
	t.Cleanup(visited.Close)
	t.Cleanup(visited.CloseClientConnections)
	w := newRealWorldAt(t, visited)
	answered := make(chan int, 1)
	go func() {
		status, _, _ := w.call(t.Context(), "/takeover-check", fmt.Sprintf(`{"url":"%s/slow"}`, visited.URL), nil)
		answered <- status
	}()
	select {
	case <-begun:
	case <-time.After(eventually):
		t.Fatal("the page was never asked for")
	}
	current, err := w.server.slot.get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := current.Browser.(realChrome).Kill(); err != nil {
		t.Error(err)
	}
	if status := <-answered; status != http.StatusServiceUnavailable {
		t.Errorf("answered %d", status)
	}
	w.until("another Chrome has a page", func() bool { return w.server.keeper.status().Capacity == 1 })
}

// The visitor gets what the realm serves, and not the shell that pages are made
// of.
func TestTakeoverCheckOnARealPage(t *testing.T) {
	h := newRealHost(t)
	visited := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/_standby" {
			h.Config.Handler.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/html")
		w.Header().Set(wire.HeaderSnapshot, "hit")
		_, _ = io.WriteString(w, `<!doctype html><div id="app">prerendered</div><script type="module">document.querySelector('#app').innerHTML = '<p>shown</p>'</script>`)
	}))
	t.Cleanup(visited.Close)
	w := newRealWorldAt(t, visited)
	status, got, body := w.check(fmt.Sprintf(`{"url":"%s/page","screenshots":true}`, visited.URL), nil)
	if status != 200 || got.Verdict.Verdict != words.VerdictBroken || got.Findings[0].Kind != words.FindingTextLost || got.Findings[0].Detail != "prerendered" || got.Snapshot != "hit" {
		t.Errorf("%d %.500s", status, body)
	}
	if got.Screenshots == nil || len(got.Screenshots.Difference) == 0 || got.Difference == nil || *got.Difference == 0 {
		t.Errorf("no picture of the difference: %.500s", body)
	}
	if status, _, body = w.check(fmt.Sprintf(`{"url":"%s/page","allowDifference":[">"]}`, visited.URL), nil); status != 400 {
		t.Errorf("%d %s", status, body)
	}
	if status, got, body = w.check(fmt.Sprintf(`{"url":"%s/page","allowDifference":["#app"]}`, visited.URL), nil); status != 200 || got.Verdict.Verdict != words.VerdictOK {
		t.Errorf("%d %s", status, body)
	}
}
