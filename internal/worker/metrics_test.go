package worker

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/rewarm/rewarm/internal/bus"
	"github.com/rewarm/rewarm/internal/client"
	"github.com/rewarm/rewarm/internal/index"
	"github.com/rewarm/rewarm/internal/ledger"
	"github.com/rewarm/rewarm/internal/words"
)

// measured is a worker that does nothing by itself, indexing release t1.
func (r *rig) measured() (*Worker, *prometheus.Registry) {
	r.t.Helper()
	registry := prometheus.NewRegistry()
	w, err := New(Options{Name: "w1", Manager: client.NewManager(r.manager.URL, ""), Store: r.store, Rate: 10_000, Registerer: registry})
	if err != nil {
		r.t.Fatal(err)
	}
	w.current.Store(&words.Release{Sequence: 7, Token: "t1"})
	return w, registry
}

// samples are the metrics that are not 0, of a histogram its count; and the jobs.
func samples(t *testing.T, g prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			var labels []string
			for _, pair := range m.GetLabel() {
				labels = append(labels, pair.GetValue())
			}
			name := strings.TrimPrefix(family.GetName(), "rewarm_worker_") + "{" + strings.Join(labels, ",") + "}"
			value := m.GetGauge().GetValue() + m.GetCounter().GetValue()
			if family.GetType() == dto.MetricType_HISTOGRAM {
				value = float64(m.GetHistogram().GetSampleCount())
			}
			if value != 0 || strings.HasPrefix(name, "jobs_pending") {
				all[name] = value
			}
		}
	}
	return all
}

// try queues a page and has the worker try it once.
func (r *rig) try(w *Worker, job index.Job) {
	r.t.Helper()
	job.Token, job.Sequence, job.QueuedAt = "t1", 1, time.Now()
	if _, err := r.store.QueueJobs(r.t.Context(), job); err != nil {
		r.t.Fatal(err)
	}
	for {
		queued, found, err := r.store.NextJob(r.t.Context(), job.Class)
		if err != nil || !found {
			r.t.Fatalf("no job for %s: %v", job.URL, err)
		}
		if queued.URL == job.URL {
			w.do(r.t.Context(), queued)
			return
		}
		if err := queued.Again(time.Hour); err != nil { // one that was tried and comes again
			r.t.Fatal(err)
		}
	}
}

