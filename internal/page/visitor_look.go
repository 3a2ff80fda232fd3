package page

import (
	"context"
	"errors"
	"image"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/fetch"
	"github.com/chromedp/cdproto/network"
	cdpage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"

	"github.com/rewarm/rewarm/internal/chrome"
	"github.com/rewarm/rewarm/internal/takeover"
	"github.com/rewarm/rewarm/internal/wire"
)

// readable is what a page's reader gives; see inject/read.js.
type readable struct {
	Lines  []string `json:"lines"`
	Links  []string `json:"links"`
	Places [][4]int `json:"places"` // left, top, right, bottom
}

func (r readable) content() takeover.Content {
	return takeover.Content{Lines: r.Lines, Links: r.Links}
}

func (o *Observation) allow(places [][4]int) {
	for _, p := range places {
		o.Places = append(o.Places, image.Rect(p[0], p[1], p[2], p[3]))
	}
}

// look reads the page at the end of the visit.
func (v *visitor) look(ctx context.Context, seen *Observation) {
	select {
	case <-v.gone:
		seen.Crashed = true
		return
	default:
	}
	if v.options.Pictures {
		seen.AfterPNG = v.picture(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, readLimit)
	defer cancel()
	var answer evaluated[*struct {
		readable
		Took     float64      `json:"took"` // all times in milliseconds
		Left     bool         `json:"left"`
		Busy     int          `json:"busy"`
		Response float64      `json:"response"`
		Load     float64      `json:"load"`
		Samples  [][2]float64 `json:"samples"`
		Shifts   []struct {
			At    float64  `json:"t"`
			Value float64  `json:"v"`
			Nodes []string `json:"n"`
		} `json:"shifts"`
	}]
	if v.inWorld(ctx, "self.rewarm?.end()", &answer) != nil || answer.Result.Value == nil {
		seen.Wedged = true
		return
	}
	got := answer.Result.Value
	seen.After = got.content()
	seen.allow(got.Places)
	seen.Takeover = takeover.Takeover{Seen: got.Took > 0, At: ms(got.Took), Left: got.Left}
	seen.Response, seen.Load, seen.Busy = ms(got.Response), ms(got.Load), got.Busy
	for _, s := range got.Samples {
		seen.Samples = append(seen.Samples, takeover.Sample{At: ms(s[0]), Size: int(s[1])})
	}
	for _, s := range got.Shifts {
		seen.Shifts = append(seen.Shifts, takeover.Shift{At: ms(s.At), Value: s.Value, Nodes: s.Nodes})
	}
}

// ms is a time of the page's clock.
func ms(v float64) time.Duration { return time.Duration(v * float64(time.Millisecond)) }

// picture is what the window shows as PNG; nil if it cannot be had in time.
func (v *visitor) picture(ctx context.Context) []byte {
	ctx, cancel := context.WithTimeout(ctx, shotLimit)
	defer cancel()
	shot, err := chrome.Call(ctx, v.session, cdpage.CaptureScreenshot, cdpage.CaptureScreenshotParams{Format: cdpage.CaptureScreenshotFormatPng})
	if err != nil {
		return nil
	}
	return shot.Data
}

// before shows the document's bytes in a context of their own, without scripts,
// and reads what was prerendered. A page that cannot be had so is no evidence.
func (v *visitor) before(ctx context.Context, body []byte, seen *Observation) error {
	opened, err := v.browser.newTab(ctx, fetch.RequestPaused.Method, cdpage.LoadEventFired.Method)
	if err != nil {
		return err
	}
	b := &visitor{tab: opened, options: v.options}
	defer func() { _ = b.dispose(leaveLimit) }() // as slow as the browser, and as harmless, as the visitor's
	loading, cancel := context.WithTimeout(ctx, beforeLimit)
	defer cancel()
	if err := b.showStill(loading, seen.FinalURL, body); err != nil && loading.Err() == nil {
		return err
	}
	reading, cancel := context.WithTimeout(ctx, readLimit)
	defer cancel()
	// A visitor's browser does not show what is for browsers without scripts.
	expression := "(() => {for (const n of document.querySelectorAll('noscript')) n.remove();const allow = " + quote(v.allow) + ";\n" +
		readJS + "return {...read(allow), places: places(allow)}})()"
	yes := true
	var answer evaluated[*readable]
	if err := b.session.Call(reading, runtime.CommandEvaluate, runtime.EvaluateParams{Expression: expression, ReturnByValue: &yes, Silent: &yes}, &answer); errors.Is(err, chrome.ErrGone) {
		return err
	}
	if got := answer.Result.Value; got != nil {
		seen.Before = got.content()
		seen.allow(got.Places)
	}
	if v.options.Pictures {
		seen.BeforePNG = b.picture(ctx)
	}
	return nil // slow or strange, it is read as far as it goes
}

// showStill loads the bytes as the document at a URL, without scripts, and
// waits for the load event. It is the one reader of the tab's events.
func (v *visitor) showStill(ctx context.Context, at string, body []byte) error {
	err := v.session.CallAll(ctx,
		chrome.Command{Method: cdpage.CommandEnable, Params: cdpage.EnableParams{}},
		chrome.Command{Method: emulation.CommandSetScriptExecutionDisabled, Params: emulation.SetScriptExecutionDisabledParams{Value: true}},
		chrome.Command{Method: emulation.CommandSetDeviceMetricsOverride, Params: windowOf(v.options.Viewport)},
		chrome.Command{Method: fetch.CommandEnable, Params: interceptDocuments()},
	)
	if err != nil {
		return err
	}
	if err := v.session.Post(cdpage.CommandNavigate, cdpage.NavigateParams{URL: at}); err != nil {
		return err
	}
	for given := false; ; {
		ev, err := v.session.Next(ctx)
		if err != nil {
			return err
		}
		var e fetch.EventRequestPaused
		switch {
		case ev.Method == cdpage.LoadEventFired.Method && given:
			return nil
		case ev.Method != fetch.RequestPaused.Method || ev.Decode(&e) != nil:
		case given || string(e.FrameID) != string(v.target): // a refresh, or a frame: no part of what is compared
			_ = v.session.Post(fetch.CommandFailRequest, fetch.FailRequestParams{RequestID: e.RequestID, ErrorReason: network.ErrorReasonAborted})
		default:
			given = true
			_ = v.session.Post(fetch.CommandFulfillRequest, fetch.FulfillRequestParams{RequestID: e.RequestID, ResponseCode: 200, Body: body,
				ResponseHeaders: []*fetch.HeaderEntry{{Name: "Content-Type", Value: "text/html; charset=utf-8"}}})
		}
	}
}

// Result is the observation judged, as it is told; with the pictures and their
// difference if they were taken.
func (o *Observation) Result() wire.TakeoverResult {
	result := wire.TakeoverResult{Verdict: takeover.Judge(o.Evidence)}
	if o.BeforePNG == nil && o.AfterPNG == nil {
		return result
	}
	result.Screenshots = &wire.TakeoverScreenshots{Before: o.BeforePNG, After: o.AfterPNG}
	if picture, share, err := takeover.Difference(o.BeforePNG, o.AfterPNG, o.Places); err == nil {
		result.Screenshots.Difference, result.Difference = picture, &share
	}
	return result
}
