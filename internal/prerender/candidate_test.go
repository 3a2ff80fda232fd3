package prerender

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/rewarm/rewarm/internal/chrome"
	"github.com/rewarm/rewarm/internal/page"
	"github.com/rewarm/rewarm/internal/words"
)

const candidateShell = `<!doctype html><html><head><title>r2</title></head><body><div id="app"></div></body></html>`

// candidateWorld is a server on r1 whose realm holds r2 beside.
func candidateWorld(t *testing.T) (w *world, token words.Token, check string) {
	t.Helper()
	w = newWorld(t, nil)
	w.untilFresh("<html>r1</html>")
	w.set(func() { w.candidate = candidateShell })
	token = words.TokenOf([]byte(candidateShell))
	w.renders(func(c *words.Capture) {
		c.HTML = strings.Replace(candidateShell, `<div id="app">`, `<div id="app"><p>rendered</p>`, 1)
	})
	return w, token, fmt.Sprintf(`{"url":"%s/a","release":%q}`, w.realm.URL, token)
}

// renders changes what comes of every render.
func (w *world) renders(change func(c *words.Capture)) {
	w.set(func() {
		w.render = func(_ context.Context, p *fakePage, visit words.Visit) (words.Capture, error) {
			c := words.Capture{Status: words.StatusReady, HTTPStatus: 200, Token: p.token, SettledBy: words.SettledByQuiet}
			change(&c)
			return c, nil
		}
	})
}

func TestACandidateIsRenderedAndVisitedOutsideOfThePool(t *testing.T) {
	w, token, check := candidateWorld(t)
	var given *page.Given
	w.observed(func(_ context.Context, o page.ObserveOptions) (page.Observation, error) {
		given = o.Given
		seen := well(o)
		seen.Token = o.Given.Shell.Token
		return seen, nil
	})
	status, got, body := w.check(check, nil)
	if status != http.StatusOK || got.Token != token || got.Verdict.Verdict != words.VerdictOK {
		t.Fatalf("%d %s", status, body)
	}
	if given.Snapshot != "hit" || !strings.Contains(string(given.Body), "<p>rendered</p>") || given.Status != 200 {
		t.Errorf("visitors would get %d %s %s", given.Status, given.Snapshot, given.Body)
	}
	if pages := w.server.keeper.status().Pages; pages[token] != 0 {
		t.Errorf("the pool has pages of it: %v", pages)
	}
	w.mu.Lock()
	for _, p := range w.pages {
		if p.token == token && !p.closed.Load() {
			t.Error("the page that it was rendered on is open still")
		}
	}
	for _, beat := range w.beats {
		if beat.HostShell.Pages[token] != 0 {
			t.Errorf("the manager was told of its page: %+v", beat.HostShell)
		}
	}
	w.mu.Unlock()
	// What asks for a page by that token afterwards gets none of what was here.
	if _, found := w.server.shells.find(token); found {
		t.Error("the candidate's shell is kept for the pool")
	}
}

func TestACandidateThatDoesNotRenderIsBroken(t *testing.T) {
	for name, c := range map[string]struct {
		capture words.Capture
		says    string
	}{
		"an error": {words.Capture{Status: words.StatusError, Error: &words.PageError{Kind: words.PageErrorPage, Message: "no such function"}}, "no such function"},
		"a chunk":  {words.Capture{Status: words.StatusError, Error: &words.PageError{Kind: words.PageErrorSkew, Message: "gone.js"}}, "skew"},
		"nothing":  {words.Capture{Status: words.StatusUnusable}, "does not render within"},
	} {
		t.Run(name, func(t *testing.T) {
			w, token, check := candidateWorld(t)
			w.renders(func(made *words.Capture) { *made = c.capture })
			status, got, body := w.check(check, nil)
			if status != http.StatusOK || got.Token != token || got.Verdict.Verdict != words.VerdictBroken || !strings.Contains(body, c.says) {
				t.Errorf("%d %s", status, body)
			}
		})
	}
	t.Run("no page can be warmed", func(t *testing.T) {
		w, token, check := candidateWorld(t)
		w.set(func() { w.openError = fmt.Errorf("%w: main.js did not load", page.ErrNotWarm) })
		status, got, body := w.check(check, nil)
		if status != http.StatusOK || got.Token != token || got.Verdict.Verdict != words.VerdictBroken || !strings.Contains(body, "main.js did not load") {
			t.Errorf("%d %s", status, body)
		}
		w.set(func() { w.openError = nil })
	})
}

