package takeover

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"testing"
)

func painted(t *testing.T, w, h int, dots ...image.Point) []byte {
	t.Helper()
	canvas := image.NewRGBA(image.Rect(0, 0, w, h))
	for i := range canvas.Pix {
		canvas.Pix[i] = 255
	}
	for _, dot := range dots {
		canvas.Set(dot.X, dot.Y, color.Black)
	}
	var out bytes.Buffer
	if err := png.Encode(&out, canvas); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestDifferenceShowsWhatDiffersAndWhereItMay(t *testing.T) {
	before, after := painted(t, 4, 2, image.Pt(0, 0)), painted(t, 4, 2, image.Pt(3, 1))
	picture, share, err := Difference(before, after, nil)
	if err != nil || share != 2.0/8 {
		t.Fatalf("%g, %v", share, err)
	}
	got, err := png.Decode(bytes.NewReader(picture))
	if err != nil || got.Bounds() != image.Rect(0, 0, 4, 2) {
		t.Fatalf("%v %v", got, err)
	}
	if r, g, _, _ := got.At(0, 0).RGBA(); r>>8 != 220 || g != 0 {
		t.Errorf("what differs is not red: %v", got.At(0, 0))
	}
	if _, share, err = Difference(before, after, []image.Rectangle{image.Rect(-5, 0, 1, 9), image.Rect(3, 1, 4, 2)}); err != nil || share != 0 {
		t.Errorf("what may differ counts: %g, %v", share, err)
	}
	if _, share, err = Difference(before, painted(t, 4, 4, image.Pt(0, 0)), nil); err != nil || share != 0.5 {
		t.Errorf("what one has beyond the other's edge does not count: %g, %v", share, err)
	}
}

// A picture's header may claim more than memory holds.
func TestDifferenceRefusesWhatIsTooLarge(t *testing.T) {
	small := painted(t, 4, 2)
	var large bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.NoCompression}).Encode(&large, image.NewGray(image.Rect(0, 0, 1<<13, 1<<10+1))); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Difference(small, large.Bytes(), nil); err == nil {
		t.Error("compared")
	}
	if _, _, err := Difference(small, nil, nil); err == nil {
		t.Error("compared with nothing")
	}
}

func FuzzDifference(f *testing.F) {
	f.Add([]byte("\x89PNG\r\n\x1a\n"), []byte{})
	f.Fuzz(func(t *testing.T, before, after []byte) {
		if _, share, err := Difference(before, after, nil); err == nil && (share < 0 || share > 1) {
			t.Errorf("%g", share)
		}
	})
}
