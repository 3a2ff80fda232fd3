package page

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/chromedp/cdproto/fetch"
	"github.com/chromedp/cdproto/inspector"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	cdpage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"

	"github.com/rewarm/rewarm/internal/chrome"
	"github.com/rewarm/rewarm/internal/egress"
	"github.com/rewarm/rewarm/internal/settle"
	"github.com/rewarm/rewarm/internal/takeover"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// heardPage is what the events of a visitor's page say.
type heardPage struct {
	machine   *settle.Machine
	documents int
	document  network.RequestID // the main document's request
	arrived   bool              // all of its bytes have
	response  *network.Response
	failed    string // why there is no document
	said      []saidBy
	flying    map[string]*takeover.Request
	dropped   map[string]*takeover.Request // given up; its status may be on its way
	failures  []takeover.Request
	had       map[string]bool // URLs whose data came: asked for again, they are polled
	early     map[string]int  // statuses of errors that came before their request
}

// saidBy is something said, with what tells who said it.
type saidBy struct {
	takeover.Said
	id      int64 // of an exception
	details *runtime.ExceptionDetails
}

func newHeard() heardPage {
	return heardPage{flying: map[string]*takeover.Request{}, dropped: map[string]*takeover.Request{}, early: map[string]int{}, had: map[string]bool{}}
}

func heardOfVisitor() []string {
	return []string{
		network.RequestWillBeSent.Method, network.ResponseReceived.Method, network.ResponseReceivedExtraInfo.Method,
		network.LoadingFinished.Method, network.LoadingFailed.Method,
		cdpage.FrameNavigated.Method, cdpage.LoadEventFired.Method, cdpage.JavascriptDialogOpening.Method,
		runtime.ConsoleAPICalled.Method, runtime.ExceptionThrown.Method, runtime.ExceptionRevoked.Method,
		log.EntryAdded.Method, inspector.TargetCrashed.Method,
	}
}

// hear is the one reader of the tab's events; it ends with the session.
func (v *visitor) hear(ctx context.Context) {
	defer func() {
		v.end()
		v.session.Abandon(fmt.Errorf("page ended: %w", chrome.ErrGone))
	}()
	for {
		ev, err := v.session.Next(ctx)
		if err != nil {
			return
		}
		if ev.Method == inspector.TargetCrashed.Method {
			v.crashed.Store(true)
			return
		}
		if ev.Method == fetch.RequestPaused.Method {
			v.paused(ev)
			continue
		}
		v.mu.Lock()
		if v.heard.machine != nil {
			v.heardEvent(ev, time.Now())
		}
		v.mu.Unlock()
		signal(v.changed)
	}
}

// heardEvent notes one event; v.mu is held.
func (v *visitor) heardEvent(ev chrome.Event, now time.Time) {
	h := &v.heard
	switch ev.Method {
	case cdpage.JavascriptDialogOpening.Method:
		_ = v.session.Post(cdpage.CommandHandleJavaScriptDialog, cdpage.HandleJavaScriptDialogParams{})
	case cdpage.FrameNavigated.Method:
		var e cdpage.EventFrameNavigated
		if ev.Decode(&e) == nil && e.Frame.ParentID == "" {
			v.committed(e.Frame.URL, e.Frame.UnreachableURL, now)
		}
	case cdpage.LoadEventFired.Method:
		h.machine.Loaded(now)
	case runtime.ExceptionThrown.Method:
		var e runtime.EventExceptionThrown
		if ev.Decode(&e) == nil && e.ExceptionDetails != nil {
			d, stack := e.ExceptionDetails, ""
			if d.Exception != nil {
				stack = cut(d.Exception.Description)
			}
			h.say(saidBy{Said: takeover.Said{Exception: true, Text: exceptionText(d), Stack: stack}, id: d.ExceptionID, details: d})
		}
	case runtime.ExceptionRevoked.Method: // the page has handled the rejection after all
		var e runtime.EventExceptionRevoked
		if ev.Decode(&e) == nil {
			for i := range h.said {
				if h.said[i].Exception && h.said[i].id == e.ExceptionID {
					h.said = append(h.said[:i], h.said[i+1:]...)
					break
				}
			}
		}
	case runtime.ConsoleAPICalled.Method:
		var e runtime.EventConsoleAPICalled
		if ev.Decode(&e) == nil && isComplaint(e.Type) {
			text, rest, _ := strings.Cut(consoleText(&e), "\n")
			h.say(saidBy{Said: takeover.Said{Text: text, Stack: rest, Warning: e.Type == runtime.ConsoleAPICalledTypeWarning}, details: &runtime.ExceptionDetails{StackTrace: e.StackTrace}})
		}
	case log.EntryAdded.Method: // what the browser refuses: a policy, a type
		var e log.EventEntryAdded
		if ev.Decode(&e) == nil && e.Entry != nil && e.Entry.Level == log.EntryLevelError && e.Entry.Source != log.EntrySourceNetwork {
			h.say(saidBy{Said: takeover.Said{Text: cut(e.Entry.Text)}, details: &runtime.ExceptionDetails{URL: e.Entry.URL}})
		}
	default:
		v.heardNetwork(ev, now)
	}
}