// What realm servers would not store, visitors would not get.
func TestACandidatesPageIsComposedAsItWouldBeServed(t *testing.T) {
	shell := words.Shell{Token: words.TokenOf([]byte(candidateShell)), Bytes: []byte(candidateShell)}
	ready := words.Capture{Status: words.StatusReady, HTTPStatus: 404, Token: shell.Token, HTML: strings.Replace(candidateShell, `<div id="app">`, `<div id="app">text`, 1)}
	if g := compose(shell, ready); g.Snapshot != "hit" || g.Status != 404 {
		t.Errorf("%+v", g)
	}
	for name, change := range map[string]func(*words.Capture){
		"partial":           func(c *words.Capture) { c.Status = words.StatusPartial },
		"private":           func(c *words.Capture) { c.Headers = map[string]string{"Cache-Control": "private"} },
		"of another token":  func(c *words.Capture) { c.Token = "other" },
		"of no known token": func(c *words.Capture) { c.Token = "" },
	} {
		c := ready
		change(&c)
		if g := compose(shell, c); g.Snapshot != "miss" || string(g.Body) != candidateShell || g.Status != 200 {
			t.Errorf("%s: %+v", name, g)
		}
	}
}

// A server that cannot say is no verdict on the release.
func TestACandidateThatCannotBeHadIsRefusedForNow(t *testing.T) {
	w, _, check := candidateWorld(t)
	if status, _, body := w.check(fmt.Sprintf(`{"url":"%s/a","release":"0123456789abcdef0123456789abcdef"}`, w.realm.URL), nil); status != http.StatusServiceUnavailable || !strings.Contains(body, "404") {
		t.Errorf("%d %s", status, body)
	}
	w.set(func() { w.lie = "another"; w.candidate = "<html>another</html>" })
	if status, _, body := w.check(check, nil); status != http.StatusServiceUnavailable || !strings.Contains(body, "attest") {
		t.Errorf("a shell that is not what it says: %d %s", status, body)
	}
	w.set(func() { w.lie = ""; w.candidate = candidateShell; w.openError = errors.New("no context") })
	if status, _, body := w.check(check, nil); status != http.StatusServiceUnavailable {
		t.Errorf("a browser that opens nothing: %d %s", status, body)
	}
	w.set(func() { w.openError = nil })
	for _, release := range []string{`"a b"`, `"\u0000"`, `"` + strings.Repeat("x", 65) + `"`, `7`} {
		if status, _, body := w.check(fmt.Sprintf(`{"url":"%s/a","release":%s}`, w.realm.URL, release), nil); status != http.StatusBadRequest {
			t.Errorf("release %s: %d %s", release, status, body)
		}
	}
}

// A browser that dies, or a machine that is too slow, is no fault of the release:
// another server, or another try, is to say.
func TestACandidateIsNotBrokenByItsServer(t *testing.T) {
	w, _, check := candidateWorld(t)
	for name, ended := range map[string]error{
		"Chrome died":   fmt.Errorf("%w: waiting at /_standby: page ended: %w", page.ErrNotWarm, chrome.ErrGone),
		"no time":       fmt.Errorf("%w: waiting at /_standby: %w", page.ErrNotWarm, context.DeadlineExceeded),
		"the time ends": fmt.Errorf("%w: going to /_standby: %w", page.ErrNotWarm, context.Canceled),
	} {
		w.set(func() { w.openError = ended })
		if status, _, body := w.check(check, nil); status != http.StatusServiceUnavailable || !strings.Contains(body, "No page was warmed") {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	w.set(func() { w.openError = nil })
}
