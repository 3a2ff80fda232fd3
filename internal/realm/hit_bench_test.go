package realm

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/rewarm/rewarm/internal/client"
	"github.com/rewarm/rewarm/internal/wire"
)

// BenchmarkHit is a hit from memory without the connection.
func BenchmarkHit(b *testing.B) {
	s := hot(b)
	r := httptest.NewRequest(http.MethodGet, "/products", nil)
	r.Header.Set("Accept-Encoding", "gzip, deflate, br, zstd")
	w := &nowhere{header: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		clear(w.header)
		s.handler.ServeHTTP(w, r)
	}
	if w.code != http.StatusOK {
		b.Error(w.code)
	}
}

type nowhere struct {
	header http.Header
	code   int
}

func (n *nowhere) Header() http.Header         { return n.header }
func (n *nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (n *nowhere) WriteHeader(code int)        { n.code = code }

// hot is a server with a page in memory.
func hot(b *testing.B) *Server {
	b.Helper()
	o, f, _ := rendering(b)
	f.visited = func(_ wire.VisitRequest, call client.Call) (client.VisitAnswer, error) {
		return ready(call.Pin, longText), nil
	}
	s, _ := start(b, o)
	get(b, s, "/products")
	hit(b, s, "/products")
	return s
}
