package page

import (
	"cmp"
	"net/url"
	"strings"
	"time"

	"github.com/chromedp/cdproto/network"

	"github.com/rewarm/rewarm/internal/egress"
	"github.com/rewarm/rewarm/internal/skew"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// isCode is whether a request is for a part of an application: what a deploy
// takes away.
func isCode(kind network.ResourceType) bool {
	return kind == network.ResourceTypeScript || kind == network.ResourceTypeStylesheet
}

// isGone is whether a status says that a file is not there. Object stores say
// 403 for it; the others that are left out say that it may be there later.
func isGone(status int) bool {
	switch status {
	case 401, 407, 408, 425, 429:
		return false
	}
	return 400 <= status && status < 500
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
		s.machine.Answered(string(e.RequestID), int(e.Response.Status), now)
	}
	a, known := s.requests[string(e.RequestID)]
	html := isCode(e.Type) && strings.HasPrefix(e.Response.MimeType, "text/html")
	if !known || e.Response.Status < 400 && !html {
		return
	}
	delete(s.requests, string(e.RequestID))
	if p.onlyCounts(a.url) {
		return
	}
	f := words.FailedRequest{URL: a.url, Type: string(e.Type), Status: int(e.Response.Status)}
	if html {
		f.Error = "answered with HTML"
	}
	p.useless(f)
}

// statusOf ends a script or a style that was answered with the status of an
// error: of a style whose type is wrong too, and of a worker's script, no other
// event tells that. It comes from another process than the rest, so it may come
// before the request it is about, which then asks again with 0.
func (p *Page) statusOf(id string, status int, now time.Time) {
	s := &p.state
	s.mu.Lock()
	defer s.mu.Unlock()
	a, known := s.requests[id]
	if !known && status >= 400 && len(s.early) < maxRequests {
		s.early[id] = status
	}
	status = cmp.Or(status, s.early[id])
	if !known || status < 400 || status == 407 || !isCode(network.ResourceType(a.kind)) {
		return
	}
	delete(s.requests, id)
	if s.machine != nil {
		s.machine.RequestEnded(id, now)
	}
	p.useless(words.FailedRequest{URL: a.url, Type: a.kind, Status: status})
}

// useless notes a request whose answer is no use; state.mu is held. A script or
// style of a stranger's origin (an advertisement, a counter) that is gone is no
// skew: the bundle does not name it.
func (p *Page) useless(f words.FailedRequest) {
	s := &p.state
	s.fails(f)
	if !isCode(network.ResourceType(f.Type)) {
		return
	}
	why := cmp.Or(f.Error, httpText(f.Status))
	p.lacks(f.URL, why)
	switch {
	case !p.assets.origins[origin(f.URL)]:
	case isGone(f.Status) || f.Status < 400:
		s.sawSkew(f.URL + ": " + why)
	default:
		s.troubled = true
	}
}

// lacks notes that a page did not get what its shell names, so that it is not
// what a visitor sees; state.mu is held.
func (p *Page) lacks(url, why string) {
	bare, _, _ := strings.Cut(url, "#")
	if kind := p.assets.named[bare]; kind != "" && p.state.missing == "" {
		p.state.missing = kind + " " + url + ": " + why
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
	if !e.Canceled || !isCode(e.Type) { // else its status may still be on its way
		delete(s.requests, string(e.RequestID))
	}
	if e.Type == network.ResourceTypeDocument && !e.Canceled {
		s.docFailed = e.ErrorText
	}
	if !known {
		return
	}
	if s.standby || !e.Canceled && !strings.HasPrefix(e.ErrorText, blockedText) {
		p.lacks(a.url, e.ErrorText)
	}
	if !e.Canceled && !strings.HasPrefix(e.ErrorText, blockedText) && !p.onlyCounts(a.url) {
		s.fails(words.FailedRequest{URL: a.url, Type: string(e.Type), Error: e.ErrorText})
		s.troubled = s.troubled || isCode(e.Type) && p.assets.origins[origin(a.url)]
	}
}

// onlyCounts is whether a URL is that of a visit counter, which the proxy
// refuses on purpose: that is no failure of the page.
func (p *Page) onlyCounts(at string) bool {
	u, err := url.Parse(at)
	return err == nil && egress.Collects(u.Hostname()) && !p.assets.origins[origin(at)]
}

// saysGone is whether a text of the page says that a chunk of its bundle is
// gone; state.mu is held. What the network showed goes before words: they are
// the same for a chunk that is gone and for a server in trouble.
func (p *Page) saysGone(text string) bool {
	if p.state.troubled {
		return false
	}
	module, says := skew.Says(text)
	from := origin(module)
	return says && (from == "" || p.assets.origins[from]) // a stranger's module is none of the bundle's
}
