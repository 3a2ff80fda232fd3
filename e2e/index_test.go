package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/rewarm/rewarm/examples"
	"github.com/rewarm/rewarm/internal/app"
	"github.com/rewarm/rewarm/internal/index"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
	"github.com/rewarm/rewarm/internal/worker"
)

// deploySite deploys a release of the example as a shop with so many products,
// half of which its sitemap lists; links lead to the others.
func (f *fleet) deploySite(release string, products int) words.Token {
	f.t.Helper()
	f.write(release)
	type product struct {
		ID      string  `json:"id"`
		Name    string  `json:"name"`
		Icon    string  `json:"icon"`
		Hue     int     `json:"hue"`
		Price   float64 `json:"price"`
		Tagline string  `json:"tagline"`
		Text    string  `json:"text"`
	}
	var all []product
	var sitemap bytes.Buffer
	sitemap.WriteString("<urlset>")
	for i := range products {
		p := product{ID: fmt.Sprintf("p%d", i), Name: fmt.Sprintf("Product %d", i), Hue: i % 360, Price: float64(i) + 1, Tagline: "One of many", Text: "It is one of many."}
		all = append(all, p)
		if i%2 == 0 {
			fmt.Fprintf(&sitemap, "<url><loc>%s/products/%s</loc></url>", f.up.RealmURL(), p.ID)
		}
	}
	sitemap.WriteString("</urlset>")
	data, err := json.Marshal(all)
	if err != nil {
		f.t.Fatal(err)
	}
	for name, content := range map[string][]byte{"data/products.json": data, "sitemap.xml": sitemap.Bytes()} {
		if err := os.WriteFile(filepath.Join(f.host, filepath.FromSlash(name)), content, 0o644); err != nil {
			f.t.Fatal(err)
		}
	}
	return f.accept(release)
}

// sitePages are the paths of a site with so many products.
func sitePages(products int) []string {
	paths := []string{"/", "/about", "/products"}
	for i := range products {
		paths = append(paths, fmt.Sprintf("/products/p%d", i))
	}
	slices.Sort(paths)
	return paths
}

// counted is how many pages of a release are stored, -1 while the store is away.
func (f *fleet) counted(token words.Token) int {
	n, err := f.store.CountSnapshots(f.t.Context(), f.up.RealmURL(), token)
	if err != nil {
		return -1
	}
	return n
}

// indexed waits until every page of a site is stored under a release and no job
// is left.
func (f *fleet) indexed(token words.Token, pages []string) {
	f.t.Helper()
	f.until(fmt.Sprintf("%d pages of %s are stored", len(pages), f.nameOf(token)), func() bool {
		left, err := f.store.PendingJobs(f.t.Context(), f.up.RealmURL())
		return err == nil && left == 0 && f.counted(token) >= len(pages)
	})
	stored, err := f.store.Snapshots(f.t.Context(), f.up.RealmURL(), token)
	if err != nil {
		f.t.Fatal(err)
	}
	paths := make([]string, 0, len(stored))
	for _, s := range stored {
		paths = append(paths, strings.TrimPrefix(s.URL, f.up.RealmURL()))
	}
	slices.Sort(paths)
	if !slices.Equal(paths, pages) {
		f.t.Errorf("stored under %s: %q, want %q", f.nameOf(token), paths, pages)
	}
}

// judgeIndex reads every snapshot of a release: its text names that release.
func (f *fleet) judgeIndex(token words.Token) {
	f.t.Helper()
	stored, err := f.store.Snapshots(f.t.Context(), f.up.RealmURL(), token)
	if err != nil {
		f.t.Fatal(err)
	}
	for _, s := range stored {
		full, found, err := f.store.Snapshot(f.t.Context(), f.up.RealmURL(), token, s.URL)
		if err != nil || !found {
			f.t.Fatalf("%s: %t, %v", s.URL, found, err)
		}
		if named := examples.ReleasesIn(full.HTML); len(named) != 1 || named[0] != f.nameOf(token) {
			f.t.Errorf("%s is stored under %s and names %v", s.URL, f.nameOf(token), named)
		}
		if full.HTTPStatus != http.StatusOK {
			f.t.Errorf("%s: status %d", s.URL, full.HTTPStatus)
		}
	}
}

