package prerender

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/target"

	"github.com/rewarm/rewarm/internal/chrome"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

func TestResidueIsTold(t *testing.T) {
	w := newWorld(t, nil)
	w.untilFresh("<html>r1</html>")
	if a := w.visit(nil); strings.Contains(a.body, "residue") {
		t.Errorf("%d %s", a.status, a.body)
	}
	w.set(func() { w.residue = []string{"body: div.modal", "listener: window resize", "listener: window scroll"} })
	if a := w.visit(nil); a.status != 201 || !strings.Contains(a.body, `"residue":["body: div.modal","listener: window resize","listener: window scroll"]`) {
		t.Errorf("%d %s", a.status, a.body)
	}
	response, err := http.Get("http://" + w.server.Addr().String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	metrics, err := io.ReadAll(response.Body)
	for _, want := range []string{`rewarm_prerender_residue_total{kind="body"} 1`, `rewarm_prerender_residue_total{kind="listener"} 2`} {
		if err != nil || !strings.Contains(string(metrics), want+"\n") {
			t.Errorf("%s is not among the metrics, %v", want, err)
		}
	}
}

// An isolated render has storage and cookies of its own, and nothing of it is
// there afterwards.
func TestIsolatedRendersShareNothing(t *testing.T) {
	w, h := newRealWorld(t)
	at := func(path string, mode words.Mode) string {
		t.Helper()
		status, _, body := w.call(t.Context(), "/prerender-visit", fmt.Sprintf(`{"url":"%s%s","renderOptions":{"mode":"%s"}}`, h.URL, path, mode), nil)
		got := decode[wire.VisitResult](t, body).Data.Attributes
		if status != 201 || got.Status != words.StatusReady {
			t.Fatalf("%s: %d %s", path, status, body)
		}
		return got.Body
	}
	const empty = "kept: ,,<"
	at("/store", words.ModeIsolated)
	if got := at("/show", words.ModeNavigate); !strings.Contains(got, empty) {
		t.Errorf("an isolated render left %s", got)
	}
	at("/store", words.ModeNavigate)
	if got := at("/show", words.ModeNavigate); !strings.Contains(got, "kept: kept=1,kept=1,kept=1<") {
		t.Errorf("the affinity's own context does not keep what it is told: %s", got)
	}
	for range 2 {
		if got := at("/show", words.ModeIsolated); !strings.Contains(got, empty) {
			t.Errorf("an isolated render sees %s", got)
		}
	}
	current, err := w.server.slot.get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.until("only the pool's page is open", func() bool {
		r, err := chrome.Call(t.Context(), current.Browser.(realChrome).Root(), target.GetBrowserContexts, cdp.Empty{})
		return err == nil && len(r.BrowserContextIDs) == 1
	})
}
