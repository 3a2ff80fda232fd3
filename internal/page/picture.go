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
	// pictureSide is the longest side in CSS pixels: beyond it the compositor
	// gives tiles that repeat.
	pictureSide = 16384
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
	case err == nil && p.state.generation() != before:
		return true, nil
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
	if r.visit.Options.FullPage {
		yes := true
		m, err := chrome.Call(ctx, r.page.session, cdpage.GetLayoutMetrics, cdp.Empty{})
		if err != nil {
			return err
		}
		if size := m.CSSContentSize; size != nil {
			params.CaptureBeyondViewport = &yes
			params.Clip = &cdpage.Viewport{Width: clampSide(size.Width), Height: clampSide(size.Height), Scale: 1}
		}
	}
	var shot cdpage.CaptureScreenshotResult
	if err := r.page.session.CallInOrder(ctx, cdpage.CommandCaptureScreenshot, params, &shot); err != nil {
		return err
	}
	result.Data, result.ContentType = shot.Data, "image/"+params.Format.String()
	result.Width, result.Height = sizeOf(shot.Data)
	return nil
}

func clampSide(side float64) float64 { return min(max(side, 1), pictureSide) }

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