// TestW26_ADeployInTheMiddleOfAnIndexOfFiveHundredPages: what is stored of each
// release is its own, and the newest has every page, though nobody asked.
func TestW26_ADeployInTheMiddleOfAnIndexOfFiveHundredPages(t *testing.T) {
	const products = 500
	f := startFleet(t, func(o *app.UpOptions) { o.Worker = &worker.Options{Rate: 10_000, Concurrency: 3} })
	first := f.deploySite("r1", products)
	f.until("some pages of r1 are stored", func() bool { return f.counted(first) > 50 })
	second := f.deploySite("r2", products)
	if f.counted(first) >= products {
		t.Fatal("the index was done before the deploy")
	}
	f.indexed(second, sitePages(products))
	f.judgeIndex(first)
	f.judgeIndex(second)
	header, body := f.get("/products/p499")
	if header.Get(wire.HeaderSnapshot) != "hit" || !strings.Contains(body, "Product 499") {
		t.Errorf("a visitor of an indexed page gets a %s", header.Get(wire.HeaderSnapshot))
	}
	worker := func(name string) int { return int(f.metricOf(f.up.ManagerURL(), "rewarm_worker_"+name)) }
	stored, rendered := worker(`pages_total{class="deploy",outcome="stored"}`), worker(`render_seconds_count{outcome="rendered"}`)
	if stored < products || rendered < stored || worker(`jobs_pending{class="deploy"}`) != 0 || worker("release_sequence") != int(f.rollout().Release.Sequence) {
		t.Errorf("the worker's metrics: %d pages stored, %d rendered, %d jobs pending, release %d", stored, rendered, worker(`jobs_pending{class="deploy"}`), worker("release_sequence"))
	}
}

// renderCounter stands before the manager and counts what a worker had rendered.
type renderCounter struct {
	*httptest.Server
	mu    sync.Mutex
	pages map[string]int
}

func countRenders(t *testing.T, manager string) *renderCounter {
	t.Helper()
	target, err := url.Parse(manager)
	if err != nil {
		t.Fatal(err)
	}
	c := &renderCounter{pages: map[string]int{}}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) },
		ModifyResponse: func(r *http.Response) error {
			if r.StatusCode == http.StatusCreated { // refused is not rendered
				c.count(r.Request)
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			c.count(r) // how far it was nobody knows
			w.WriteHeader(http.StatusBadGateway)
		},
	}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // its caller is gone
		}
		var doc wire.Document[wire.VisitRequest]
		if r.URL.Path == "/prerender-visit" && json.Unmarshal(body, &doc) == nil {
			r.Header.Set("X-Page", doc.Data.Attributes.URL)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *renderCounter) count(r *http.Request) {
	if page := r.Header.Get("X-Page"); page != "" {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.pages[page]++
	}
}

// most is the page that was rendered most often.
func (c *renderCounter) most() (page string, renders int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for p, n := range c.pages {
		if n > renders {
			page, renders = p, n
		}
	}
	return page, renders
}

func (f *processes) startWorker(manager string) *process {
	f.t.Helper()
	return start(f.t, quick, "worker", "--manager-url", manager, "--nats", "nats://"+f.natsAddr,
		"--rate", "10000", "--secret", secret)
}

// TestNothingIsLostWhenRolesAreKilledInAnIndex: the worker, the realm server,
// and the manager with the store are killed one after the other.
func TestNothingIsLostWhenRolesAreKilledInAnIndex(t *testing.T) {
	const products = 300
	f := startProcesses(t, 1)
	counter := countRenders(t, f.up.ManagerURL())
	w := f.startWorker(counter.URL)
	token := f.deploySite("r1", products)
	some := func(n int) {
		f.until(fmt.Sprintf("%d pages are stored", n), func() bool { return f.counted(token) >= n })
	}
	some(30)
	w.signal(syscall.SIGKILL)
	w.wait()
	before := f.counted(token)
	if before >= products {
		t.Fatal("the index was done before anything was killed")
	}
	w = f.startWorker(counter.URL)
	some(before + 30)
	f.realm.signal(syscall.SIGKILL)
	f.realm.wait()
	f.startRealm()
	some(before + 60)
	f.manager.signal(syscall.SIGKILL)
	f.manager.wait()
	f.startManager()
	f.indexed(token, sitePages(products))
	f.judgeIndex(token)
	if page, renders := counter.most(); renders > index.MaxRenders {
		t.Errorf("%s was rendered %d times, %d at most", page, renders, index.MaxRenders)
	}
	if dead, err := f.store.Failures(t.Context(), f.up.RealmURL(), token); err != nil || len(dead) > 0 {
		t.Errorf("given up: %+v, %v", dead, err)
	}
	w.signal(syscall.SIGTERM)
	if code := w.wait(); code != 0 {
		t.Errorf("worker: exit code %d", code)
	}
}
