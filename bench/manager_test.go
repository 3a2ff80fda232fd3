package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rewarm/rewarm/internal/wire"
)

// answerBytes is the size of a proxied answer, that of a usual page.
const answerBytes = 50_000

// proxyCallers is how many callers a proxy has at once.
const proxyCallers = 16

// beatEvery is well within the manager's heartbeat timeout.
const beatEvery = 5 * time.Second

// stubServer is a prerender server that has its answer ready.
func stubServer(tb testing.TB) string {
	answer := []byte(`{"data":{"type":"prerender-visit-result","id":"x","attributes":{"status":"ready","html":"` +
		strings.Repeat("<p>text</p>", answerBytes/11) + `"}}}`)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", wire.ContentTypeJSONAPI)
		w.Header().Set("Content-Length", fmt.Sprint(len(answer)))
		if r.Method == http.MethodPost {
			w.WriteHeader(http.StatusCreated)
		}
		_, _ = w.Write(answer)
	}))
	tb.Cleanup(server.Close)
	tb.Cleanup(server.CloseClientConnections)
	return server.URL
}

// startManager starts a manager to which the stub is a prerender server.
func startManager(tb testing.TB, rewarm, stub string) (string, *process, error) {
	base := fmt.Sprintf("http://127.0.0.1:%d", freePort(tb))
	p, err := start(tb, command{name: "rewarm prerender-manager", path: rewarm, args: []string{
		"prerender-manager", "--log-format", "json", "--addr", strings.TrimPrefix(base, "http://"), "--data", tb.TempDir(),
	}})
	if err != nil {
		return "", nil, err
	}
	client := newHTTPClient(tb)
	beat := func() error {
		body := fmt.Sprintf(`{"data":{"type":"prerender-server","attributes":{"url":%q,"capacity":64}}}`, stub)
		request, err := http.NewRequestWithContext(context.Background(), http.MethodPost, base+"/prerender-servers", strings.NewReader(body))
		if err == nil {
			_, err = send(client, request, http.StatusNoContent)
		}
		return err
	}
	err = until(tb.Context(), "the manager takes a heartbeat", func() (bool, error) {
		err := beat()
		return err == nil, errors.Join(err, p.ended())
	})
	var beating sync.WaitGroup
	ctx, stop := context.WithCancel(context.Background())
	beating.Go(func() {
		for pause(ctx, beatEvery); ctx.Err() == nil; pause(ctx, beatEvery) {
			_ = beat()
		}
	})
	tb.Cleanup(func() { stop(); beating.Wait() })
	return base, p, err
}

// measureManager is the manager as a proxy, beside nginx and no proxy at all.
func measureManager(b *testing.B, rewarm string, r *report) {
	stub, client := stubServer(b), newHTTPClient(b)
	var number atomic.Int64
	ask := func(base string) func(context.Context, string) error {
		return func(ctx context.Context, _ string) error {
			// Each is another page: a manager renders equal ones once.
			body := fmt.Appendf(nil, `{"data":{"attributes":{"url":"http://127.0.0.1/%d","affinityType":"realm","affinityValue":"http://127.0.0.1/"}}}`, number.Add(1))
			request, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/prerender-visit", bytes.NewReader(body))
			if err != nil {
				return err
			}
			answer, err := send(client, request, http.StatusCreated)
			if err == nil && len(answer) < answerBytes-1000 {
				err = fmt.Errorf("only %d bytes came", len(answer))
			}
			return err
		}
	}
	base, process, err := startManager(b, rewarm, stub)
	if err != nil {
		b.Fatal(err)
	}
	one := []string{"/"} // all answer the same to anything
	all := []*turns{
		{candidate: candidate{"no proxy", one, ask(stub), func() usage { return usage{} }}},
		{candidate: candidate{"rewarm prerender-manager", one, ask(base), func() usage { return usageOf(process.group) }}},
	}
	if base, nginx, err := startNginx(b, fmt.Sprintf(nginxProxy, strings.TrimPrefix(stub, "http://"))); err != nil {
		r.skip("nginx", err)
	} else {
		all = append(all, &turns{candidate: candidate{"nginx", one, ask(base), func() usage { return usageOf(nginx.group) }}})
	}
	takeTurns(b, all)
	r.requests("The manager on an answer of 50 KB, 16 callers", all)
}

// takeTurns runs all in turn with [proxyCallers]; the first round only warms up.
func takeTurns(b *testing.B, all []*turns) {
	for range 1 + rounds {
		for _, t := range all {
			t.take(b.Context(), proxyCallers, turn)
		}
	}
	for _, t := range all {
		if len(t.p50s) > rounds {
			t.p50s, t.rates, t.cpus = t.p50s[1:], t.rates[1:], t.cpus[1:]
		}
	}
}

// requests makes a table of what answers requests.
func (r *report) requests(title string, all []*turns) {
	table := r.table(title, "", "p50 ms", "p99 ms", "requests/s", "CPU ms a request", "RSS MB", "requests", "failed")
	for _, t := range all {
		table.row(t.name, fineSpread(t.p50s), fmt.Sprintf("%.1f", ms(quantile(t.all, 0.99))), spread(t.rates), fineSpread(t.cpus),
			fmt.Sprintf("%.0f", float64(t.usage().rss)/1e6), fmt.Sprint(len(t.all)), fmt.Sprint(len(t.failed)))
		for _, err := range t.failed[:min(1, len(t.failed))] {
			r.note("%s failed %d times, first: %v", t.name, len(t.failed), err)
		}
	}
}
