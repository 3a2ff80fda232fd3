package prerender

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/rewarm/rewarm/internal/page"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// Do is the fake's render. Its capture becomes the result; the capture's HTML
// is what a module or a command gives.
func (p *fakePage) Do(ctx context.Context, t page.Task) (page.Result, error) {
	visit := t.Visit
	if t.Sign > 0 && p.wedged.Load() {
		return page.Result{}, errors.New("no sign of life")
	}
	if t.Kind == page.Command {
		visit.URL = "command " + t.Command + string(t.Input)
	}
	capture, err := p.Render(ctx, visit)
	p.world.mu.Lock()
	result := page.Result{Capture: capture, Report: page.RenderReport{Residue: p.world.residue}}
	p.world.mu.Unlock()
	if t.Kind != page.Document {
		result.HTML = ""
		if capture.Error == nil {
			result.JSON, _ = json.Marshal(map[string]any{"html": capture.HTML, "deps": []any{"/a", 1, "/b"}})
			result.Data, result.ContentType, result.Width, result.Height = []byte("picture"), "image/png", 3, 2
		}
	}
	return result, err
}

// call posts to a route of the server.
func (w *world) call(ctx context.Context, route, attributes string, header map[string]string) (int, http.Header, string) {
	w.t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+w.server.Addr().String()+route,
		strings.NewReader(`{"data":{"attributes":`+attributes+`}}`))
	if err != nil {
		w.t.Fatal(err)
	}
	for k, v := range header {
		request.Header.Set(k, v)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		w.t.Error(err)
		return 0, nil, ""
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		w.t.Error(err)
	}
	return response.StatusCode, response.Header, string(body)
}

func (w *world) commandOf(name string) string {
	return fmt.Sprintf(`{"command":%q,"commandInput":{"n":1},"affinityType":"realm","affinityValue":"%s/"}`, name, w.realm.URL)
}

func TestEveryTaskAnswersInItsShape(t *testing.T) {
	w := newWorld(t, nil)
	w.untilFresh("<html>r1</html>")
	token := words.TokenOf([]byte("<html>r1</html>"))
	at := fmt.Sprintf(`{"url":"%s/x"}`, w.realm.URL)
	for route, c := range map[string]struct{ attributes, kind, id, want string }{
		"/prerender-screenshot": {at, "screenshot-result", w.realm.URL + "/x", `"status":"ready","base64":"cGljdHVyZQ==","width":3,"height":2,"contentType":"image/png","meta":{`},
		"/prerender-module":     {at, "prerender-module-result", w.realm.URL + "/x", `"status":"ready","result":{"deps":["/a",1,"/b"],"html":"\u003chtml\u003er1\u003c/html\u003e` + w.realm.URL + `/x"},"deps":["/a","/b"],"meta":{`},
		"/run-command":          {w.commandOf("go"), "command-result", "go", `"cardResultString":"{`},
	} {
		status, header, body := w.call(t.Context(), route, c.attributes, map[string]string{"X-Boxel-Prerender-Request-Id": "ab-1"})
		var doc wire.Document[map[string]any]
		if err := json.Unmarshal([]byte(body), &doc); err != nil || status != http.StatusCreated {
			t.Errorf("%s: %d %s", route, status, body)
			continue
		}
		if doc.Data.Type != c.kind || doc.Data.ID != c.id || !strings.Contains(body, c.want) || !strings.Contains(body, `"requestId":"ab-1"`) {
			t.Errorf("%s: %s; want %s", route, body, c.want)
		}
		if doc.Meta == nil || doc.Meta.HostShell.Rendered != token || !doc.Meta.HostShell.Fresh || header.Get(wire.HeaderShellHash) != string(token) {
			t.Errorf("%s: %v %+v", route, header, doc.Meta)
		}
	}
	if status, _, body := w.call(t.Context(), "/release-batch", `{"batchId":"b","affinityType":"user","affinityValue":"u"}`, nil); status != http.StatusNoContent || body != "" {
		t.Errorf("release-batch: %d %s", status, body)
	}
}

