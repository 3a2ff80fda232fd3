package egress

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/websocket"
)

func TestRealmIsReachedAsItIs(t *testing.T) {
	w := newWorld(t, nil)
	client := w.client(t)
	request, _ := http.NewRequest(http.MethodPost, w.realm.URL+"/a", strings.NewReader("sent"))
	request.URL.Opaque = w.realm.URL + "/a%2Fb|c" // as a browser spells it
	request.URL.RawQuery = "q=1;2"
	request.Header.Set("Accept-Encoding", "br")
	request.Header.Set("X-Forwarded-For", "kept")
	request.Header.Set("Proxy-Connection", "keep-alive")
	answer, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(answer.Body)
	_ = answer.Body.Close()
	if want := "POST " + strings.TrimPrefix(w.realm.URL, "http://") + " /a%2Fb|c?q=1;2 sent"; string(body) != want {
		t.Errorf("%q, want %q", body, want)
	}
	for name, want := range map[string]string{"Seen-Accept-Encoding": "br", "Seen-Proxy-Connection": "", "Seen-X-Forwarded-For": "kept", "Seen-Via": ""} {
		if got := answer.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	for range 20 {
		get(t, client, w.realm.URL+"/again")
	}
	// A connection that is just being given back may be missed.
	if dials := w.dials(); len(dials) > 4 {
		t.Errorf("%d connections for 21 requests one after the other", len(dials))
	}
}

func TestRealmsThatArePermittedMayChange(t *testing.T) {
	other := serveAll(t, realmHandler(), nil)
	w := newWorld(t, func(w *world, o *Options) { o.Fleet = []string{strings.TrimPrefix(w.canary.URL, "http://")} })
	status := func(at string) int {
		t.Helper()
		answer, _ := get(t, w.client(t), at)
		return answer.StatusCode
	}
	if got := status(other.URL + "/a"); got != http.StatusForbidden {
		t.Errorf("before it is a realm: %d", got)
	}
	permitted := w.SetRealms([]string{other.URL + "/below", w.canary.URL, "nonsense"})
	if want := []string{other.URL + "/below"}; !slices.Equal(permitted, want) {
		t.Errorf("permitted %q, want %q: an address of the fleet is none", permitted, want)
	}
	if got := status(other.URL + "/a"); got != http.StatusOK {
		t.Errorf("once it is a realm: %d", got)
	}
	if got := status(w.realm.URL + "/a"); got != http.StatusForbidden {
		t.Errorf("a realm that is none any more: %d", got)
	}
	if len(w.canary.touched()) > 0 {
		t.Error("the fleet's own address was reached")
	}
}

func TestStreamsPassAsTheyCome(t *testing.T) {
	w := newWorld(t, nil)
	answer, err := w.client(t).Get(w.realm.URL + "/stream")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	if line, err := bufio.NewReader(answer.Body).ReadString('\n'); err != nil || line != "data: first\n" {
		t.Errorf("%q, %v", line, err)
	}
}

// A WebSocket goes through a CONNECT, as Chrome does it, or as a plain request
// that is upgraded.
func TestWebSocketsPass(t *testing.T) {
	w := newWorld(t, nil)
	at := strings.TrimPrefix(w.realm.URL, "http://")
	for _, line := range []string{"", "CONNECT " + at + " HTTP/1.1\r\nHost: " + at + "\r\n\r\n"} {
		conn := w.open(t)
		path := w.realm.URL + "/socket"
		if line != "" {
			fmt.Fprint(conn, line)
			if answer, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || answer.StatusCode != http.StatusOK {
				t.Fatal(answer, err)
			}
			path = "/socket"
		}
		config, err := websocket.NewConfig("ws://"+at+"/socket", w.realm.URL)
		if err != nil {
			t.Fatal(err)
		}
		config.Location.Opaque = path // the request line
		socket, err := websocket.NewClient(config, conn)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		fmt.Fprint(socket, "hello")
		said := make([]byte, 5)
		if _, err := io.ReadFull(socket, said); err != nil || string(said) != "hello" {
			t.Errorf("%q: %q, %v", line, said, err)
		}
	}
}

func TestShutdownEndsWhatRuns(t *testing.T) {
	w := newWorld(t, nil)
	at := strings.TrimPrefix(w.realm.URL, "http://")
	var conns []net.Conn
	for _, said := range []string{
		"", "GET ", // nothing yet, half a request
		"GET " + w.realm.URL + "/stream HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET " + w.realm.URL + "/ HTTP/1.1\r\nHost: x\r\n\r\n", // idle afterwards
		"CONNECT " + at + " HTTP/1.1\r\nHost: x\r\n\r\n",       // waits for the first byte
		"CONNECT " + at + " HTTP/1.1\r\nHost: x\r\n\r\nGET /stream HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		conn := w.open(t)
		fmt.Fprint(conn, said)
		if len(said) > 4 {
			if _, err := io.ReadFull(conn, make([]byte, len("HTTP/1.1 200 "))); err != nil {
				t.Fatalf("%q: %v", said, err)
			}
		}
		conns = append(conns, conn)
	}
	w.stop()
	for i, conn := range conns {
		if _, err := io.Copy(io.Discard, conn); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Errorf("connection %d is still open", i)
		}
	}
	if _, err := net.Dial("tcp", w.listener.Addr().String()); err == nil {
		t.Error("the port is still open")
	}
	left := ""
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(testLimit); time.Now().Before(end); <-tick.C {
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		if left = ""; !strings.Contains(string(stacks), "internal/egress.(*Proxy)") {
			return
		}
		left = string(stacks)
	}
	t.Error("goroutines are left:\n" + left)
}

func TestBrokenServersAreBrokenConnections(t *testing.T) {
	w := newWorld(t, func(w *world, o *Options) { o.AllowOrigins = []string{"http://127.0.0.1:1"} })
	for line, want := range map[string]int{
		"GET http://127.0.0.1:1/":                0, // nobody listens: no answer of ours
		"POST http://127.0.0.1:1/":               0,
		"GET http://nowhere.example/":            0,
		"GET " + w.realm.URL + "/breaks":         0,
		"POST " + w.realm.URL + "/breaks":        502, // may have had its effect: not to be sent again
		"CONNECT 127.0.0.1:1":                    502,
		"CONNECT nowhere.example:443":            502,
		"GET " + w.realm.URL + "/after-all-that": 200,
	} {
		if status, body := w.ask(t, line); status != want {
			t.Errorf("%s: %d %s, want %d", line, status, body, want)
		}
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener := newLimited(inner, 1)
	accepted := make(chan net.Conn)
	go func() {
		defer close(accepted)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			accepted <- conn
		}
	}()
	for range 2 {
		conn, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
	}
	first := <-accepted
	select {
	case <-accepted:
		t.Error("a second connection was accepted beside the first")
	default:
	}
	_ = first.Close()
	_ = first.Close() // gives its place back once
	second := <-accepted
	_ = listener.Close()
	if _, more := <-accepted; more {
		t.Error("accepted after the end")
	}
	_ = second.Close()
}
