package bus

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func start(t *testing.T, o Options) *Bus {
	t.Helper()
	b, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// fails starts a bus that must not start, and returns what it says.
func fails(t *testing.T, o Options) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	b, err := Start(ctx, o)
	if err == nil {
		_ = b.Close()
		t.Fatal("it started")
	}
	if ctx.Err() != nil {
		t.Fatalf("it took too long to fail: %v", err)
	}
	return err.Error()
}

func says(t *testing.T, message string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(message, part) {
			t.Errorf("%q does not say %q", message, part)
		}
	}
}

func TestEmbeddedKeepsWhatItWasTold(t *testing.T) {
	dir := t.TempDir()
	b, err := Start(t.Context(), Options{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if b.Addr() != "" {
		t.Errorf("it listens on %s", b.Addr())
	}
	js, err := jetstream.New(b.Conn())
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "b"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(t.Context(), "k", []byte("v")); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if !b.Conn().IsClosed() {
		t.Error("the connection is open after Close")
	}

	b = start(t, Options{DataDir: dir, Secret: "s"})
	if js, err = jetstream.New(b.Conn()); err != nil {
		t.Fatal(err)
	}
	if kv, err = js.KeyValue(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	entry, err := kv.Get(t.Context(), "k")
	if err != nil || string(entry.Value()) != "v" {
		t.Fatalf("after a restart: %v, %v", entry, err)
	}
}

func TestPeersJoinWithTheSecretOnly(t *testing.T) {
	b := start(t, Options{DataDir: t.TempDir(), Listen: "127.0.0.1:0", Secret: "right"})
	url := "nats://" + b.Addr()
	peer := start(t, Options{URLs: []string{url}, Secret: "right", Name: "peer"})
	if _, err := peer.Conn().RTT(); err != nil {
		t.Error(err)
	}
	for _, secret := range []string{"wrong", ""} {
		message := fails(t, Options{URLs: []string{url}, Secret: secret})
		says(t, message, "secret", b.Addr())
		if strings.Contains(message, "wrong") {
			t.Errorf("it shows the secret: %s", message)
		}
	}
}

func TestPortInUse(t *testing.T) {
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	dir := t.TempDir()
	says(t, fails(t, Options{DataDir: dir, Listen: other.Addr().String()}), other.Addr().String(), "--nats-listen")
	start(t, Options{DataDir: dir}) // nothing is left behind
}

func TestListenAddressThatIsNone(t *testing.T) {
	for _, address := range []string{"nonsense", "127.0.0.1:http", "127.0.0.1:70000"} {
		says(t, fails(t, Options{DataDir: t.TempDir(), Listen: address}), address)
	}
}

func TestDataDirectoryInUse(t *testing.T) {
	dir := t.TempDir()
	start(t, Options{DataDir: dir})
	says(t, fails(t, Options{DataDir: dir}), "in use", dir, "--data")
}

func TestDataDirectoryUnusable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	says(t, fails(t, Options{DataDir: file}), "data directory", file, "--data")
	says(t, fails(t, Options{}), "DataDir")
	says(t, unusable("/d", os.ErrPermission).Error(), "not writable", "/d")
}

// The store's own directory is broken: the server says so in its log only.
func TestStoreThatCannotStart(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "nats"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "nats", "jetstream"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	says(t, fails(t, Options{DataDir: dir}), "embedded store", dir)
}

func TestHTTPWhereNATSIsExpected(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	address := server.Listener.Addr().String()
	says(t, fails(t, Options{URLs: []string{"nats://" + address}}), "speaks HTTP", address, "4223")
}

func TestNobodyThere(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_ = listener.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err = Start(ctx, Options{URLs: []string{address}})
	if err == nil {
		t.Fatal("connected to nobody")
	}
	says(t, err.Error(), "cannot be reached", address)
}

// A role that works without a store starts without it, and is connected when
// the store comes, and again when it comes back.
func TestLazyConnectsWhenItCan(t *testing.T) {
	dir := t.TempDir()
	first, err := Start(t.Context(), Options{DataDir: dir, Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	address := first.Addr()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	peer := start(t, Options{URLs: []string{"nats://" + address}, Lazy: true})
	if err := peer.Conn().Publish("x", nil); err == nil {
		t.Error("a message for a store that is away was accepted")
	}
	for range 2 {
		again, err := Start(t.Context(), Options{DataDir: dir, Listen: address})
		if err != nil {
			t.Fatal(err)
		}
		await(t, peer.Conn(), nats.CONNECTED)
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
		await(t, peer.Conn(), nats.RECONNECTING)
	}
}

func await(t *testing.T, c *nats.Conn, status nats.Status) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Second, errors.New("too long"))
	defer cancel()
	changes := c.StatusChanged(status)
	defer c.RemoveStatusListener(changes)
	if c.Status() == status {
		return
	}
	select {
	case <-changes:
	case <-ctx.Done():
		t.Fatalf("the connection is %s, not %s", c.Status(), status)
	}
}

func TestRedactHidesCredentials(t *testing.T) {
	got := redact([]string{"nats://user:hidden@a:1", "b", "nats://c"})
	if got != "a:1, b:4222, c:4222" {
		t.Error(got)
	}
}
