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
// nginx with the same bytes in a file. Two clients ask: Go's, as whatever stands
// before a realm server costs something too, and a lean one, for which it is the
// server alone that counts.
func measureRealm(b *testing.B, f *fleet, r *report) {
	page, err := f.hit(b)
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	if err := os.WriteFile(filepath.Join(dir, hitPath), []byte(page), 0o644); err != nil {
		b.Fatal(err)
	}
	client := newHTTPClient(b)
	usual := func(base string) func(context.Context, string) error {
		return func(ctx context.Context, path string) error {
			got, err := fetch(ctx, client, base+path)
			if err == nil && got != page {
				err = fmt.Errorf("not the page: %.300s", got)
			}
			return err
		}
	}
	lean := func(base, accept string, size int) func(context.Context, string) error {
		return newLeanClient(b, base, hitPath, "Accept-Encoding: "+accept+"\r\n").ask(size)
	}
	var all []*turns
	add := func(name string, ask func(context.Context, string) error, group int) *turns {
		t := &turns{candidate: candidate{name, []string{hitPath}, ask, func() usage { return usageOf(group) }}}
		all = append(all, t)
		return t
	}
	// The group is without Chrome, which has nothing to do.
	ours := add("rewarm realm-server", usual(f.realm), f.group)
	oursLean := add("rewarm realm-server, lean client", lean(f.realm, "identity", len(page)), f.group)
	add("rewarm realm-server, lean client, zstd", lean(f.realm, "zstd", 0), f.group)
	base, nginx, err := startNginx(b, fmt.Sprintf("root %s; sendfile on; tcp_nopush on; open_file_cache max=100; default_type text/html; location = /alive { return 200; }", dir))
	if err != nil {
		r.skip("nginx", err)
		takeTurns(b, all)
	} else {
		peer := add("nginx, the same bytes in a file", usual(base), nginx.group)
		peerLean := add("nginx, the same bytes in a file, lean client", lean(base, "identity", len(page)), nginx.group)
		takeTurns(b, all)
		r.bar("snapshot hits a second, of nginx's with a file", median(ours.rates)/median(peer.rates), 0.7, atLeast)
		r.bar("snapshot hits, p99, in times of nginx's", ms(quantile(ours.all, 0.99))/ms(quantile(peer.all, 0.99)), 2, atMost)
		r.note("Asked by a client that costs next to nothing, snapshot hits are %.2f of nginx's, with %.1f times its p99.",
			median(oursLean.rates)/median(peerLean.rates), ms(quantile(oursLean.all, 0.99))/ms(quantile(peerLean.all, 0.99)))
	}
	r.requests(fmt.Sprintf("The realm server on a prerendered page of %.1f KB, %d callers", float64(len(page))/1e3, proxyCallers), all)
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
