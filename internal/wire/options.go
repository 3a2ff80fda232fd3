package wire

import (
	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/words"
)

// The bounds of render options. A page is a bitmap of its viewport's size.
const (
	maxSide        = 10_000 // CSS pixels
	maxScale       = 8
	maxBlocks      = 100
	maxOptionBytes = 2048 // of each text
)

// CheckOptions refuses options that no page could be asked for.
func CheckOptions(o words.RenderOptions) error {
	switch o.Mode {
	case words.ModeDefault, words.ModeTransition, words.ModeNavigate, words.ModeIsolated:
	default:
		return fault.New(fault.Invalid, "mode must be transition, navigate or isolated")
	}
	switch o.Format {
	case "", "png", "jpeg", "webp", "pdf":
	default:
		return fault.New(fault.Invalid, "format must be png, jpeg, webp or pdf")
	}
	if o.Selector != "" && (o.FullPage || o.Format == "pdf") {
		return fault.New(fault.Invalid, "selector is for a picture of one element: neither fullPage nor pdf go with it")
	}
	if v := o.Viewport; v != nil {
		if v.Width < 0 || v.Height < 0 || v.Width > maxSide || v.Height > maxSide {
			return fault.New(fault.Invalid, "viewport must be at most %d by %d pixels", maxSide, maxSide)
		}
		if v.DeviceScaleFactor < 0 || v.DeviceScaleFactor > maxScale {
			return fault.New(fault.Invalid, "viewport.deviceScaleFactor must be between 0 and %d", maxScale)
		}
	}
	if len(o.Block) > maxBlocks {
		return fault.New(fault.Invalid, "block has more than %d entries", maxBlocks)
	}
	for _, text := range append([]string{o.WaitFor, o.Selector, o.UserAgent, o.Locale, o.Timezone}, o.Block...) {
		if len(text) > maxOptionBytes {
			return fault.New(fault.Invalid, "a render option is longer than %d bytes", maxOptionBytes)
		}
	}
	return nil
}
