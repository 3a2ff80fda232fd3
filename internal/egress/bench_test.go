package egress

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
)

// What a page asks of its realm: a small answer, and a bundle.
func BenchmarkThroughProxy(b *testing.B) {
	realm := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		size, _ := strconv.Atoi(r.URL.Path[1:])
		_, _ = io.WriteString(w, strings.Repeat("x", size))
	}))
	defer realm.Close()
	w := newWorld(b, func(_ *world, o *Options) { o.Realms = []string{realm.URL} })
	for _, way := range []struct {
		name   string
		client *http.Client
	}{{"direct", &http.Client{Transport: &http.Transport{}}}, {"proxy", w.client(b)}} {
		for _, size := range []int{2 << 10, 300 << 10} {
			b.Run(fmt.Sprintf("%s/%dkB", way.name, size>>10), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					answer, err := way.client.Get(fmt.Sprintf("%s/%d", realm.URL, size))
					if err != nil {
						b.Fatal(err)
					}
					if n, err := io.Copy(io.Discard, answer.Body); err != nil || n != int64(size) {
						b.Fatal(n, err)
					}
					_ = answer.Body.Close()
				}
			})
		}
		way.client.CloseIdleConnections()
	}
}
