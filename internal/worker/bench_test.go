package worker

import (
	"fmt"
	"testing"
)

// BenchmarkIndex says what a page costs the worker and the store, beside its
// render, in a small realm and in a large one: it must be the same.
func BenchmarkIndex(b *testing.B) {
	for _, pages := range []int{1000, 10_000} {
		b.Run(fmt.Sprint(pages), func(b *testing.B) {
			for b.Loop() {
				r := newRig(b)
				paths := make([]string, pages)
				for i := range paths {
					paths[i] = fmt.Sprintf("/p%d", i)
					// Each leads to a hundred others, as a shop's pages do.
					for j := range 100 {
						r.links[paths[i]] = append(r.links[paths[i]], fmt.Sprintf("/p%d", (i+j*97)%pages))
					}
				}
				r.files["/sitemap.xml"] = sitemapOf(r.realm.URL, paths...)
				r.start(func(o *Options) { o.Rate = 1e9; o.Concurrency = 4 })
				r.until("all are rendered", func() bool {
					r.mu.Lock() // asking the store would be most of what is measured
					defer r.mu.Unlock()
					return len(r.renders) > pages
				})
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*pages), "µs/page")
		})
	}
}
