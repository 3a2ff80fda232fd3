package prerender

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

const (
	shell1 = "<html>r1</html>"
	shell2 = "<html>r2</html>"
)

func token(shell string) words.Token { return words.TokenOf([]byte(shell)) }

// A server that warmed on the old shell and first hears of the new token does
// not take that as what its pages are.
func TestW01_FirstTokenHeardIsNotWhatThePagesAre(t *testing.T) {
	w := newWorld(t, nil)
	w.untilFresh(shell1)
	w.set(func() { w.shell = shell2 })
	w.orders(2, shell2)
	w.untilFresh(shell2)
	a := w.visit(nil)
	if a.doc.Data.Attributes.HTML != shell2+w.realm.URL+"/x" || !a.doc.Meta.HostShell.Fresh {
		t.Fatalf("answer %s", a.body)
	}
}

// The token of an answer is that of the document it was rendered in, before,
// during and after a recycle, and the answer says whether it is current.
func TestW02_AnswersNameTheDocumentTheyWereRenderedIn(t *testing.T) {
	w := newWorld(t, nil)
	w.untilFresh(shell1)
	w.orders(2, shell2) // the host does not serve it yet
	w.until("the server knows release 2", func() bool { return w.server.keeper.status().Release == 2 })
	a := w.visit(nil)
	got := a.doc.Meta.HostShell
	if a.header.Get(wire.HeaderShellHash) != string(token(shell1)) || got.Rendered != token(shell1) || got.Desired != token(shell2) || got.Fresh {
		t.Fatalf("an answer of the old release: header %s, meta %+v", a.header.Get(wire.HeaderShellHash), got)
	}
}

// While a load balancer still leads to an old replica, the server says that it
// waits, and why; the second report of the same token is not needed.
func TestW05_ConvergesWithoutASecondReport(t *testing.T) {
	w := newWorld(t, nil)
	w.untilFresh(shell1)
	w.orders(2, shell2)
	w.until("a heartbeat says waiting, and why", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		last := w.beats[len(w.beats)-1].HostShell
		return last.Phase == words.PhaseWaiting && strings.Contains(last.Detail, string(token(shell1)))
	})
	w.set(func() { w.shell = shell2 })
	w.untilFresh(shell2)
}

// A realm that does not attest its shell gives no pages: the phase says so in
// the words of the contract.
func TestW03_ShellWithoutItsTokenIsRefused(t *testing.T) {
	for name, lie := range map[string]string{"another token": strings.Repeat("0", 32), "no token": "none"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			w.untilFresh(shell1)
			w.set(func() { w.shell, w.lie = shell2, lie })
			w.orders(2, shell2)
			w.until("the phase is failed", func() bool {
				s := w.server.keeper.status()
				return s.Phase == words.PhaseFailed && strings.HasPrefix(s.Detail, "realm does not attest its shell")
			})
			if a := w.visit(nil); a.status != http.StatusCreated {
				t.Errorf("the pages that are there answer %d", a.status)
			}
		})
	}
}

// What the fleet broke is done again before the caller hears of it.
func TestW12_BrokenRenderIsDoneAgain(t *testing.T) {
	w := newWorld(t, nil)
	w.untilFresh(shell1)
	var once sync.Once
	w.set(func() {
		whole := w.render
		w.render = func(ctx context.Context, p *fakePage, visit words.Visit) (words.Capture, error) {
			once.Do(func() { go p.browser.die() })
			select {
			case <-p.gone:
				return words.Capture{}, fmt.Errorf("the page died")
			default:
				if p.browser.PID() == 1 {
					<-p.gone
					return words.Capture{}, fmt.Errorf("the page died")
				}
			}
			return whole(ctx, p, visit)
		}
	})
	a := w.visit(nil)
	if a.status != http.StatusCreated || a.doc.Data.Attributes.Status != words.StatusReady {
		t.Fatalf("answer %d %s", a.status, a.body)
	}
	if n := w.starts.Load(); n != 2 {
		t.Errorf("chrome was started %d times, want 2", n)
	}
}

