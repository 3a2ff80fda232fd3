package web_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/web"
)

func metricsServer(t *testing.T, addr string, guard web.Guard) (*web.MetricsServer, error) {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "rewarm_answer"}, func() float64 { return 42 }))
	return web.NewMetricsServer(web.MetricsOptions{Command: "x", Addr: addr, Guard: guard, Gatherer: registry, Log: slog.New(slog.DiscardHandler)})
}

func freeAddr(t *testing.T) string {
	t.Helper()
	free, err := web.Listen("x", "--addr", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	return free.Addr().String()
}

func TestMetricsServerAnswersUntilItsContextEnds(t *testing.T) {
	addr := freeAddr(t)
	server, err := metricsServer(t, addr, web.Guard{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for path, want := range map[string]string{"/metrics": "200 # HELP rewarm_answer \n# TYPE rewarm_answer gauge\nrewarm_answer 42\n", "/livez": `200 {"live":true}`, "/x": `404 {"errors":[{"status":404,"message":"Not found"}]}`} {
		response, err := client.Get("http://" + addr + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if got := response.Status[:4] + string(body); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", path, got, err, want)
		}
	}
	stop()
	if err := errors.Join(<-ended, server.Close()); err != nil {
		t.Errorf("it ended with %v", err)
	}
	if conn, err := net.Dial("tcp", addr); err == nil {
		_ = conn.Close()
		t.Error("it still listens")
	}
}

func TestMetricsServerThatNeverRanFreesItsAddress(t *testing.T) {
	addr := freeAddr(t)
	for range 2 { // the second time it would be in use
		server, err := metricsServer(t, addr, web.Guard{})
		if err != nil {
			t.Fatal(err)
		}
		if err := server.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestMetricsServerIsNotOpenToOthersByMistake(t *testing.T) {
	_, err := metricsServer(t, "0.0.0.0:0", web.Guard{})
	if fault.ExitCode(err) != 2 || !strings.Contains(err.Error(), "x: --metrics-addr 0.0.0.0:0") {
		t.Errorf("%v", err)
	}
	server, err := metricsServer(t, "0.0.0.0:0", web.Guard{Secrets: []string{"s"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Close(); err != nil {
		t.Error(err)
	}
}

// Without an address it is there, and does nothing.
func TestMetricsServerWithoutAnAddressWaits(t *testing.T) {
	server, err := metricsServer(t, "", web.Guard{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := errors.Join(server.Run(ctx), server.Close()); err != nil {
		t.Error(err)
	}
}
