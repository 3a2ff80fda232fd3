package egress

import (
	"net"
	"sync"
)

// limited accepts so many connections at a time; the next one waits.
type limited struct {
	net.Listener
	free   chan struct{}
	closed chan struct{}
	once   sync.Once
}

func newLimited(listener net.Listener, most int) *limited {
	return &limited{Listener: listener, free: make(chan struct{}, most), closed: make(chan struct{})}
}

func (l *limited) Accept() (net.Conn, error) {
	select {
	case l.free <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	conn, err := l.Listener.Accept()
	if err != nil {
		<-l.free
		return nil, err
	}
	return &counted{TCPConn: conn.(*net.TCPConn), gone: sync.OnceFunc(func() { <-l.free })}, nil
}

func (l *limited) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// counted is a connection that gives its place back. It stays a TCP connection
// to io.Copy, which then lets the kernel do the copying.
type counted struct {
	*net.TCPConn
	gone func()
}

func (c *counted) Close() error {
	defer c.gone()
	return c.TCPConn.Close()
}
