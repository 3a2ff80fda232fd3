package page

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	_ "image/jpeg" // the formats' headers are read back
	_ "image/png"

	"github.com/chromedp/cdproto/cdp"
	cdpage "github.com/chromedp/cdproto/page"

	"github.com/rewarm/rewarm/internal/chrome"
	"github.com/rewarm/rewarm/internal/words"
)

// The bounds of a picture.
const (
	// pictureSide is the longest side in pixels: beyond it the compositor gives
	// tiles that repeat.
	pictureSide = 16384
	// picturePixels bounds the bitmap, of four bytes each.
	picturePixels = 1 << 26
	// pictureLimit is in bytes; half of what an answer may have, for base64.
	pictureLimit = 32 << 20
)

// picture takes what the task wants of a page that has been captured: nothing
// for most kinds. again means that another document came in between.
func (r *render) picture(ctx context.Context, result *Result) (again bool, err error) {
	if kind := r.task.Kind; kind != Screenshot && kind != PDF || result.Status == words.StatusUnusable {
		return false, nil
	}
	p := r.page
	before := p.state.generation()
	if r.task.Kind == PDF {
		err = r.print(ctx, result)
	} else {
		err = r.shoot(ctx, result)
	}
	switch {
	case p.state.generation() != before && (err == nil || errors.As(err, new(noElement))):
		return true, nil
	case errors.As(err, new(noElement)):
		if result.Status == words.StatusReady {
			result.Status, result.SettledBy = words.StatusError, words.SettledByAttribute // the page may be asked again
			result.Error = &words.PageError{Kind: words.PageErrorPage, Title: "No picture", Message: err.Error()}
		}
		return false, nil
	case isRemote(err) && p.state.generation() != before:
		return true, nil
	case isRemote(err):
		r.noPicture(result, words.PageErrorPage, err.Error())
		return false, nil
	case err != nil && errors.Is(err, chrome.ErrGone):
		return false, err
	case err != nil:
		if _, err = late(ctx, err); err == nil {
			r.noPicture(result, words.PageErrorTimeout, "the picture was not taken when the budget ended")
		}
		return false, err
	case len(result.Data) > pictureLimit:
		r.noPicture(result, words.PageErrorPage, fmt.Sprintf("the picture has over %d MiB", pictureLimit>>20))
	}
	return false, nil
}

func (r *render) noPicture(result *Result, kind words.PageErrorKind, why string) {
	result.Data, result.Width, result.Height = nil, 0, 0
	result.Status = words.StatusUnusable
	if kind == words.PageErrorTimeout {
		result.SettledBy = words.SettledByTimeout
	}
	result.Error = &words.PageError{Kind: kind, Title: "No picture", Message: why}
	r.page.spoil()
}

func (r *render) shoot(ctx context.Context, result *Result) error {
	params := cdpage.CaptureScreenshotParams{Format: cdpage.CaptureScreenshotFormatPng}
	switch r.visit.Options.Format {
	case "jpeg":
		params.Format = cdpage.CaptureScreenshotFormatJpeg
	case "webp":
		params.Format = cdpage.CaptureScreenshotFormatWebp
	}
	var err error
	switch o := r.visit.Options; {
	case o.Selector != "":
		params.Clip, err = r.element(ctx, o.Selector)
	case o.FullPage:
		params.Clip, err = r.whole(ctx)
	}
	if err != nil {
		return err
	}
	session, view := r.page.session, r.visit.Options.Viewport
	if err := session.CallAll(ctx, window(view, asShown)); err != nil {
		return err
	}
	beyond := params.Clip != nil
	params.CaptureBeyondViewport = &beyond
	var shot cdpage.CaptureScreenshotResult
	if err := session.CallInOrder(ctx, cdpage.CommandCaptureScreenshot, params, &shot); err != nil {
		return err
	}
	speck := window(view, asSpeck)
	_ = session.Post(speck.Method, speck.Params) // a picture more would only be slower
	result.Data, result.ContentType = shot.Data, "image/"+params.Format.String()
	result.Width, result.Height = sizeOf(shot.Data)
	return nil
}

