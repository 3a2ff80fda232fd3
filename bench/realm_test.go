package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// hitPath is the page of the example that is asked for again and again.
const hitPath = "/products"

// measureRealm is the realm server on a page that it has prerendered, beside
// nginx with the same bytes in a file.
func measureRealm(b *testing.B, f *fleet, r *report) {
	page, err := f.hit(b)
	if err != nil {
		b.Fatal(err)
	}
	ask := func(base, accept string, size int) func(context.Context, string) error {
		return newLeanClient(b, base, hitPath, "Accept-Encoding: "+accept+"\r\n").ask(size)
	}
	paths := []string{hitPath}
	ourUsage := func() usage { return usageOf(f.group) } // without Chrome, which has nothing to do
	ours := &turns{candidate: candidate{"rewarm realm-server", paths, ask(f.realm, "identity", len(page)), ourUsage}}
	all := []*turns{ours}
	dir := b.TempDir()
	if err := os.WriteFile(filepath.Join(dir, hitPath), []byte(page), 0o644); err != nil {
		b.Fatal(err)
	}
	base, nginx, err := startNginx(b, fmt.Sprintf("root %s; sendfile on; tcp_nopush on; open_file_cache max=100; default_type text/html; location = /alive { return 200; }", dir))
	if err != nil {
		r.skip("nginx", err)
	} else {
		all = append(all, &turns{candidate: candidate{"nginx, the same bytes in a file", paths, ask(base, "identity", len(page)), func() usage { return usageOf(nginx.group) }}})
	}
	all = append(all, &turns{candidate: candidate{"rewarm realm-server, zstd", paths, ask(f.realm, "zstd", 0), ourUsage}})
	takeTurns(b, all)
	title := fmt.Sprintf("The realm server on a prerendered page of %.1f KB, %d callers", float64(len(page))/1e3, proxyCallers)
	r.requests(title, all)
	if nginx != nil {
		peer := all[1]
		r.bar("snapshot hits a second, of nginx's with a file", median(ours.rates)/median(peer.rates), 0.7, atLeast)
		r.bar("snapshot hits, p99, in times of nginx's", ms(quantile(ours.all, 0.99))/ms(quantile(peer.all, 0.99)), 2, atMost)
	}
}

// hit is the page as it is served once it is prerendered.
func (f *fleet) hit(b *testing.B) (page string, err error) {
	err = until(b.Context(), hitPath+" is a hit", func() (bool, error) {
		answer, err := f.http.Get(f.realm + hitPath)
		if err != nil {
			return false, err
		}
		_ = answer.Body.Close()
		return answer.Header.Get("X-Rewarm-Snapshot") == "hit", errors.New("it is a " + answer.Header.Get("X-Rewarm-Snapshot"))
	})
	if err != nil {
		return "", err
	}
	if page, err = fetch(b.Context(), f.http, f.realm+hitPath); err != nil {
		return "", err
	}
	return page, f.check(hitPath, page)
}
