package worker

import (
	"context"
	"testing"

	"github.com/rewarm/rewarm/internal/ledger"
)

// Pages below an inner realm are that realm's alone, whatever leads to them.
func TestPagesOfAnInnerRealmAreNotIndexedInTheOuterOne(t *testing.T) {
	r := newRig(t)
	r.inner = []string{r.realm.URL + "/shop"}
	r.files["/sitemap.xml"] = sitemapOf(r.realm.URL, "/a", "/shop/b", "/shopping")
	r.files["/shop/sitemap.xml"] = sitemapOf(r.realm.URL, "/a", "/shop/b")
	r.links["/a"] = []string{"/shop/c", "/shop", "/d"}
	r.links["/shop/b"] = []string{"/a", "/shop/c", "/shop/_modules"}
	r.start(nil)
	r.idle(1)
	r.until("the inner realm is done", func() bool {
		n, err := r.store.PendingJobs(t.Context(), r.inner[0])
		return err == nil && n == 0 && len(r.storedIn(r.inner[0], "t1")) >= 3
	})
	r.equal(r.stored("t1"), "/", "/a", "/d", "/shopping")
	r.equal(r.storedIn(r.inner[0], "t1"), "/shop/", "/shop/b", "/shop/c")
}

func TestRealmsAreIndexedAsEachIsToBe(t *testing.T) {
	r := newRig(t)
	r.inner = []string{r.realm.URL + "/shop"}
	r.links["/"] = []string{"/?page=2"}
	r.links["/shop/"] = []string{"/shop/?page=2"}
	r.start(func(o *Options) {
		o.Routes, o.QueryAllow = []string{"/about"}, []string{"page"}
		o.Site = func(realm string) Site {
			if realm == r.inner[0] {
				return Site{Routes: []string{"/sale"}, QueryAllow: []string{}}
			}
			return Site{}
		}
	})
	r.idle(1)
	r.until("the inner realm is done", func() bool {
		n, err := r.store.PendingJobs(t.Context(), r.inner[0])
		return err == nil && n == 0 && len(r.storedIn(r.inner[0], "t1")) >= 2
	})
	r.equal(r.stored("t1"), "/", "/about", "/?page=2")
	r.equal(r.storedIn(r.inner[0], "t1"), "/shop/", "/shop/sale")
}

// What is still done for one realm keeps nobody from learning of another.
func TestARealmThatIsDoneIsToldWhileAnotherIsIndexed(t *testing.T) {
	r := newRig(t)
	r.inner = []string{r.realm.URL + "/shop"}
	r.files["/sitemap.xml"] = sitemapOf(r.realm.URL, "/a", "/b", "/")
	begun, done := make(chan struct{}), make(chan struct{})
	r.arrive = func(ctx context.Context, path string) {
		awaited := begun
		switch path {
		case "/shop/":
			close(begun)
			awaited = done
		case "/a": // it ends while the other realm's is rendered
		default:
			return
		}
		select {
		case <-awaited:
		case <-ctx.Done():
		}
	}
	r.start(nil)
	r.idle(1)
	r.told(ledger.Progress{Stored: 3})
	close(done)
}
