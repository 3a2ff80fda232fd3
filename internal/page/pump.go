package page

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/chromedp/cdproto/fetch"
	"github.com/chromedp/cdproto/inspector"
	"github.com/chromedp/cdproto/network"
	cdpage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"

	"github.com/rewarm/rewarm/internal/chrome"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// pumped are the events that a page hears.
func pumped() []string {
	return []string{
		fetch.RequestPaused.Method,
		network.RequestWillBeSent.Method, network.ResponseReceived.Method, network.ResponseReceivedExtraInfo.Method,
		network.LoadingFinished.Method, network.LoadingFailed.Method,
		cdpage.FrameNavigated.Method, cdpage.FrameDetached.Method, cdpage.LoadEventFired.Method, cdpage.JavascriptDialogOpening.Method,
		runtime.BindingCalled.Method, runtime.ConsoleAPICalled.Method,
		runtime.ExceptionThrown.Method, runtime.ExceptionRevoked.Method,
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
		case cdpage.FrameDetached.Method:
			var e cdpage.EventFrameDetached
			if ev.Decode(&e) == nil {
				p.state.detached(string(e.FrameID), now)
			}
		case cdpage.LoadEventFired.Method:
			p.state.loaded(now)
		case inspector.TargetCrashed.Method:
			return
		case runtime.BindingCalled.Method:
			var e runtime.EventBindingCalled
			var m told
			if ev.Decode(&e) == nil && e.Name == binding && wire.Decode([]byte(e.Payload), &m) == nil {
				p.tell(m, now)
			}
		case runtime.ExceptionThrown.Method:
			var e runtime.EventExceptionThrown
			if ev.Decode(&e) == nil && e.ExceptionDetails != nil {
				p.threw(e.ExceptionDetails)
			}
		case runtime.ExceptionRevoked.Method:
			var e runtime.EventExceptionRevoked
			if ev.Decode(&e) == nil {
				p.state.revoked(e.ExceptionID)
			}
		case runtime.ConsoleAPICalled.Method:
			var e runtime.EventConsoleAPICalled
			if ev.Decode(&e) == nil {
				p.logged(&e)
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
			p.state.asked(string(e.RequestID), asked{url: e.Request.URL, kind: string(e.Type), frame: string(e.FrameID),
				worker: e.Type == network.ResourceTypeScript && e.LoaderID == ""}, now)
			p.statusOf(string(e.RequestID), 0, now)
		}
	case network.ResponseReceived.Method:
		var e network.EventResponseReceived
		if decode(&e) == nil {
			p.answered(&e, now)
		}
	case network.ResponseReceivedExtraInfo.Method:
		var e struct { // the headers are of no interest
			RequestID  network.RequestID `json:"requestId"`
			StatusCode int               `json:"statusCode"`
		}
		if decode(&e) == nil {
			p.statusOf(string(e.RequestID), e.StatusCode, now)
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
	p.state.mu.Lock()
	p.state.fulfilled[string(e.NetworkID)] = true
	p.state.mu.Unlock()
	_ = p.session.Post(fetch.CommandFulfillRequest, fetch.FulfillRequestParams{
		RequestID: e.RequestID, ResponseCode: 200, ResponseHeaders: documentHeaders(p.options.Shell), Body: p.options.Shell.Bytes})
}

// documentHeaders are those of a document that is given in place of the server's.
func documentHeaders(shell words.Shell) []*fetch.HeaderEntry {
	headers := []*fetch.HeaderEntry{{Name: "Cache-Control", Value: "no-store"}}
	typed := false
	for name, value := range shell.Header {
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
	return headers
}
