package web

import (
	"context"
	"net"
	"net/http"
)

// maxWhole is the size in bytes up to which a body is copied to be sent in one
// piece; beyond it the copy costs more than a second system call.
const maxWhole = 16 << 10

// wholeListener gives connections that can send an answer in one piece.
type wholeListener struct{ net.Listener }

func (l wholeListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if tcp, ok := conn.(*net.TCPConn); ok {
		return &wholeConn{TCPConn: tcp}, err
	}
	return conn, err
}

// wholeConn collects what is written to it while it is held. net/http writes an
// answer from a buffer of 4 KiB, which it cannot be told to enlarge: headers and
// body of a usual page would be two or three system calls, and as many packets.
//
// It is held by the handler that writes, and by nobody else: net/http writes to
// a connection from the goroutine of its request only.
type wholeConn struct {
	*net.TCPConn
	held  bool
	bytes []byte // kept for the next answer
}

func (c *wholeConn) Write(p []byte) (int, error) {
	if c.held {
		c.bytes = append(c.bytes, p...)
		return len(p), nil
	}
	return c.TCPConn.Write(p)
}

type wholeConnKey struct{}

func withConn(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, wholeConnKey{}, conn)
}

// WriteWhole writes a body, and sends it with the headers in one piece if it is
// small. It is for the last that a handler writes.
func WriteWhole(w http.ResponseWriter, r *http.Request, body []byte) {
	conn, ok := r.Context().Value(wholeConnKey{}).(*wholeConn)
	if !ok || len(body) > maxWhole {
		_, _ = w.Write(body) // the peer may be gone; nothing to do about it
		return
	}
	conn.held = true
	_, _ = w.Write(body)
	_ = http.NewResponseController(w).Flush()
	conn.held = false
	_, _ = conn.TCPConn.Write(conn.bytes)
	conn.bytes = conn.bytes[:0]
}
