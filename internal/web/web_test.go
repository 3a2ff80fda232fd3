package web_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/web"
	"github.com/rewarm/rewarm/internal/wire"
)

func request(remote, host, origin, authorization string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "http://"+host+"/x", nil)
	r.RemoteAddr = remote
	if origin != "" {
		r.Header.Set("Origin", origin)
	}
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	return r
}

func TestW10_GuardSaysWhoMayCall(t *testing.T) {
	open, secret := web.Guard{}, web.Guard{Secrets: []string{"new", "old"}}
	raw := web.Guard{Secrets: []string{"new"}, AllowRaw: true}
	lan := web.Guard{Secrets: []string{"new"}, AllowUnauthenticated: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	for name, c := range map[string]struct {
		guard web.Guard
		r     *http.Request
		want  bool
	}{
		"loopback":                        {open, request("127.0.0.1:9", "127.0.0.1:4222", "", ""), true},
		"loopback, IPv6":                  {open, request("[::1]:9", "localhost:4222", "", ""), true},
		"loopback, mapped":                {open, request("[::ffff:127.0.0.1]:9", "localhost", "", ""), true},
		"another machine":                 {open, request("192.168.1.2:9", "127.0.0.1:4222", "", ""), false},
		"another name: DNS rebinding":     {open, request("127.0.0.1:9", "evil.example:4222", "", ""), false},
		"another origin":                  {open, request("127.0.0.1:9", "127.0.0.1:4222", "http://evil.example", ""), false},
		"opaque origin":                   {open, request("127.0.0.1:9", "127.0.0.1:4222", "null", ""), false},
		"the same origin":                 {open, request("127.0.0.1:9", "127.0.0.1:4222", "http://127.0.0.1:4222", ""), true},
		"insecure on purpose":             {web.Guard{Insecure: true}, request("192.168.1.2:9", "x", "", ""), true},
		"no secret given":                 {secret, request("127.0.0.1:9", "127.0.0.1", "", ""), false},
		"the secret":                      {secret, request("192.168.1.2:9", "x", "", "Bearer new"), true},
		"the one before it":               {secret, request("192.168.1.2:9", "x", "", "Bearer old"), true},
		"a wrong one":                     {secret, request("127.0.0.1:9", "127.0.0.1", "", "Bearer ne"), false},
		"raw where Bearer is due":         {secret, request("127.0.0.1:9", "127.0.0.1", "", "new"), false},
		"raw where it is taken":           {raw, request("127.0.0.1:9", "127.0.0.1", "", "new"), true},
		"a network that needs none":       {lan, request("10.1.2.3:9", "x", "", ""), true},
		"a network that does":             {lan, request("11.1.2.3:9", "x", "", ""), false},
		"insecure does not void a secret": {web.Guard{Secrets: []string{"new"}, Insecure: true}, request("127.0.0.1:9", "x", "", ""), false},
	} {
		if got := c.guard.Allows(c.r); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	for addr, fine := range map[string]bool{"127.0.0.1:1": true, "localhost:1": true, "[::1]:1": true, "0.0.0.0:1": false, ":1": false, "192.168.1.2:1": false} {
		if err := open.CheckListen("manager", "--addr", addr); (err == nil) != fine {
			t.Errorf("listening on %s without a secret: %v", addr, err)
		}
		if err := secret.CheckListen("manager", "--addr", addr); err != nil {
			t.Errorf("listening on %s with a secret: %v", addr, err)
		}
	}
}

func TestErrorsAreAnswersOfTheContract(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	for name, c := range map[string]struct {
		err        error
		status     int
		says       string
		retryAfter string
	}{
		"classified":   {fault.New(fault.Invalid, "URL is required"), 400, `{"errors":[{"status":400,"message":"URL is required"}]}`, ""},
		"refused":      {fault.Refuse(1500*time.Millisecond, "full"), 503, "full", "2"},
		"draining":     {fault.New(fault.Draining, "draining"), 410, "draining", ""},
		"unclassified": {errors.New("password=secret"), 500, "internal error", ""},
	} {
		w := httptest.NewRecorder()
		handler := web.Handle(log, web.Route(log, func(http.ResponseWriter, *http.Request) error { return c.err }))
		handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
		body := w.Body.String()
		if w.Code != c.status || !strings.Contains(body, c.says) || w.Header().Get("Retry-After") != c.retryAfter || strings.Contains(body, "secret") {
			t.Errorf("%s: %d %v %s", name, w.Code, w.Header(), body)
		}
		if w.Header().Get(wire.HeaderRequestID) == "" || w.Header().Get("Content-Type") != wire.ContentTypeJSON {
			t.Errorf("%s: headers %v", name, w.Header())
		}
	}
}

func TestPanicCostsOneRequest(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	w := httptest.NewRecorder()
	web.Handle(log, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("oh") })).
		ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	if w.Code != http.StatusInternalServerError {
		t.Errorf("status %d", w.Code)
	}
}

func TestListenExplainsAPortInUse(t *testing.T) {
	first, err := web.Listen("manager", "--addr", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if _, err = web.Listen("manager", "--addr", first.Addr().String()); err == nil || !strings.Contains(err.Error(), "in use") || !strings.Contains(err.Error(), "--addr") {
		t.Errorf("error %v", err)
	}
	if _, err = web.Listen("manager", "--addr", "nonsense"); err == nil || !strings.Contains(err.Error(), "host:port") {
		t.Errorf("error %v", err)
	}
}

func TestW21_DrainRefusesNewWorkAndWaitsForOld(t *testing.T) {
	drainer := web.NewDrainer()
	running, finish := make(chan struct{}), make(chan struct{})
	work := drainer.Work("Server draining", func(http.ResponseWriter, *http.Request) error {
		close(running)
		<-finish
		return nil
	})
	ended := make(chan error, 1)
	go func() { ended <- work(nil, nil) }()
	<-running
	drainer.Begin()
	if err := work(nil, nil); !fault.Is(err, fault.Draining) {
		t.Errorf("new work: %v", err)
	}
	waited := make(chan struct{})
	go func() { drainer.Wait(context.Background(), 0, time.Hour); close(waited) }()
	select {
	case <-waited:
		t.Fatal("the drain did not wait for the running work")
	default:
	}
	close(finish)
	<-waited
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