// When it cannot be done again in time, that is a refusal: never a result with
// a time-out inside, and never something to store.
func TestW12_BrokenForEverIsRefused(t *testing.T) {
	w := newWorld(t, nil)
	w.untilFresh(shell1)
	w.set(func() {
		w.render = func(context.Context, *fakePage, words.Visit) (words.Capture, error) {
			return words.Capture{}, fmt.Errorf("the connection was lost")
		}
	})
	a := w.visit(nil)
	if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
		t.Fatalf("answer %d %v %s", a.status, a.header, a.body)
	}
}

// A page of a superseded release may only say ready; anything else is rendered
// again on the current one, or refused if the caller pinned the old one.
func TestErrorOfASupersededPageIsRenderedAgain(t *testing.T) {
	w := newWorld(t, nil)
	w.untilFresh(shell1)
	old := make(chan struct{})
	w.set(func() {
		whole := w.render
		w.render = func(ctx context.Context, p *fakePage, visit words.Visit) (words.Capture, error) {
			if p.token != token(shell1) {
				return whole(ctx, p, visit)
			}
			<-old
			return words.Capture{Status: words.StatusError, Token: p.token, Error: &words.PageError{Kind: words.PageErrorPage, Message: "chunk gone"}}, nil
		}
	})
	answered, refused := make(chan answer, 1), make(chan answer, 1)
	go func() { answered <- w.visit(nil) }()
	go func() { refused <- w.visit(map[string]string{wire.HeaderShellHash: string(token(shell1))}) }()
	w.until("both renders run", func() bool { s := w.server.keeper.status(); return s.Capacity == 2 && s.Idle == 0 })
	w.set(func() { w.shell = shell2 })
	w.orders(2, shell2)
	w.until("the server knows release 2", func() bool { return w.server.keeper.status().Release == 2 })
	close(old)
	if a := <-refused; a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
		t.Errorf("pinned to the release that went: %d %s", a.status, a.body)
	}
	a := <-answered
	if a.doc.Data.Attributes.Status != words.StatusReady || a.header.Get(wire.HeaderShellHash) != string(token(shell2)) {
		t.Fatalf("answer %d %s", a.status, a.body)
	}
}

// A pin is answered by a document of that token or not at all.
func TestPinIsKept(t *testing.T) {
	w := newWorld(t, nil)
	w.untilFresh(shell1)
	w.set(func() { w.shell = shell2 })
	a := w.visit(map[string]string{wire.HeaderShellHash: string(token(shell2))})
	if a.status != http.StatusCreated || a.header.Get(wire.HeaderShellHash) != string(token(shell2)) {
		t.Fatalf("pinned to what the host serves: %d %s", a.status, a.body)
	}
	a = w.visit(map[string]string{wire.HeaderShellHash: "never-built", wire.HeaderBudget: "700"})
	if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
		t.Fatalf("pinned to what nobody serves: %d %s", a.status, a.body)
	}
	if a = w.visit(map[string]string{wire.HeaderShellHash: "a b"}); a.status != http.StatusBadRequest {
		t.Fatalf("pinned to nonsense: %d %s", a.status, a.body)
	}
}

// Capacity is pages that were seen to be warm, in every heartbeat.
func TestW13_HeartbeatsCountPagesThatCanWork(t *testing.T) {
	w := newWorld(t, nil)
	w.untilFresh(shell1)
	w.set(func() { w.openError = fmt.Errorf("script missing") })
	w.set(func() { go w.browser.die() })
	w.until("a heartbeat says that nothing can work", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		last := w.beats[len(w.beats)-1]
		return last.Capacity == 0 && len(last.WarmedAffinities) == 0
	})
}