func isComplaint(kind runtime.ConsoleAPICalledType) bool {
	switch kind {
	case runtime.ConsoleAPICalledTypeError, runtime.ConsoleAPICalledTypeAssert, runtime.ConsoleAPICalledTypeWarning:
		return true
	}
	return false
}

func (h *heardPage) say(s saidBy) {
	if len(h.said) < maxLines {
		h.said = append(h.said, s)
	}
}

// committed says that the tab has a new document.
func (v *visitor) committed(at, unreachable string, now time.Time) {
	h := &v.heard
	h.documents++
	h.machine.NewDocument(now)
	switch {
	case unreachable != "":
		h.failed = cmp.Or(h.failed, unreachable+" could not be loaded")
	case h.response == nil:
		h.failed = "no document came of " + v.options.URL
	case !within(at, v.options.Realms):
		h.failed = "the page went to " + cut(at) + ", which is in none of the realms"
	}
}

func (v *visitor) heardNetwork(ev chrome.Event, now time.Time) {
	h := &v.heard
	switch ev.Method {
	case network.RequestWillBeSent.Method:
		var e network.EventRequestWillBeSent
		if ev.Decode(&e) != nil {
			return
		}
		r := takeover.Request{URL: cut(e.Request.URL), Type: string(e.Type)}
		bare, _, _ := strings.Cut(r.URL, "?")
		h.machine.RequestStarted(settle.Request{ID: string(e.RequestID), Type: r.Type, URL: bare}, now)
		if e.Type == network.ResourceTypeScript && e.LoaderID == "" {
			h.machine.RequestEnded(string(e.RequestID), now) // a worker's, whose end nobody hears
		} else if len(h.flying) < maxRequests {
			h.flying[string(e.RequestID)] = &r
			h.answered(string(e.RequestID), h.early[string(e.RequestID)], "")
		}
	case network.ResponseReceived.Method:
		var e network.EventResponseReceived
		if ev.Decode(&e) == nil && e.Response != nil {
			v.responded(&e, now)
		}
	case network.ResponseReceivedExtraInfo.Method: // all there is of a style whose type is wrong too
		var e struct {
			RequestID  string `json:"requestId"`
			StatusCode int    `json:"statusCode"`
		}
		if ev.Decode(&e) == nil && e.StatusCode >= 400 && e.StatusCode != 407 {
			if h.flying[e.RequestID] == nil && len(h.early) < maxRequests {
				h.early[e.RequestID] = e.StatusCode
			}
			h.answered(e.RequestID, e.StatusCode, "")
		}
	case network.LoadingFinished.Method:
		var e network.EventLoadingFinished
		if ev.Decode(&e) == nil {
			h.arrived = h.arrived || e.RequestID == h.document
			h.machine.RequestEnded(string(e.RequestID), now)
			if r := h.flying[string(e.RequestID)]; r != nil && len(h.had) < maxRequests {
				h.had[r.URL] = true
			}
			delete(h.flying, string(e.RequestID))
		}
	case network.LoadingFailed.Method:
		var e network.EventLoadingFailed
		if ev.Decode(&e) == nil {
			v.lost(&e, now)
		}
	}
}

// responded notes an answer's head.
func (v *visitor) responded(e *network.EventResponseReceived, now time.Time) {
	h, id := &v.heard, string(e.RequestID)
	h.machine.Answered(id, int(e.Response.Status), now)
	if e.Type != network.ResourceTypeDocument {
		h.answered(id, int(e.Response.Status), e.Response.MimeType)
		return
	}
	if string(e.FrameID) != string(v.target) {
		return
	}
	h.document, h.response, h.arrived = e.RequestID, e.Response, false
	_, refused := header(e.Response, wire.HeaderRefused)
	switch {
	case refused:
		h.failed = cut(e.Response.URL) + " is at an address that pages may not reach"
	case e.Response.Status >= 500:
		h.failed = fmt.Sprintf("%s answered %d", cut(e.Response.URL), e.Response.Status)
	case e.Response.MimeType != "text/html" && e.Response.MimeType != "application/xhtml+xml":
		h.failed = cut(e.Response.URL) + " is no HTML document: its type is " + cut(e.Response.MimeType)
	}
}

