package egress

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	// speakWithin bounds the wait for a tunnel's first byte: in TLS and in a
	// WebSocket the browser speaks first, and at once.
	speakWithin = 10 * time.Second
	// lingerFor is how long one direction of a tunnel outlives the other.
	lingerFor = 30 * time.Second
)

// handshake is the first byte of TLS.
const handshake = 0x16

// connect opens a tunnel, for TLS or for a WebSocket. It has no idle time-out:
// its other end is our browser, which ends it with the page, and a warm page
// may keep a WebSocket that is silent for long.
func (p *Proxy) connect(w http.ResponseWriter, r *http.Request) {
	t, err := parseTarget(r.RequestURI, 0)
	if err == nil {
		err = p.policy.named(t, "https", "http")
	}
	if err != nil {
		p.refuse(w, err)
		return
	}
	secure, open := p.policy.permits(t, "https"), p.policy.permits(t, "http")
	upstream, err := p.reach(r.Context(), t, secure || open)
	if err != nil {
		p.refuse(w, err)
		return
	}
	defer func() { _ = upstream.Close() }()
	client, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer func() { _ = client.Close() }()
	defer context.AfterFunc(r.Context(), func() {
		_ = client.Close()
		_ = upstream.Close()
	})()
	if _, err := io.WriteString(client, "HTTP/1.1 200 Connection Established\r\n\r\n"); err != nil {
		return
	}
	if secure != open {
		tls, err := speaksTLS(client, buffered.Reader)
		if err == nil && tls != secure {
			p.refusals.note(&refusal{scheme, t.String()})
		}
		if err != nil || tls != secure {
			return
		}
	}
	pass(client, buffered.Reader, upstream)
}

// speaksTLS is whether the browser does: nothing in a CONNECT says of which
// scheme it is.
func speaksTLS(client net.Conn, said *bufio.Reader) (bool, error) {
	if err := client.SetReadDeadline(time.Now().Add(speakWithin)); err != nil {
		return false, err
	}
	first, err := said.Peek(1)
	if err != nil {
		return false, err
	}
	return first[0] == handshake, client.SetReadDeadline(time.Time{})
}

// pass copies both ways until both have ended.
func pass(client net.Conn, said *bufio.Reader, upstream net.Conn) {
	if ahead, _ := said.Peek(said.Buffered()); len(ahead) > 0 {
		if _, err := upstream.Write(ahead); err != nil {
			return
		}
	}
	var both sync.WaitGroup
	both.Go(func() { flow(upstream, client) })
	both.Go(func() { flow(client, upstream) })
	both.Wait()
}

// flow copies one way. At its end the other side hears of it, and has a while
// to end the other way.
func flow(to, from net.Conn) {
	_, err := io.Copy(to, from)
	if half, ok := to.(interface{ CloseWrite() error }); ok && err == nil && half.CloseWrite() == nil {
		_ = to.SetReadDeadline(time.Now().Add(lingerFor))
		return
	}
	_ = to.Close()
	_ = from.Close()
}
