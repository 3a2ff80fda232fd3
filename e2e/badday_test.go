package e2e

import (
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rewarm/rewarm/internal/app"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// patience is what callers of bad pages wait at most.
const patience = 1500 * time.Millisecond

// habit is a bad page and the outcome that the protocol's table gives it.
type habit struct {
	path     string
	statuses []words.Status
	kind     words.PageErrorKind // of the error; "" for none
	text     string              // in the HTML
	patience time.Duration       // when more than usual
}

// ready is the patience with a page that ends by itself, on a machine however busy.
const ready = 20 * time.Second

// habits are judged one after another on the same server; after each one a
// good page must be ready.
var habits = []habit{
	{path: "/loop", statuses: []words.Status{words.StatusUnusable}, kind: words.PageErrorTimeout},
	{path: "/never", statuses: []words.Status{words.StatusPartial}, kind: words.PageErrorTimeout, text: "half"},
	{path: "/waits", statuses: []words.Status{words.StatusPartial}, kind: words.PageErrorTimeout, text: "half"},
	{path: "/throws", statuses: []words.Status{words.StatusError}, kind: words.PageErrorPage},
	{path: "/dialogs", statuses: []words.Status{words.StatusReady}, text: "dialogs page", patience: ready},
	{path: "/windows", statuses: []words.Status{words.StatusReady}, text: "windows page", patience: ready},
	{path: "/download", statuses: []words.Status{words.StatusReady}, text: "download page", patience: ready},
	{path: "/circle", statuses: []words.Status{words.StatusPartial, words.StatusUnusable}, kind: words.PageErrorTimeout},
	{path: "/worker", statuses: []words.Status{words.StatusReady}, text: "worker page", patience: ready},
	{path: "/huge", statuses: []words.Status{words.StatusUnusable, words.StatusError}, kind: words.PageErrorPage, patience: ready},
	{path: "/refused", statuses: []words.Status{words.StatusError}, kind: words.PageErrorNavigation},
}

// TestF03_BadPagesHarmOnlyThemselves: each bad page has the outcome that the
// contract gives it, and the next page on the same server is as good as ever.
func TestF03_BadPagesHarmOnlyThemselves(t *testing.T) {
	f, _ := startHostile(t, func(o *app.UpOptions) { o.Pages = 2 })
	pid := f.browserPID()
	for _, h := range habits {
		for _, mode := range []words.Mode{words.ModeTransition, words.ModeNavigate} {
			f.judgeHabit(h, mode)
			f.good("after " + h.path)
		}
	}
	if now := f.browserPID(); now != pid {
		t.Errorf("chrome %d was replaced by %d: a bad page costs its own page only", pid, now)
	}
}

// TestF03_APageThatHoldsItsThreadAfterItsRenderPoisonsNobody: the next render
// of its affinity is given another page.
func TestF03_APageThatHoldsItsThreadAfterItsRenderPoisonsNobody(t *testing.T) {
	f, poison := startHostile(t, func(o *app.UpOptions) { o.Pages = 2 })
	for _, mode := range []words.Mode{words.ModeTransition, words.ModeNavigate} {
		f.judgeHabit(habit{path: "/poison", statuses: []words.Status{words.StatusReady}, text: "poison page"}, mode)
		poison.act(t)
		f.good("after a page that holds its thread")
	}
}

func (f *fleet) judgeHabit(h habit, mode words.Mode) {
	f.t.Helper()
	answer, _, err := f.ask(f.t.Context(), f.up.ManagerURL(), h.path, mode, max(patience, h.patience))
	got := answer.Data.Attributes
	if err != nil || answer.Status != http.StatusCreated {
		f.t.Errorf("%s by %s: %d %v %.400s", h.path, mode, answer.Status, err, answer.Body)
		return
	}
	if !slices.Contains(h.statuses, got.Status) {
		f.t.Errorf("%s by %s: status %s, want %v: %.400s", h.path, mode, got.Status, h.statuses, answer.Body)
	}
	switch {
	case h.kind == "" && got.Error != nil:
		f.t.Errorf("%s by %s: error %+v, want none", h.path, mode, *got.Error)
	case h.kind != "" && (got.Error == nil || got.Error.Kind != h.kind):
		f.t.Errorf("%s by %s: error %+v, want kind %s", h.path, mode, got.Error, h.kind)
	}
	if !strings.Contains(got.HTML, h.text) {
		f.t.Errorf("%s by %s: %q is not in %.300s", h.path, mode, h.text, got.HTML)
	}
	if strings.Contains(got.HTML, "from the worker") {
		f.t.Errorf("%s by %s: a service worker's document was taken", h.path, mode)
	}
}

// TestF11_PartialPagesAreNeverStored: what visitors of a page that never
// settles get is the bare shell, however often they come; half a page is
// neither served nor kept. F12: nor is Chrome's own error page.
func TestF11_PartialPagesAreNeverStored(t *testing.T) {
	f, _ := startHostile(t, func(o *app.UpOptions) { o.Prerender.RenderTimeout = patience })
	bad := []string{"/never", "/waits", "/loop", "/refused"}
	for _, path := range bad {
		f.get(path) // a miss: the page is rendered for the next visitor
		gone := regexp.MustCompile(`msg="render (not stored|refused)" .*url=` + f.up.RealmURL() + path + " ")
		f.until(path+" was rendered", func() bool { return gone.MatchString(f.log.String()) })
	}
	f.get("/good")
	f.until("the good page is served prerendered", func() bool {
		_, body := f.get("/good")
		return strings.Contains(body, "good page")
	})
	for _, path := range bad {
		header, body := f.get(path)
		if got := header.Get(wire.HeaderSnapshot); got != "miss" || strings.Contains(body, "half") || strings.Contains(body, "ERR_") {
			t.Errorf("%s is served as %q: %.300s", path, got, body)
		}
		for _, realm := range []string{f.up.RealmURL(), f.up.RealmURL() + "/"} {
			if snapshot, ok, err := f.store.Snapshot(t.Context(), realm, f.token(), f.up.RealmURL()+path); ok || err != nil {
				t.Errorf("%s is stored: %.300s %v", path, snapshot.HTML, err)
			}
		}
	}
}

// TestF12_TheBrowsersErrorPageIsNobodysPage: an address that refuses is an
// error of navigation without a body.
func TestF12_TheBrowsersErrorPageIsNobodysPage(t *testing.T) {
	f, _ := startHostile(t, func(o *app.UpOptions) { o.Pages = 2 })
	for _, mode := range []words.Mode{words.ModeTransition, words.ModeNavigate, words.ModeIsolated} {
		answer, _, err := f.ask(t.Context(), f.up.ManagerURL(), "/refused", mode, patience)
		got := answer.Data.Attributes
		if err != nil || got.Error == nil || got.Error.Kind != words.PageErrorNavigation || got.HTML != "" || got.Body != "" || answer.Token != "" {
			t.Errorf("%s: %d %v %.400s", mode, answer.Status, err, answer.Body)
		}
	}
	f.good("after a refused address")
}