// whole is all there is to scroll to.
func (r *render) whole(ctx context.Context) (*cdpage.Viewport, error) {
	m, err := chrome.Call(ctx, r.page.session, cdpage.GetLayoutMetrics, cdp.Empty{})
	if err != nil || m.CSSContentSize == nil {
		return nil, err
	}
	return r.bounded(cdpage.Viewport{Width: m.CSSContentSize.Width, Height: m.CSSContentSize.Height}), nil
}

// noElement is why there is no picture of an element; it is the page's fault.
type noElement string

func (e noElement) Error() string { return string(e) }

// elementJS scrolls to an element, as a visitor would have to, and gives its
// place in the document; an empty place for none, no place for no selector.
const elementJS = `(selector => {
  let el;
  try { el = document.querySelector(selector) } catch { return null }
  if (!el) return { x: 0, y: 0, width: -1, height: -1 };
  el.scrollIntoView({ block: 'center', inline: 'center', behavior: 'instant' });
  const r = el.getBoundingClientRect();
  return { x: r.x + scrollX, y: r.y + scrollY, width: r.width, height: r.height };
})`

func (r *render) element(ctx context.Context, selector string) (*cdpage.Viewport, error) {
	var found evaluated[*cdpage.Viewport]
	if err := r.page.evaluate(ctx, elementJS+"("+quote(selector)+")", &found); err != nil {
		return nil, err
	}
	switch at := found.Result.Value; {
	case at == nil:
		return nil, &OptionsError{Err: fmt.Errorf("%q is no CSS selector", selector)}
	case at.Width < 0:
		return nil, noElement(fmt.Sprintf("no element matches %q", selector))
	case at.Width == 0 || at.Height == 0:
		return nil, noElement(fmt.Sprintf("the element that matches %q is not shown: it has no size", selector))
	default:
		r.page.foreign = true // the next render should not find the page scrolled
		return r.bounded(*at), nil
	}
}

// bounded is as much of a part of the page as a picture may have.
func (r *render) bounded(clip cdpage.Viewport) *cdpage.Viewport {
	scale := 1.0
	if v := r.visit.Options.Viewport; v != nil && v.DeviceScaleFactor > 0 {
		scale = v.DeviceScaleFactor
	}
	side := pictureSide / scale
	clip.Width = min(max(clip.Width, 1), side)
	clip.Height = min(max(clip.Height, 1), side, picturePixels/(scale*scale*clip.Width))
	clip.Scale = 1
	return &clip
}

func (r *render) print(ctx context.Context, result *Result) error {
	yes := true
	var printed cdpage.PrintToPDFResult
	err := r.page.session.CallInOrder(ctx, cdpage.CommandPrintToPDF,
		cdpage.PrintToPDFParams{PrintBackground: &yes, PreferCSSPageSize: &yes}, &printed)
	result.Data, result.ContentType = printed.Data, "application/pdf"
	return err
}

// sizeOf reads a picture's size from its header; 0, 0 if it is none.
func sizeOf(data []byte) (width, height int) {
	if c, _, err := image.DecodeConfig(bytes.NewReader(data)); err == nil {
		return c.Width, c.Height
	}
	if len(data) < 30 || string(data[:4]) != "RIFF" || string(data[8:12]) != "WEBP" {
		return 0, 0
	}
	switch string(data[12:16]) {
	case "VP8X": // 24-bit sizes, less one
		w, h := binary.LittleEndian.Uint32(data[24:28]), binary.LittleEndian.Uint32(data[26:30])
		return int(w&0xffffff) + 1, int(h>>8) + 1
	case "VP8 ":
		w, h := binary.LittleEndian.Uint16(data[26:28]), binary.LittleEndian.Uint16(data[28:30])
		return int(w & 0x3fff), int(h & 0x3fff)
	case "VP8L": // 14 bits each, less one
		b := binary.LittleEndian.Uint32(data[21:25])
		return int(b&0x3fff) + 1, int(b>>14&0x3fff) + 1
	}
	return 0, 0
}
