package page

import (
	"strconv"

	"github.com/chromedp/cdproto/fetch"

	"github.com/rewarm/rewarm/internal/chrome"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// Given is a page of a release that its server does not serve yet: the visitor
// gets it in place of what is served. Other documents of the realms that the
// page goes to are the release's bare shell, so that no document of another
// release is ever taken for one of this.
type Given struct {
	Shell  words.Shell
	Body   []byte
	Status int
	// Snapshot is what the realm server would say that it put in: hit, or miss for
	// the bare shell.
	Snapshot string
}

// paused answers a request for a document.
func (v *visitor) paused(ev chrome.Event) {
	var e fetch.EventRequestPaused
	if ev.Decode(&e) != nil {
		return
	}
	if string(e.FrameID) != string(v.target) || !within(e.Request.URL, v.options.Realms) {
		_ = v.session.Post(fetch.CommandContinueRequest, fetch.ContinueRequestParams{RequestID: e.RequestID})
		return
	}
	given := v.options.Given
	if v.givenAt == "" {
		v.givenAt = e.Request.URL
	}
	status, body, snapshot := given.Status, given.Body, given.Snapshot
	if e.Request.URL != v.givenAt {
		status, body, snapshot = 200, given.Shell.Bytes, "bypass"
	}
	headers := append(documentHeaders(given.Shell),
		&fetch.HeaderEntry{Name: wire.HeaderDocumentShell, Value: string(given.Shell.Token)},
		&fetch.HeaderEntry{Name: wire.HeaderSnapshot, Value: snapshot},
		&fetch.HeaderEntry{Name: "Content-Length", Value: strconv.Itoa(len(body))})
	_ = v.session.Post(fetch.CommandFulfillRequest, fetch.FulfillRequestParams{
		RequestID: e.RequestID, ResponseCode: int64(status), ResponseHeaders: headers, Body: body})
}
