package prerender

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// says reports whether the server's metrics have the line.
func (w *world) says(line string) bool {
	w.t.Helper()
	response, err := http.Get("http://" + w.server.Addr().String() + "/metrics")
	if err != nil {
		w.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return strings.Contains(string(body), "\n"+line+"\n")
}

// A page that has grown too large is replaced, warm first, and the log and the
// metrics say why.
func TestGrownPageIsReplaced(t *testing.T) {
	w := newWorld(t, nil)
	w.untilFresh(shell1)
	w.visit(nil)
	w.mu.Lock()
	for _, p := range w.pages {
		p.memory.Store(1 << 40)
	}
	w.mu.Unlock()
	w.server.weigh(t.Context())
	w.until("the page that rendered is replaced", func() bool { return w.says(`rewarm_prerender_pages_closed_total{reason="memory"} 1`) })
	w.untilFresh(shell1)
	if a := w.visit(nil); a.status != http.StatusCreated {
		t.Fatalf("answer %d %s", a.status, a.body)
	}
	if n := w.starts.Load(); n != 1 {
		t.Errorf("chrome was started %d times", n)
	}
}