func TestTasksRefuseWhatNobodyCanDo(t *testing.T) {
	w := newWorld(t, nil)
	at := func(more string) string { return fmt.Sprintf(`{"url":"%s/x"%s}`, w.realm.URL, more) }
	realm := `"affinityType":"realm","affinityValue":"` + w.realm.URL + `/"`
	for _, c := range []struct {
		route, attributes string
		status            int
		want              string
	}{
		{"/prerender-screenshot", `{}`, 400, "Missing required attribute: url"},
		{"/prerender-module", `{"url":"http://elsewhere.example/"}`, 403, "in no realm"},
		{"/prerender-module", at(`,"realm":"http://elsewhere.example/"`), 403, "realm is none"},
		{"/prerender-screenshot", at(`,"renderOptions":{"format":"gif"}`), 400, "format must be"},
		{"/prerender-screenshot", at(`,"renderOptions":{"viewport":{"width":100000}}`), 400, "viewport"},
		{"/prerender-screenshot", at(`,"renderOptions":{"viewport":{"width":-1}}`), 400, "viewport"},
		{"/prerender-visit", at(`,"renderOptions":{"mode":"fast"}`), 400, "mode must be"},
		{"/run-command", `{"command":"go"}`, 400, "Missing required attribute: affinityType"},
		{"/run-command", `{` + realm + `}`, 400, "Missing required attribute: command"},
		{"/run-command", `{"command":"go","affinityType":"realm","affinityValue":"http://elsewhere.example/"}`, 403, "no realm"},
		{"/release-batch", `{}`, 400, "Missing required attribute: affinityType"},
		{"/release-batch", `{"affinityType":"realm","affinityValue":""}`, 400, "Missing required attribute: affinityValue"},
	} {
		if status, _, body := w.call(t.Context(), c.route, c.attributes, nil); status != c.status || !strings.Contains(body, c.want) {
			t.Errorf("%s %s: %d %s; want %d %s", c.route, c.attributes, status, body, c.status, c.want)
		}
	}
	w.untilFresh("<html>r1</html>")
	w.set(func() {
		w.render = func(context.Context, *fakePage, words.Visit) (words.Capture, error) {
			return words.Capture{}, &page.OptionsError{Err: errors.New("Invalid timezone")}
		}
	})
	if status, _, body := w.call(t.Context(), "/prerender-visit", at(`,"renderOptions":{"timezone":"x"}`), nil); status != 400 || !strings.Contains(body, "Invalid timezone") {
		t.Errorf("%d %s", status, body)
	}
}

func TestF02_CommandWhosePageDiesIsNotDoneAgain(t *testing.T) {
	w := newWorld(t, nil)
	w.untilFresh("<html>r1</html>")
	runs := make(chan string, 10)
	w.set(func() {
		w.render = func(_ context.Context, _ *fakePage, visit words.Visit) (words.Capture, error) {
			runs <- visit.URL
			return words.Capture{}, fmt.Errorf("%w: the page died", page.ErrUnknown)
		}
	})
	status, header, body := w.call(t.Context(), "/run-command", w.commandOf("pay"), nil)
	if status != http.StatusBadGateway || !strings.Contains(body, "command outcome unknown") || header.Get("Retry-After") != "" {
		t.Errorf("%d %s %v", status, body, header)
	}
	if n := len(runs); n != 1 {
		t.Errorf("ran %d times", n)
	}
}

func TestF02_CommandOnASupersededPageIsToldAndNotDoneAgain(t *testing.T) {
	w := newWorld(t, nil)
	w.untilFresh("<html>r1</html>")
	old := words.TokenOf([]byte("<html>r1</html>"))
	runs := make(chan string, 10)
	w.set(func() {
		w.render = func(_ context.Context, p *fakePage, visit words.Visit) (words.Capture, error) {
			runs <- visit.URL
			return words.Capture{Status: words.StatusError, Error: &words.PageError{Kind: words.PageErrorPage, Message: "no"}, Token: p.token}, nil
		}
	})
	// The manager names a newer release with the work, which nobody serves yet.
	status, header, body := w.call(t.Context(), "/run-command", w.commandOf("pay"), map[string]string{
		wire.HeaderRelease: "2 abc", wire.HeaderShellHash: string(old),
	})
	if status != http.StatusCreated || header.Get(wire.HeaderShellHash) != string(old) || !strings.Contains(body, `"fresh":false`) {
		t.Errorf("%d %s", status, body)
	}
	if n := len(runs); n != 1 {
		t.Errorf("ran %d times", n)
	}
}

func TestF02_DrainingServerDoesNotStartACommandThatWaited(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Pool.Size = 1 })
	w.until("a page is warm", func() bool { return w.server.keeper.status().Capacity == 1 })
	started, release := make(chan string, 10), make(chan struct{})
	w.set(func() {
		w.render = func(_ context.Context, p *fakePage, visit words.Visit) (words.Capture, error) {
			started <- visit.URL
			<-release
			return words.Capture{Status: words.StatusReady, Token: p.token}, nil
		}
	})
	type told struct {
		status int
		header http.Header
		body   string
	}
	answers := make(chan told, 2)
	send := func(name string) {
		status, header, body := w.call(t.Context(), "/run-command", w.commandOf(name), nil)
		answers <- told{status, header, body}
	}
	go send("first")
	<-started
	go send("second") // waits for the only page
	w.until("the second waits", func() bool { return waiting(w.server.keeper) == 1 })
	w.stop()
	w.until("the server drains", w.server.drainer.Draining)
	close(release)
	got := map[int]told{}
	for range 2 {
		a := <-answers
		got[a.status] = a
	}
	if got[http.StatusCreated].body == "" || got[http.StatusGone].header.Get(wire.HeaderServerStatus) != wire.StatusDraining {
		t.Errorf("answers %+v", got)
	}
	if n := len(started); n != 0 {
		t.Errorf("a draining server started %q", <-started)
	}
}

func waiting(k *keeper) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.waiting)
}
