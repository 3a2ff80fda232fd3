package page

import (
	"cmp"

	"github.com/chromedp/cdproto/emulation"

	"github.com/rewarm/rewarm/internal/chrome"
	"github.com/rewarm/rewarm/internal/words"
)

// The window of a page whose render asks for none, in CSS pixels: what the
// headless shell opens.
const (
	windowWidth  = 800
	windowHeight = 600
)

// The scales at which a page's frames are drawn. Nobody looks at a page that is
// rendered as a document, so it is laid out in a window of its full size, and
// all of it is drawn in one pixel: scripts cannot tell, and a transition takes a
// seventh less. A picture is taken at full size.
const (
	asSpeck = 0.001
	asShown = 1
)

// window is the command that gives a page its window, drawn at a scale.
func window(v *words.Viewport, drawn float64) chrome.Command {
	params := emulation.SetDeviceMetricsOverrideParams{Width: windowWidth, Height: windowHeight, Scale: drawn}
	if v != nil {
		params.Width, params.Height = cmp.Or(int64(v.Width), windowWidth), cmp.Or(int64(v.Height), windowHeight)
		params.DeviceScaleFactor, params.Mobile = v.DeviceScaleFactor, v.Mobile
	}
	return chrome.Command{Method: emulation.CommandSetDeviceMetricsOverride, Params: params}
}
