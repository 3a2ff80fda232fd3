package manager

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rewarm/rewarm/internal/wire"
)

// maxAnswer bounds a server's answer in bytes; it is held in memory, because
// it may go to several callers, and because what breaks half way is asked of
// another server.
const maxAnswer = 64 << 20

// upstream is the way to the prerender servers.
type upstream struct {
	secret    string
	timeout   time.Duration // of one attempt
	transport *http.Transport
	// single makes a connection for each request: what it sends is sent once
	// or not at all, so it is known which.
	single *http.Transport
}

func newUpstream(secrets []string, timeout time.Duration) *upstream {
	u := &upstream{timeout: timeout}
	if len(secrets) > 0 {
		u.secret = secrets[0]
	}
	dial := (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext
	u.transport = &http.Transport{
		DialContext:         dial,
		DisableCompression:  true, // bytes pass as they are, with their Content-Encoding
		MaxIdleConnsPerHost: 32,
		IdleConnTimeout:     time.Minute,
		TLSHandshakeTimeout: 5 * time.Second,
	}
	u.single = u.transport.Clone()
	u.single.DisableKeepAlives = true
	return u
}

func (u *upstream) close() { u.transport.CloseIdleConnections() }

// call is one proxied request, as every attempt sends it.
type call struct {
	path      string
	header    http.Header // as the caller sent it, see forwardable
	body      []byte
	requestID string
	deadline  time.Time // the end of the caller's budget
	release   string    // value of wire.HeaderRelease; "" for none
	once      bool      // side effects: never replay
}

// answer is what a server said.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// errSent marks an attempt that failed after a connection was there: the
// server may have acted.
var errSent = errors.New("connection lost after bytes were sent")

// send makes one attempt at one server.
func (u *upstream) send(ctx context.Context, server string, c *call) (*answer, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, u.timeout, fmt.Errorf("no answer within the server timeout of %v", u.timeout))
	defer cancel()
	var connected atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }})
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, server+c.path, strings.NewReader(string(c.body)))
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", server, err)
	}
	request.Header = c.header.Clone()
	request.Header.Set(wire.HeaderServerID, server)
	request.Header.Set(wire.HeaderRequestID, c.requestID)
	request.Header.Set(wire.HeaderBudget, wire.FormatBudget(time.Until(c.deadline)))
	if c.release != "" {
		request.Header.Set(wire.HeaderRelease, c.release)
	}
	if u.secret != "" {
		request.Header.Set("Authorization", "Bearer "+u.secret)
	}
	transport := u.transport
	if c.once {
		transport = u.single
	}
	response, err := transport.RoundTrip(request)
	if err == nil {
		defer response.Body.Close()
		var body []byte
		if body, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer+1)); err == nil && len(body) > maxAnswer {
			err = fmt.Errorf("its answer is larger than %d bytes", maxAnswer)
		}
		if err == nil {
			return &answer{status: response.StatusCode, header: response.Header, body: body}, nil
		}
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	if connected.Load() {
		err = errors.Join(errSent, err)
	}
	return nil, fmt.Errorf("ask %s: %w", server, err)
}

// hopByHop headers end at each connection (RFC 9110, 7.6.1).
var hopByHop = []string{"Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade"}

func dropHopByHop(h http.Header) {
	for _, line := range h.Values("Connection") {
		for name := range strings.SplitSeq(line, ",") {
			h.Del(strings.TrimSpace(name))
		}
	}
	for _, name := range hopByHop {
		h.Del(name)
	}
}

// forwardable are the caller's headers as a server gets them: never the
// caller's credentials for us, and nothing that is not well-formed.
func forwardable(in http.Header) http.Header {
	h := in.Clone()
	dropHopByHop(h)
	for _, name := range []string{"Authorization", "Cookie", "Content-Length", "Expect", "Prefer", wire.HeaderBudget, wire.HeaderRelease, wire.HeaderServerID} {
		h.Del(name)
	}
	if id := wire.JobID(h.Get(wire.HeaderJobID)); id != "" {
		h.Set(wire.HeaderJobID, id)
	} else {
		h.Del(wire.HeaderJobID)
	}
	if _, ok := wire.Priority(h.Get(wire.HeaderJobPriority)); !ok {
		h.Del(wire.HeaderJobPriority)
	}
	if h.Get("Accept-Encoding") == "" {
		h.Set("Accept-Encoding", "identity")
	}
	return h
}

// write passes a server's answer on.
func (a *answer) write(w http.ResponseWriter) {
	for name, values := range a.header {
		switch name {
		case wire.HeaderRequestID, wire.HeaderRelease, "Content-Length":
			continue // ours
		}
		w.Header()[name] = values
	}
	dropHopByHop(w.Header())
	w.Header().Set("Content-Length", fmt.Sprint(len(a.body)))
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body) // the caller may be gone; nothing to do about it
}
