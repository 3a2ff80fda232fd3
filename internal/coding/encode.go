package coding

import (
	"bytes"
	"fmt"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Bodies are written once and sent often, so the levels are the highest that
// still write some ten megabytes a second.
const (
	zstdLevel   = zstd.SpeedBestCompression
	brotliLevel = 6
	gzipLevel   = 6
	// zstdWindow is the most that a browser must be able to read (RFC 9659).
	zstdWindow = 8 << 20
	// worthwhile is the size in bytes below which a body fits into the packets
	// that its headers need anyway.
	worthwhile = 512
)

// Encoder writes bodies in codings. It may be used by any number at a time.
type Encoder struct{ zstd *zstd.Encoder }

// NewEncoder returns an encoder.
func NewEncoder() (*Encoder, error) {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstdLevel), zstd.WithWindowSize(zstdWindow), zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, fmt.Errorf("coding: zstd: %w", err)
	}
	return &Encoder{z}, nil
}

// Encode returns body in the coding, nil when the body itself is as good: it
// is small, or would not become smaller. The same input gives the same bytes.
func (e *Encoder) Encode(c Coding, body []byte) []byte {
	if len(body) < worthwhile || c == Identity {
		return nil
	}
	var out bytes.Buffer
	switch c {
	case Zstd:
		out.Write(e.zstd.EncodeAll(body, nil))
	case Brotli:
		w := brotli.NewWriterLevel(&out, brotliLevel)
		_, _ = w.Write(body) // to a buffer, which takes everything
		_ = w.Close()
	case Gzip:
		w, _ := gzip.NewWriterLevel(&out, gzipLevel) // a level that there is
		_, _ = w.Write(body)
		_ = w.Close()
	}
	if out.Len() >= len(body) {
		return nil
	}
	return bytes.Clone(out.Bytes()) // without the buffer's spare room
}
