package coding

import (
	"bytes"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

func TestWhatACallerTakes(t *testing.T) {
	for accept, want := range map[string]Coding{
		"":                               Identity,
		"identity":                       Identity,
		"gzip":                           Gzip,
		"gzip, deflate, br, zstd":        Zstd,
		"gzip, deflate, br":              Brotli,
		"br;q=0.5, gzip":                 Gzip,
		"br;q=0.5, gzip;q=0.5":           Brotli,
		"GZip;Q=0.3":                     Gzip,
		"x-gzip":                         Gzip,
		"*":                              Zstd,
		"*;q=0.1, gzip;q=0":              Zstd,
		"zstd;q=0, *":                    Brotli,
		"*;q=0":                          Identity,
		"identity;q=0":                   Identity,
		"identity;q=1, gzip;q=0.5":       Identity,
		"identity;q=0.5, gzip":           Gzip,
		"gzip;q=2":                       Identity,
		"gzip;q=NaN":                     Identity,
		"gzip;q=":                        Identity,
		"gzip;level=9":                   Identity,
		", ,;, gzip ; q = 1.000 ,":       Gzip,
		"compress, bogus":                Identity,
		"identity, gzip":                 Gzip,
		strings.Repeat("x,", 1e3) + "br": Brotli,
		strings.Repeat("x,", 1e5) + "br": Identity,
	} {
		if got := Accepted([]string{accept}); got != want {
			t.Errorf("%.60q: %s, want %s", accept, got, want)
		}
	}
	if got := Accepted(nil); got != Identity {
		t.Error(got)
	}
	if got := Accepted([]string{"gzip", "br"}); got != Brotli {
		t.Errorf("two headers are one list: %s", got)
	}
}

func decode(t *testing.T, c Coding, body []byte) []byte {
	t.Helper()
	var r io.Reader = bytes.NewReader(body)
	switch c {
	case Zstd:
		z, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(zstdWindow))
		if err != nil {
			t.Fatal(err)
		}
		defer z.Close()
		r = z
	case Brotli:
		r = brotli.NewReader(r)
	case Gzip:
		z, err := gzip.NewReader(r)
		if err != nil {
			t.Fatal(err)
		}
		r = z
	}
	raw, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("%s: %v", c, err)
	}
	return raw
}

func TestBodiesComeBackAsTheyWere(t *testing.T) {
	e, err := NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	page := []byte(strings.Repeat("<li class=product><a href=/products/kettle>Gooseneck kettle</a></li>\n", 1000))
	var callers sync.WaitGroup
	for _, body := range [][]byte{page, bytes.Repeat([]byte{0}, 10<<20), page[:worthwhile]} {
		for c := Zstd; c < Count; c++ {
			callers.Go(func() {
				encoded := e.Encode(c, body)
				if len(encoded) == 0 || len(encoded) >= len(body) {
					t.Errorf("%s made %d bytes of %d", c, len(encoded), len(body))
				} else if !bytes.Equal(decode(t, c, encoded), body) {
					t.Errorf("%s: another body came back", c)
				}
			})
		}
	}
	callers.Wait()
	noise := e.Encode(Brotli, page) // cannot become smaller again
	for c := range Coding(Count) {
		if e.Encode(c, noise) != nil || e.Encode(c, page[:worthwhile-1]) != nil || e.Encode(c, nil) != nil {
			t.Errorf("%s: not worth it", c)
		}
	}
}

func FuzzAccepted(f *testing.F) {
	f.Add("gzip;q=0.5, *;q=0, br")
	f.Add("zstd;;;q=1,,identity;q=0")
	f.Fuzz(func(t *testing.T, accept string) {
		got := Accepted([]string{accept})
		if got >= Count {
			t.Fatal(got)
		}
		if lower := strings.ToLower(accept); got != Identity && !strings.Contains(lower, got.String()) && !strings.Contains(lower, "*") {
			t.Errorf("%q does not take %s", accept, got)
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	e, err := NewEncoder()
	if err != nil {
		b.Fatal(err)
	}
	page := []byte(strings.Repeat("<li class=product><a href=/products/kettle>Gooseneck kettle</a></li>\n", 700))
	for c := Zstd; c < Count; c++ {
		b.Run(c.String(), func(b *testing.B) {
			b.SetBytes(int64(len(page)))
			for b.Loop() {
				e.Encode(c, page)
			}
		})
	}
}
