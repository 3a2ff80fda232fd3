package bench

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

// leanClient asks for one thing over and over, and does no more for it than it
// must: callers share the machine with what they call, and what an ordinary
// client spends would hide what a server does.
type leanClient struct {
	addr    string
	request []byte
	idle    chan *leanConn
}

type leanConn struct {
	net.Conn
	in *bufio.Reader
}

// newLeanClient asks for a path of base with header lines that end in CR LF.
func newLeanClient(tb testing.TB, base, path, headers string) *leanClient {
	addr := strings.TrimPrefix(base, "http://")
	c := &leanClient{addr, []byte("GET " + path + " HTTP/1.1\r\nHost: " + addr + "\r\n" + headers + "\r\n"), make(chan *leanConn, 2*proxyCallers)}
	tb.Cleanup(func() {
		for len(c.idle) > 0 {
			_ = (<-c.idle).Close()
		}
	})
	return c
}

func (c *leanClient) connect() (*leanConn, error) {
	select {
	case conn := <-c.idle:
		return conn, nil
	default:
	}
	conn, err := net.Dial("tcp", c.addr)
	if err != nil {
		return nil, err
	}
	return &leanConn{conn, bufio.NewReaderSize(conn, 64<<10)}, nil
}

// ask is one request whose answer must be 200 and of so many bytes; 0 for any.
func (c *leanClient) ask(size int) func(context.Context, string) error {
	return func(ctx context.Context, _ string) error {
		conn, err := c.connect()
		if err != nil {
			return err
		}
		deadline, _ := ctx.Deadline()
		got, err := conn.ask(c.request, deadline)
		if err == nil && size > 0 && got != size {
			err = fmt.Errorf("%d bytes came, not %d", got, size)
		}
		if err != nil {
			_ = conn.Close()
			return err
		}
		c.idle <- conn
		return nil
	}
}

func (c *leanConn) ask(request []byte, deadline time.Time) (size int, err error) {
	if err := c.SetDeadline(deadline); err != nil {
		return 0, err
	}
	if _, err := c.Write(request); err != nil {
		return 0, err
	}
	size = -1
	for n := 0; ; n++ {
		line, err := c.in.ReadSlice('\n')
		switch {
		case err != nil:
			return 0, err
		case n == 0 && !bytes.HasPrefix(line, []byte("HTTP/1.1 200 ")):
			return 0, fmt.Errorf("answered %q", line)
		case len(line) <= 2 && size < 0:
			return 0, fmt.Errorf("the answer has no Content-Length")
		case len(line) <= 2:
			return c.in.Discard(size)
		}
		if name, value, _ := bytes.Cut(line, []byte(":")); bytes.EqualFold(name, []byte("Content-Length")) {
			if size, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return 0, err
			}
		}
	}
}