func TestMetricsSayWhatCameOfEachTry(t *testing.T) {
	r := newRig(t)
	r.files["/robots.txt"] = "User-agent: *\nDisallow: /secret\n"
	r.render = func(path string, _ int) (int, words.Token) {
		switch path {
		case "/broken":
			return broken, "t1"
		case "/forbidden":
			return http.StatusForbidden, ""
		case "/busy":
			return http.StatusServiceUnavailable, ""
		case "/changed":
			return http.StatusConflict, ""
		}
		return 0, ""
	}
	w, registry := r.measured()
	for _, path := range []string{"/a", "/b", "/a", "/private", "/broken", "/forbidden", "/busy", "/changed"} {
		r.try(w, index.Job{Class: index.Miss, Realm: r.realm.URL, URL: r.realm.URL + path})
	}
	r.try(w, index.Job{Class: index.Deploy, Realm: r.realm.URL, URL: r.realm.URL + "/secret"})
	r.try(w, index.Job{Class: index.Routine, Realm: "http://127.0.0.1:1", URL: "http://127.0.0.1:1/"}) // without robots rules
	r.try(w, index.Job{Class: index.Routine, Realm: r.realm.URL, Run: 1})                              // a seed is no page; it queues the realm's
	want := map[string]float64{
		"pages_total{miss,stored}": 2, "pages_total{miss,fresh}": 1, "pages_total{miss,skipped}": 1, "pages_total{miss,failed}": 1,
		"pages_total{miss,dead}": 1, "pages_total{miss,refused}": 1, "pages_total{miss,overtaken}": 1,
		"pages_total{deploy,skipped}": 1, "pages_total{routine,held}": 1,
		"render_seconds{rendered}": 3, "render_seconds{failed}": 1, "render_seconds{hopeless}": 1, "render_seconds{refused}": 1, "render_seconds{overtaken}": 1,
		"release_sequence{}": 7,
	}
	got := samples(t, registry)
	maps.DeleteFunc(got, func(name string, _ float64) bool { return strings.HasPrefix(name, "jobs_pending") })
	if !maps.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

// A render that ends with the worker took no time that says anything.
func TestMetricsLeaveOutWhatEndedWithTheWorker(t *testing.T) {
	r := newRig(t)
	w, registry := r.measured()
	ctx, stop := context.WithCancel(t.Context())
	r.render = func(string, int) (int, words.Token) {
		stop()
		return http.StatusServiceUnavailable, ""
	}
	job := index.Job{Realm: r.realm.URL, URL: r.realm.URL + "/a", Token: "t1"}
	if got, _ := w.timed(ctx, job); got.outcome != index.Refused {
		t.Errorf("%+v", got)
	}
	if got := samples(t, registry); got["render_seconds{refused}"] != 0 {
		t.Errorf("%v", got)
	}
	r.render = nil
	if got, _ := w.timed(t.Context(), job); got.outcome != index.Done {
		t.Errorf("%+v", got)
	}
	if got := samples(t, registry); got["render_seconds{rendered}"] != 1 {
		t.Errorf("%v", got)
	}
}

func TestMetricsCountTheJobsOfTheStoreAndLeaveThemOutWhenItIsAway(t *testing.T) {
	b, err := bus.Start(t.Context(), bus.Options{DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t)
	if r.store, err = ledger.Open(t.Context(), b.Conn(), ledger.Options{}); err != nil {
		t.Fatal(err)
	}
	w, registry := r.measured()
	for n, class := range []index.Class{index.Deploy, index.Miss, index.Routine} { // one, two, three
		for i := range n + 1 {
			job := index.Job{Class: class, Realm: r.realm.URL, URL: fmt.Sprint(r.realm.URL, "/", i), Token: "t1"}
			if _, err := r.store.QueueJobs(t.Context(), job); err != nil {
				t.Fatal(err)
			}
		}
		if _, _, err := r.store.NextJob(t.Context(), class); err != nil {
			t.Fatal(err)
		}
	}
	w.current.Store(nil)
	want := map[string]float64{"jobs_pending{deploy}": 1, "jobs_pending{miss}": 2, "jobs_pending{routine}": 3}
	if got := samples(t, registry); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	w.current.Store(&words.Release{Sequence: 3})
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if got := samples(t, registry); !maps.Equal(got, map[string]float64{"release_sequence{}": 3}) {
		t.Errorf("without a store: %v", got)
	}
}

// A store that is connected and says nothing holds up the other metrics for a
// bounded time.
func TestMetricsDoNotWaitForASilentStore(t *testing.T) {
	silent, err := server.NewServer(&server.Options{Port: server.RANDOM_PORT, Host: "127.0.0.1", NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	go silent.Start()
	t.Cleanup(func() {
		silent.Shutdown()
		silent.WaitForShutdown()
	})
	if !silent.ReadyForConnections(time.Minute) {
		t.Fatal("no server")
	}
	connect := func() *nats.Conn {
		conn, err := nats.Connect(silent.ClientURL())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(conn.Close)
		return conn
	}
	deaf, asked := connect(), make(chan struct{}, 1)
	if _, err := deaf.Subscribe("$JS.API.>", func(*nats.Msg) { asked <- struct{}{} }); err != nil {
		t.Fatal(err)
	}
	if err := deaf.Flush(); err != nil {
		t.Fatal(err)
	}
	r := newRig(t)
	if r.store, err = ledger.Open(t.Context(), connect(), ledger.Options{Lazy: true, CallTimeout: time.Hour}); err != nil {
		t.Fatal(err)
	}
	_, registry := r.measured()
	if got := samples(t, registry); !maps.Equal(got, map[string]float64{"release_sequence{}": 7}) {
		t.Errorf("%v", got)
	}
	select {
	case <-asked:
	default:
		t.Error("the store was not asked")
	}
}
