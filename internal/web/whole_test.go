package web_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rewarm/rewarm/internal/web"
)

// serving runs a handler as roles do until the test ends.
func serving(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	ln, err := web.Listen("test", "--addr", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- web.Serve(ctx, ln, h, time.Second) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return ln.Addr().String()
}

// wholly answers with as many bytes as the path says.
func wholly(w http.ResponseWriter, r *http.Request) {
	n, _ := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
	w.Header().Set("Content-Length", strconv.Itoa(n))
	web.WriteWhole(w, r, bytes.Repeat([]byte("x"), n))
}

func TestAnswersOfAllSizesArriveWhole(t *testing.T) {
	addr := serving(t, wholly)
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// All around what buffers hold, headers included, and pipelined: an answer
	// that is held back would be missed by the next.
	var sizes []int
	for _, around := range []int{0, 2048, 4096, 8192, 16 << 10, 100_000} {
		for n := max(0, around-300); n < around+20; n += 7 {
			sizes = append(sizes, n)
		}
	}
	go func() {
		for _, n := range sizes {
			fmt.Fprintf(conn, "GET /%d HTTP/1.1\r\nHost: x\r\n\r\n", n)
		}
	}()
	_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
	in := bufio.NewReader(conn)
	for _, n := range sizes {
		answer, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatalf("%d: %v", n, err)
		}
		body, err := io.ReadAll(answer.Body)
		if err != nil || len(body) != n || strings.Trim(string(body), "x") != "" {
			t.Fatalf("%d: %d bytes, %v", n, len(body), err)
		}
	}
}

// TestSmallAnswerIsOnePiece reads once, before which all has been sent.
func TestSmallAnswerIsOnePiece(t *testing.T) {
	addr := serving(t, wholly)
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
	fmt.Fprint(conn, "GET /10000 HTTP/1.1\r\nHost: x\r\n\r\n")
	all := make([]byte, 64<<10)
	n, err := conn.Read(all)
	if err != nil || !bytes.HasSuffix(all[:n], []byte("xxx")) || n < 10_000 {
		t.Errorf("%d bytes at once, %v", n, err)
	}
}

func TestWhatIsStreamedIsNotHeldBack(t *testing.T) {
	more := make(chan struct{})
	addr := serving(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/whole" {
			wholly(w, r)
			return
		}
		_, _ = w.Write(bytes.Repeat([]byte("a"), 5000))
		_ = http.NewResponseController(w).Flush()
		<-more
		_, _ = w.Write([]byte("b"))
	})
	client := &http.Client{Timeout: time.Minute}
	defer client.CloseIdleConnections()
	for range 2 {
		if answer, err := client.Get("http://" + addr + "/whole"); err != nil {
			t.Fatal(err)
		} else if _, err := io.Copy(io.Discard, answer.Body); err != nil {
			t.Fatal(err)
		}
		answer, err := client.Get("http://" + addr + "/")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(answer.Body, make([]byte, 5000)); err != nil {
			t.Fatal(err)
		}
		more <- struct{}{}
		if rest, err := io.ReadAll(answer.Body); string(rest) != "b" || err != nil {
			t.Errorf("%q %v", rest, err)
		}
	}
}

func TestCallerWhoIsGoneCostsNothing(t *testing.T) {
	done := make(chan struct{})
	addr := serving(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/leave" {
			<-r.Context().Done()
			defer close(done)
		}
		web.WriteWhole(w, r, bytes.Repeat([]byte("x"), 10_000))
	})
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(conn, "GET /leave HTTP/1.1\r\nHost: x\r\n\r\n")
	_ = conn.Close()
	<-done
	answer, err := http.Get("http://" + addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if body, err := io.ReadAll(answer.Body); len(body) != 10_000 || err != nil {
		t.Error(len(body), err)
	}
}