// A warm-up that fails is no capacity, and the heartbeat says why.
func TestW18_FailedWarmUpIsReported(t *testing.T) {
	w := newWorld(t, nil)
	w.untilFresh(shell1)
	w.set(func() { w.shell, w.openError = shell2, fmt.Errorf("/app.js did not load") })
	w.orders(2, shell2)
	w.until("a heartbeat says failed, and why", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		last := w.beats[len(w.beats)-1].HostShell
		return last.Phase == words.PhaseFailed && strings.Contains(last.Detail, "/app.js did not load") && last.Pages[token(shell1)] == 2
	})
	w.set(func() { w.openError = nil })
	w.untilFresh(shell2)
}

// Pages are replaced one by one in the same Chrome.
func TestW20_RecycleKeepsTheBrowser(t *testing.T) {
	w := newWorld(t, nil)
	w.untilFresh(shell1)
	for n := uint64(2); n < 6; n++ {
		shell := fmt.Sprintf("<html>r%d</html>", n)
		w.set(func() { w.shell = shell })
		w.orders(n, shell)
		w.untilFresh(shell)
	}
	if n := w.starts.Load(); n != 1 {
		t.Errorf("chrome was started %d times", n)
	}
}

// A page whose thread is still busy after its render gets no second one.
func TestF03_WedgedPageIsRetired(t *testing.T) {
	w := newWorld(t, nil)
	w.untilFresh(shell1)
	w.visit(nil)
	w.mu.Lock()
	for _, p := range w.pages {
		p.wedged.Store(true)
	}
	w.mu.Unlock()
	if a := w.visit(nil); a.status != http.StatusCreated {
		t.Fatalf("answer %d %s", a.status, a.body)
	}
}

// A caller that leaves frees its page.
func TestF06_CancelledCallerFreesThePage(t *testing.T) {
	w := newWorld(t, nil)
	w.untilFresh(shell1)
	w.set(func() {
		w.render = func(ctx context.Context, _ *fakePage, _ words.Visit) (words.Capture, error) {
			<-ctx.Done()
			return words.Capture{}, ctx.Err()
		}
	})
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() {
		_, err := w.post(ctx, fmt.Sprintf(`{"data":{"attributes":{"url":"%s/x"}}}`, w.realm.URL), nil)
		left <- err
	}()
	w.until("the render runs", func() bool { return w.server.keeper.status().Idle == 1 })
	leave()
	<-left
	w.until("both pages are free again", func() bool { return w.server.keeper.status().Idle == 2 })
}

// A draining server refuses, says so to the manager, and finishes what runs.
func TestW21_DrainAnnouncesRefusesFinishes(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.DrainMin = 300 * time.Millisecond })
	w.untilFresh(shell1)
	release := make(chan struct{})
	w.set(func() {
		whole := w.render
		w.render = func(ctx context.Context, p *fakePage, visit words.Visit) (words.Capture, error) {
			<-release
			return whole(ctx, p, visit)
		}
	})
	running := make(chan answer, 1)
	go func() { running <- w.visit(nil) }()
	w.until("the render runs", func() bool { return w.server.keeper.status().Idle == 1 })
	w.stop()
	w.until("the server drains", w.server.drainer.Draining)
	a := w.visit(nil)
	if a.status != http.StatusGone || a.header.Get(wire.HeaderServerStatus) != wire.StatusDraining {
		t.Fatalf("new work while draining: %d %v", a.status, a.header)
	}
	w.until("a heartbeat says draining", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.beats[len(w.beats)-1].Draining()
	})
	close(release)
	if a := <-running; a.status != http.StatusCreated {
		t.Fatalf("the running render ended with %d %s", a.status, a.body)
	}
}

