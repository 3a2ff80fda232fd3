package takeover

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"slices"
)

// maxPixels bounds the pictures that are compared, each of which takes four bytes
// a pixel of memory: the largest windows in use have 8.3 million.
const maxPixels = 1 << 23

// tolerance is by how much of 255 a channel may differ: text is drawn a little
// differently each time.
const tolerance = 16

// Difference draws where two pictures differ: what is the same pale, what
// differs red, what may differ grey. Both are PNG; what one has beyond the
// other's edge differs. share is how much of the rest differs, from 0 to 1.
func Difference(before, after []byte, allowed []image.Rectangle) (picture []byte, share float64, err error) {
	a, err := decode(before)
	if err != nil {
		return nil, 0, fmt.Errorf("the picture before: %w", err)
	}
	b, err := decode(after)
	if err != nil {
		return nil, 0, fmt.Errorf("the picture after: %w", err)
	}
	out := image.NewRGBA(a.Bounds().Union(b.Bounds()))
	differing, compared := 0, 0
	for y := range out.Bounds().Dy() {
		for x := range out.Bounds().Dx() {
			switch at := image.Pt(x, y); {
			case within(at, allowed):
				out.SetRGBA(x, y, color.RGBA{160, 160, 160, 255})
			case alike(a.RGBAAt(x, y), b.RGBAAt(x, y)):
				compared++
				out.SetRGBA(x, y, pale(b.RGBAAt(x, y)))
			default:
				compared++
				differing++
				out.SetRGBA(x, y, color.RGBA{220, 0, 0, 255})
			}
		}
	}
	var encoded bytes.Buffer
	if err := png.Encode(&encoded, out); err != nil {
		return nil, 0, fmt.Errorf("the difference: %w", err)
	}
	return encoded.Bytes(), float64(differing) / float64(max(1, compared)), nil
}

func decode(data []byte) (*image.RGBA, error) {
	size, err := png.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	if size.Width > maxPixels/max(1, size.Height) {
		return nil, fmt.Errorf("%d by %d pixels are too many to compare", size.Width, size.Height)
	}
	decoded, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	rgba := image.NewRGBA(image.Rect(0, 0, size.Width, size.Height))
	draw.Draw(rgba, rgba.Bounds(), decoded, decoded.Bounds().Min, draw.Src)
	return rgba, nil
}

func within(p image.Point, all []image.Rectangle) bool {
	return slices.ContainsFunc(all, p.In)
}

func alike(a, b color.RGBA) bool {
	return near(a.R, b.R) && near(a.G, b.G) && near(a.B, b.B) && near(a.A, b.A)
}

func near(a, b uint8) bool { return max(a, b)-min(a, b) <= tolerance }

// pale keeps a picture recognisable without drawing attention.
func pale(c color.RGBA) color.RGBA {
	lighten := func(v uint8) uint8 { return 255 - (255-v)/4 }
	return color.RGBA{lighten(c.R), lighten(c.G), lighten(c.B), 255}
}
