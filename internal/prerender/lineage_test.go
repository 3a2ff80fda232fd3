package prerender

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rewarm/rewarm/internal/pool"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// asking has the pages of w ask for other renders, as their backend would, and
// show what those say: needs names for each path the ones it is made of.
func asking(w *world, needs map[string][]string) {
	w.set(func() {
		w.render = func(ctx context.Context, p *fakePage, visit words.Visit) (words.Capture, error) {
			path := strings.TrimPrefix(visit.URL, w.realm.URL)
			html := []string{path}
			for _, part := range needs[path] {
				a, err := w.ask(ctx, part, map[string]string{wire.HeaderRequestID: visit.Carry})
				if err != nil {
					return words.Capture{}, err
				}
				shown := a.doc.Data.Attributes.HTML
				if a.status != http.StatusCreated {
					shown = a.body
				}
				html = append(html, fmt.Sprintf("(%d %s)", a.status, shown))
			}
			return words.Capture{Status: words.StatusReady, HTML: strings.Join(html, ""), Token: p.token}, nil
		}
	})
}

func (w *world) ask(ctx context.Context, path string, header map[string]string) (answer, error) {
	return w.post(ctx, fmt.Sprintf(`{"data":{"attributes":{"url":"%s%s"}}}`, w.realm.URL, path), header)
}

func onePage(o *Options) { o.Pool = pool.Options{Size: 1} }

func (w *world) untilWarm() {
	w.t.Helper()
	w.until("a page is warm", func() bool { return w.server.keeper.status().Idle == 1 })
}

// What a page waits for is rendered though the only page is the one that waits,
// however deep, and beside others that wait for their turn.
func TestF04_RenderThatAPageWaitsForIsNotQueuedBehindIt(t *testing.T) {
	w := newWorld(t, onePage)
	asking(w, map[string][]string{"/a": {"/b", "/c", "/c"}, "/b": {"/c"}, "/c": {"/d"}})
	w.untilWarm()
	want := "/a(201 /b(201 /c(201 /d)))(201 /c(201 /d))(201 /c(201 /d))"
	answers := make(chan answer, 3)
	for range cap(answers) {
		go func() {
			a, err := w.ask(t.Context(), "/a", map[string]string{wire.HeaderRequestID: "abc"}) // an id used twice is no cycle
			if err != nil {
				t.Error(err)
			}
			answers <- a
		}()
	}
	for range cap(answers) {
		if a := <-answers; a.status != http.StatusCreated || a.doc.Data.Attributes.HTML != want {
			t.Errorf("%d %s, want %s", a.status, a.body, want)
		}
	}
	w.until("the pool has its size again", func() bool { s := w.server.keeper.status(); return s.Capacity == 1 && s.Idle == 1 })
}

// A render that waits for itself is refused at once, and the error says who
// waits for whom; it is a 4xx, so nobody tries another server.
func TestF04_CycleIsNamed(t *testing.T) {
	for name, c := range map[string]struct {
		needs map[string][]string
		says  string
	}{
		"by way of another": {map[string][]string{"/a": {"/b"}, "/b": {"/a"}}, `{"status":422,"message":"wait-for cycle: /a -> /b -> /a"}`},
		"itself":            {map[string][]string{"/a": {"/a"}}, `{"status":422,"message":"wait-for cycle: /a -> /a"}`},
		"below":             {map[string][]string{"/a": {"/b"}, "/b": {"/c"}, "/c": {"/b"}}, `"wait-for cycle: /b -> /c -> /b"`},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, onePage)
			asking(w, c.needs)
			w.untilWarm()
			a, err := w.ask(t.Context(), "/a", nil)
			if err != nil || a.status != http.StatusCreated || !strings.Contains(a.doc.Data.Attributes.HTML, c.says) {
				t.Errorf("%v %d %s", err, a.status, a.doc.Data.Attributes.HTML)
			}
		})
	}
}

// Where the chain left this server it still finds its way back as one, and one
// without an end has one all the same.
func TestF04_ChainOverOtherServers(t *testing.T) {
	w := newWorld(t, onePage)
	w.untilWarm()
	release := make(chan struct{})
	w.set(func() {
		whole := w.render
		w.render = func(ctx context.Context, p *fakePage, visit words.Visit) (words.Capture, error) {
			if strings.HasSuffix(visit.URL, "/a") {
				<-release
			}
			return whole(ctx, p, visit)
		}
	})
	outer := make(chan answer, 1)
	go func() {
		a, err := w.ask(t.Context(), "/a", map[string]string{wire.HeaderRequestID: "abc"})
		if err != nil {
			t.Error(err)
		}
		outer <- a
	}()
	w.until("the first render runs", func() bool { return w.server.keeper.status().Idle == 0 })
	elsewhere := wire.Descendant(wire.Descendant("abc", 1), 2)
	for path, want := range map[string]string{"/b": "", "/a": "wait-for cycle: /a -> ... -> /a"} {
		a, err := w.ask(t.Context(), path, map[string]string{wire.HeaderRequestID: elsewhere})
		if err != nil || want == "" && a.status != http.StatusCreated || want != "" && (a.status != 422 || !strings.Contains(a.body, want)) {
			t.Errorf("%s from elsewhere: %v %d %s", path, err, a.status, a.body)
		}
	}
	deep := "abc"
	for range maxDepth + 1 {
		deep = wire.Descendant(deep, 3)
	}
	if a, err := w.ask(t.Context(), "/e", map[string]string{wire.HeaderRequestID: deep}); err != nil || a.status != 422 || !strings.Contains(a.body, "9 renders wait for this one") {
		t.Errorf("too deep: %v %d %s", err, a.status, a.body)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if a, err := w.ask(ctx, "/f", map[string]string{wire.HeaderRequestID: wire.Descendant("of-none-here", 1), wire.HeaderBudget: "300"}); err != nil || a.status != http.StatusServiceUnavailable {
		t.Errorf("what waits for no page of ours has no page of its own: %v %d %s", err, a.status, a.body)
	}
	close(release)
	if a := <-outer; a.status != http.StatusCreated {
		t.Errorf("the first render: %d %s", a.status, a.body)
	}
}
