package page

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/chromedp/cdproto/fetch"
	"github.com/chromedp/cdproto/inspector"
	"github.com/chromedp/cdproto/network"
	cdpage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"

	"github.com/rewarm/rewarm/internal/chrome"
	"github.com/rewarm/rewarm/internal/egress"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// pumped are the events that a page hears.
func pumped() []string {
	return []string{
		fetch.RequestPaused.Method,
		network.RequestWillBeSent.Method, network.ResponseReceived.Method,
		network.LoadingFinished.Method, network.LoadingFailed.Method,
		cdpage.FrameNavigated.Method, cdpage.LoadEventFired.Method, cdpage.JavascriptDialogOpening.Method,
		runtime.BindingCalled.Method, runtime.ExceptionThrown.Method, runtime.ConsoleAPICalled.Method,
		inspector.TargetCrashed.Method,
	}
}

// handleEvents is the pump: the one reader of the page's events. It answers
// what must be answered without waiting for the answer to have an effect, so
// a page cannot hold it up. It ends with the session.
func (p *Page) handleEvents(ctx context.Context) {
	defer func() {
		p.end()
		p.session.Abandon(fmt.Errorf("page ended: %w", chrome.ErrGone))
	}()
	for {
		ev, err := p.session.Next(ctx)
		if err != nil {
			return
		}
		now := time.Now()
		switch ev.Method {
		case fetch.RequestPaused.Method:
			var e fetch.EventRequestPaused
			if ev.Decode(&e) == nil {
				p.paused(&e)
			}
		case cdpage.JavascriptDialogOpening.Method:
			var e cdpage.EventJavascriptDialogOpening
			_ = ev.Decode(&e)
			// Dismissed, but for the question whether to leave: leaving is what
			// was asked for.
			_ = p.session.Post(cdpage.CommandHandleJavaScriptDialog,
				cdpage.HandleJavaScriptDialogParams{Accept: e.Type == cdpage.DialogTypeBeforeunload})
		case cdpage.FrameNavigated.Method:
			var e cdpage.EventFrameNavigated
			if ev.Decode(&e) == nil && e.Frame.ParentID == "" {
				p.state.committed(string(e.Frame.LoaderID), e.Frame.URL, e.Frame.UnreachableURL, now)
			}
		case cdpage.LoadEventFired.Method:
			p.state.loaded(now)
		case inspector.TargetCrashed.Method:
			return
		case runtime.BindingCalled.Method:
			var e runtime.EventBindingCalled
			var m told
			if ev.Decode(&e) == nil && e.Name == binding && json.Unmarshal([]byte(e.Payload), &m) == nil {
				p.state.tell(m, now)
			}
		case runtime.ExceptionThrown.Method:
			var e runtime.EventExceptionThrown
			if ev.Decode(&e) == nil {
				p.state.threw(e.ExceptionDetails)
			}
		case runtime.ConsoleAPICalled.Method:
			var e runtime.EventConsoleAPICalled
			if ev.Decode(&e) == nil {
				p.state.logged(&e)
			}
		default:
			p.networkEvent(ev.Method, ev.Decode, now)
		}
		p.state.wake()
	}
}

func (p *Page) networkEvent(method string, decode func(any) error, now time.Time) {
	switch method {
	case network.RequestWillBeSent.Method:
		var e network.EventRequestWillBeSent
		if decode(&e) == nil {
			p.state.asked(string(e.RequestID), asked{url: e.Request.URL, kind: string(e.Type)}, now)
		}
	case network.ResponseReceived.Method:
		var e network.EventResponseReceived
		if decode(&e) == nil {
			p.answered(&e, now)
		}
	case network.LoadingFinished.Method:
		var e network.EventLoadingFinished
		if decode(&e) == nil {
			p.state.ended(string(e.RequestID), now)
		}
	case network.LoadingFailed.Method:
		var e network.EventLoadingFailed
		if decode(&e) == nil {
			p.lost(&e, now)
		}
	}
}