// A page's document is in its answer twice over, and goes two hops: who reads it
// once need not be sent the other.
func TestOnlyTheFieldsThatAreReadAreSent(t *testing.T) {
	w := newWorld(t, nil)
	w.untilFresh(shell1)
	w.set(func() {
		w.render = func(_ context.Context, p *fakePage, _ words.Visit) (words.Capture, error) {
			return words.Capture{
				Status: words.StatusReady, HTTPStatus: 200, Token: p.token, SettledBy: words.SettledByQuiet,
				Title: "t", HTML: "<head>h</head><body>b</body>", Head: "h", Body: "b",
			}, nil
		}
	})
	for fields, want := range map[string][3]string{
		``:                            {"<head>h</head><body>b</body>", "h", "b"},
		`,"fields":null`:              {"<head>h</head><body>b</body>", "h", "b"},
		`,"fields":["html","status"]`: {"<head>h</head><body>b</body>", "", ""},
		`,"fields":["head","body"]`:   {"", "h", "b"},
		`,"fields":[]`:                {"", "", ""},
	} {
		a, err := w.post(t.Context(), fmt.Sprintf(`{"data":{"attributes":{"url":"%s/x"%s}}}`, w.realm.URL, fields), nil)
		got := a.doc.Data.Attributes
		if err != nil || [3]string{got.HTML, got.Head, got.Body} != want || got.Status != words.StatusReady || got.Title != "t" {
			t.Errorf("asked with %q: %v, %.300s, want %q and the rest", fields, err, a.body, want)
		}
	}
}

func TestRequestsThatAreWrong(t *testing.T) {
	w := newWorld(t, nil)
	w.untilFresh(shell1)
	for name, c := range map[string]struct {
		body   string
		status int
		says   string
	}{
		"no JSON":            {`{`, 400, "Invalid JSON body"},
		"two URLs":           {`{"data":{"attributes":{"url":"a","url":"b"}}}`, 400, "is there twice"},
		"URL in capitals":    {fmt.Sprintf(`{"data":{"attributes":{"URL":"%s/"}}}`, w.realm.URL), 400, "Missing required attribute: url"},
		"no URL":             {`{"data":{"attributes":{}}}`, 400, "Missing required attribute: url"},
		"number as URL":      {`{"data":{"attributes":{"url":1}}}`, 400, "Invalid JSON body"},
		"other scheme":       {`{"data":{"attributes":{"url":"file:///etc/passwd"}}}`, 400, "http or https"},
		"outside the realm":  {`{"data":{"attributes":{"url":"http://example.com/"}}}`, 403, "no realm"},
		"user in the URL":    {fmt.Sprintf(`{"data":{"attributes":{"url":"%s/"}}}`, strings.Replace(w.realm.URL, "http://", "http://u:p@", 1)), 400, "user name"},
		"8 KB of URL":        {fmt.Sprintf(`{"data":{"attributes":{"url":"%s/%s"}}}`, w.realm.URL, strings.Repeat("a", 8<<10)), 400, "longer than"},
		"unknown affinity":   {fmt.Sprintf(`{"data":{"attributes":{"url":"%s/","affinityType":"x","affinityValue":"y"}}}`, w.realm.URL), 400, "affinityType"},
		"empty affinity":     {fmt.Sprintf(`{"data":{"attributes":{"url":"%s/","affinityType":"user","affinityValue":""}}}`, w.realm.URL), 400, "affinityValue"},
		"unknown mode":       {fmt.Sprintf(`{"data":{"attributes":{"url":"%s/","renderOptions":{"mode":"x"}}}}`, w.realm.URL), 400, "mode must be"},
		"misspelled field":   {fmt.Sprintf(`{"data":{"attributes":{"url":"%s/","fields":["HTML"]}}}`, w.realm.URL), 400, "none of html, head and body"},
		"larger than 8 MiB":  {strings.Repeat(" ", 9<<20), 413, "Body larger"},
		"a prefix, no realm": {fmt.Sprintf(`{"data":{"attributes":{"url":"%s0/"}}}`, w.realm.URL), 403, "no realm"},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := w.post(t.Context(), c.body, nil)
			if err != nil || a.status != c.status || !strings.Contains(a.body, c.says) {
				t.Errorf("%d %v %.200s, want %d and %q", a.status, err, a.body, c.status, c.says)
			}
			if a.header.Get(wire.HeaderRequestID) == "" {
				t.Error("no request id on the answer")
			}
		})
	}
}
