package cli

import (
	"context"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rewarm/rewarm/internal/bus"
	"github.com/rewarm/rewarm/internal/index"
	"github.com/rewarm/rewarm/internal/ledger"
)

func TestWorkerServesMetricsUntilItIsStopped(t *testing.T) {
	store, err := bus.Start(t.Context(), bus.Options{DataDir: t.TempDir(), Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	l, err := ledger.Open(t.Context(), store.Conn(), ledger.Options{})
	if err != nil {
		t.Fatal(err)
	}
	// It has no manager, so it does none of them.
	for _, path := range []string{"/a", "/b"} {
		if _, err := l.QueueJobs(t.Context(), index.Job{Class: index.Routine, Realm: "http://realm", URL: "http://realm" + path, Token: "t1", Sequence: 1}); err != nil {
			t.Fatal(err)
		}
	}
	var log said
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan int, 1)
	go func() {
		ended <- Main(ctx, []string{"worker", "--manager-url", "http://127.0.0.1:1", "--nats", "nats://" + store.Addr(), "--metrics-addr", "127.0.0.1:0"}, Streams{Out: io.Discard, Err: &log})
	}()
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	served := regexp.MustCompile(`metrics are served.* addr=(\S+)`)
	scrape := func() []string { // nil when it does not answer yet
		addr := served.FindStringSubmatch(log.String())
		if addr == nil {
			return nil
		}
		response, err := client.Get("http://" + addr[1] + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		return strings.Split(string(body), "\n")
	}
	bounded, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for _, want := range []string{
		`rewarm_worker_jobs_pending{class="routine"} 2`, `rewarm_worker_jobs_pending{class="miss"} 0`,
		`rewarm_worker_pages_total{class="deploy",outcome="dead"} 0`, `rewarm_worker_release_sequence 0`,
	} {
		for lines := scrape(); !slices.Contains(lines, want); lines = scrape() {
			select {
			case <-tick.C:
			case <-bounded.Done():
				t.Fatalf("%s is not in %s; %s", want, strings.Join(lines, "\n"), log.String())
			}
		}
	}
	stop()
	if code := <-ended; code != 0 {
		t.Errorf("exit %d: %s", code, log.String())
	}
}