// paused answers a document request: the main document of a realm URL is made
// of the page's own bytes, everything else goes its way.
func (p *Page) paused(e *fetch.EventRequestPaused) {
	main := string(e.FrameID) == string(p.target) && e.ResourceType == network.ResourceTypeDocument
	if !main && p.state.blocking(e) {
		p.block(e)
		return
	}
	if !main || !p.onRealm(e.Request.URL) {
		_ = p.session.Post(fetch.CommandContinueRequest, fetch.ContinueRequestParams{RequestID: e.RequestID})
		return
	}
	headers := []*fetch.HeaderEntry{{Name: "Cache-Control", Value: "no-store"}}
	typed := false
	for name, value := range p.options.Shell.Header {
		switch strings.ToLower(name) {
		case "content-length", "content-encoding", "transfer-encoding", "cache-control", "connection", "date", "etag", "last-modified":
			continue // of the transfer, not of the document
		case "content-type":
			typed = true
		}
		headers = append(headers, &fetch.HeaderEntry{Name: name, Value: value})
	}
	if !typed {
		headers = append(headers, &fetch.HeaderEntry{Name: "Content-Type", Value: "text/html; charset=utf-8"})
	}
	p.state.mu.Lock()
	p.state.fulfilled[string(e.NetworkID)] = true
	p.state.mu.Unlock()
	_ = p.session.Post(fetch.CommandFulfillRequest, fetch.FulfillRequestParams{
		RequestID: e.RequestID, ResponseCode: 200, ResponseHeaders: headers, Body: p.options.Shell.Bytes})
}

// answered notes an answer that is no use: the status of an error, or HTML
// where a script or a style was asked for.
func (p *Page) answered(e *network.EventResponseReceived, now time.Time) {
	s := &p.state
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, refused := e.Response.Headers[wire.HeaderRefused]; refused && string(e.FrameID) == string(p.target) && e.Type == network.ResourceTypeDocument {
		// The proxy's words are no more the page than the browser's own are.
		s.turnedAway, s.docFailed = string(e.LoaderID), "refused: its address is not one that pages may reach"
	}
	if s.machine != nil {
		s.machine.Answered(string(e.RequestID), now)
	}
	a, known := s.requests[string(e.RequestID)]
	code := e.Type == network.ResourceTypeScript || e.Type == network.ResourceTypeStylesheet
	html := code && strings.HasPrefix(e.Response.MimeType, "text/html")
	if !known || e.Response.Status < 400 && !html {
		return
	}
	if p.onlyCounts(a.url) {
		delete(s.requests, string(e.RequestID))
		return
	}
	why := ""
	if html {
		why = "answered with HTML"
	}
	s.fails(words.FailedRequest{URL: a.url, Type: string(e.Type), Status: int(e.Response.Status), Error: why})
	delete(s.requests, string(e.RequestID))
	if code {
		p.brokenCode(a.url, e.Response.StatusText, int(e.Response.Status), why)
	}
}

// brokenCode notes a script or style that is not there; state.mu is held. One
// of a stranger's origin (an advertisement, a counter) is no skew: the bundle
// does not name it.
func (p *Page) brokenCode(at, text string, status int, why string) {
	if why == "" {
		why = strings.TrimSpace(strings.TrimSpace(httpText(status)) + " " + text)
	}
	bare, _, _ := strings.Cut(at, "#")
	if kind := p.assets.named[bare]; kind != "" && p.state.standby && p.state.missing == "" {
		p.state.missing = kind + " " + at + ": " + why
	}
	if p.assets.origins[origin(at)] && status < 500 {
		p.state.sawSkew(at + ": " + why)
	}
}

// lost notes a request that got no answer. One that the page itself gave up is
// not a failure.
func (p *Page) lost(e *network.EventLoadingFailed, now time.Time) {
	s := &p.state
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.machine != nil {
		s.machine.RequestEnded(string(e.RequestID), now)
	}
	a, known := s.requests[string(e.RequestID)]
	delete(s.requests, string(e.RequestID))
	if e.Type == network.ResourceTypeDocument && !e.Canceled {
		s.docFailed = e.ErrorText
	}
	if !known {
		return
	}
	// A style sheet that is answered with 404 and a wrong type is reported as
	// cancelled, without a response; so for what the shell names that is told
	// apart from nothing.
	bare, _, _ := strings.Cut(a.url, "#")
	if kind := p.assets.named[bare]; kind != "" && s.standby && s.missing == "" {
		s.missing = kind + " " + a.url + ": " + e.ErrorText
	}
	if !e.Canceled && !strings.HasPrefix(e.ErrorText, blockedText) && !p.onlyCounts(a.url) {
		s.fails(words.FailedRequest{URL: a.url, Type: string(e.Type), Error: e.ErrorText})
	}
}

// onlyCounts is whether a URL is that of a visit counter, which the proxy
// refuses on purpose: that is no failure of the page.
func (p *Page) onlyCounts(at string) bool {
	u, err := url.Parse(at)
	return err == nil && egress.Collects(u.Hostname()) && !p.assets.origins[origin(at)]
}