// answered notes an answer that is no use: the status of an error, or another
// type than a script or a style has.
func (h *heardPage) answered(id string, status int, mime string) {
	r := cmp.Or(h.flying[id], h.dropped[id])
	if r == nil || status == 0 || status < 400 && !mistyped(r.Type, mime) {
		return
	}
	delete(h.flying, id)
	delete(h.dropped, id)
	r.Status, r.MIME = status, mime
	if r.Type != string(network.ResourceTypeDocument) {
		h.fails(*r)
	}
}

func (h *heardPage) fails(r takeover.Request) {
	switch r.Type {
	case "Script", "Stylesheet", "Image", "Font", "Media", "Fetch", "XHR":
		if len(h.failures) < maxLines {
			h.failures = append(h.failures, r)
		}
	}
}

// mistyped is whether a script or a style came as what it cannot be.
func mistyped(kind, mime string) bool {
	switch mime = strings.ToLower(mime); kind {
	case "Script":
		return mime != "" && !strings.Contains(mime, "javascript") && !strings.Contains(mime, "ecmascript") &&
			mime != "application/json" && mime != "text/css" && mime != "application/wasm" // what modules import beside
	case "Stylesheet":
		return mime != "" && mime != "text/css"
	}
	return false
}

// lost notes a request that got no answer. One that the page itself gave up is
// no failure; a script or style that is given up may be answered with an error
// that is still on its way.
func (v *visitor) lost(e *network.EventLoadingFailed, now time.Time) {
	h, id := &v.heard, string(e.RequestID)
	h.machine.RequestEnded(id, now)
	r := h.flying[id]
	if e.RequestID == h.document {
		h.arrived = true
	}
	if r == nil {
		return
	}
	delete(h.flying, id)
	if e.Canceled {
		if isCode(e.Type) {
			h.dropped[id] = r
		}
		return
	}
	r.Error = cut(e.ErrorText)
	if e.Type == network.ResourceTypeDocument && h.response == nil {
		h.failed = r.URL + ": " + r.Error
		return
	}
	h.fails(*r)
}

func header(r *network.Response, name string) (string, bool) {
	for key, value := range r.Headers {
		if strings.EqualFold(key, name) {
			return cut(fmt.Sprint(value)), true
		}
	}
	return "", false
}

// document is the main document's bytes as they were served; nil for none.
func (v *visitor) document(ctx context.Context) []byte {
	v.mu.Lock()
	id, arrived := v.heard.document, v.heard.arrived
	v.mu.Unlock()
	if !arrived {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, readLimit)
	defer cancel()
	body, err := chrome.Call(ctx, v.session, network.GetResponseBody, network.GetResponseBodyParams{RequestID: id})
	if err != nil {
		return nil
	}
	return body.Body
}

// tell makes evidence of what was heard. What belongs to the application is
// known by the origins that its document names.
func (v *visitor) tell(e *takeover.Evidence, body []byte) {
	v.mu.Lock()
	defer v.mu.Unlock()
	h := &v.heard
	e.Documents, e.Failed = h.documents, h.failed
	if h.response == nil {
		e.Failed = cmp.Or(e.Failed, "no document came in time")
		return
	}
	e.FinalURL, e.HTTPStatus = cut(h.response.URL), int(h.response.Status)
	if token, ok := header(h.response, wire.HeaderDocumentShell); ok {
		e.Token, _ = words.ParseToken(token)
	}
	e.Snapshot, _ = header(h.response, wire.HeaderSnapshot)
	e.Unread = len(body) == 0
	own := assetsOf(body, h.response.URL).origins
	for _, s := range h.said {
		s.Stranger = ofStranger(own, s.details, s.Stack)
		e.Said = append(e.Said, s.Said)
	}
	add := func(all []takeover.Request, r takeover.Request) []takeover.Request {
		r.Stranger = !own[origin(r.URL)]
		if at, err := url.Parse(r.URL); err == nil && r.Stranger && egress.Collects(at.Hostname()) {
			return all // a visit counter, refused on purpose
		}
		return append(all, r)
	}
	for _, r := range h.failures {
		e.Failures = add(e.Failures, r)
	}
	for _, r := range h.flying {
		switch r.Type {
		case "Script", "Stylesheet", "Fetch", "XHR":
			if !h.had[r.URL] {
				e.Pending = add(e.Pending, *r)
			}
		}
	}
	slices.SortFunc(e.Pending, func(a, b takeover.Request) int { return cmp.Compare(a.URL, b.URL) })
}
