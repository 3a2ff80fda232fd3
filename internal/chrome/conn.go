package chrome

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/chromedp/cdproto/cdp/jsonv2"
)

// ErrGone is wrapped by every error that means "this browser, page or
// connection is no more": asking again does not help, replacing it does.
var ErrGone = errors.New("gone")

// ErrOverflow is wrapped, beside ErrGone, when a session's events were not
// consumed and their bound was reached. The session ends: dropping events
// silently would let a page settle on what it never saw.
var ErrOverflow = errors.New("too many events unread")

// RemoteError is the browser's answer to a command it did not carry out.
type RemoteError struct {
	Method  string
	Code    int64
	Message string
}

func (e *RemoteError) Error() string {
	return fmt.Sprintf("%s: %s (%d)", e.Method, e.Message, e.Code)
}

// outboxLimit bounds what waits to be written, in bytes. It fills only while
// the browser does not read; then it is frozen.
const outboxLimit = 64 << 20

// lenient lets lone surrogates through, which pages do have in their strings.
func lenient() jsonv2.Options {
	return jsonv2.JoinOptions(jsonv2.DefaultOptionsV2(), jsonv2.AllowInvalidUTF8(true))
}

// request and message are the envelopes. cdproto has them too, in a package
// that links every domain.
type request struct {
	ID        int64  `json:"id"`
	SessionID string `json:"sessionId,omitempty"`
	Method    string `json:"method"`
	Params    any    `json:"params,omitempty"`
}

type message struct {
	ID        int64        `json:"id"`
	SessionID string       `json:"sessionId"`
	Method    string       `json:"method"`
	Params    jsonv2.Value `json:"params"`
	Result    jsonv2.Value `json:"result"`
	Error     *struct {
		Code    int64  `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
}

// call is one command that waits for its answer. Whoever takes it out of
// conn.pending completes it, so it is completed once.
type call struct {
	method  string
	session *Session
	ordered bool
	// opens: the answer names a session, which is registered before the next
	// message is read, so that not even its end is missed.
	opens  []string
	opened *Session
	result jsonv2.Value
	err    error
	done   chan struct{}
}

// conn multiplexes sessions over one transport.
type conn struct {
	transport Transport
	log       *slog.Logger
	root      *Session
	gone      chan struct{} // closed once err is set

	mu       sync.Mutex
	lastID   int64
	pending  map[int64]*call
	sessions map[string]*Session
	outbox   [][]byte
	outBytes int
	err      error
	wake     chan struct{} // the outbox has something
}

// newConn returns a connection whose root session hears the given events. It
// starts nothing; read and write are its two goroutines.
func newConn(t Transport, log *slog.Logger, rootEvents ...string) *conn {
	c := &conn{
		transport: t, log: log,
		gone:     make(chan struct{}),
		pending:  map[int64]*call{},
		sessions: map[string]*Session{},
		wake:     make(chan struct{}, 1),
	}
	c.root = newSession(c, "", rootEvents)
	c.sessions[""] = c.root
	return c
}

// read dispatches messages until the transport ends. It never waits for
// anything but the transport: events go to queues, answers to their callers.
func (c *conn) read() {
	for {
		raw, err := c.transport.Receive()
		if errors.Is(err, errOversize) {
			c.log.Warn("browser message skipped", "err", err)
			continue
		}
		if err != nil {
			c.fail(fmt.Errorf("browser connection ended: %w: %w", ErrGone, err))
			return
		}
		var m message
		if err := jsonv2.Unmarshal(raw, &m, lenient()); err != nil {
			c.fail(fmt.Errorf("browser sent a message that is not JSON: %w: %w", ErrGone, err))
			return
		}
		if m.ID != 0 {
			c.answer(&m)
		} else {
			c.event(&m)
		}
	}
}

func (c *conn) answer(m *message) {
	c.mu.Lock()
	cl := c.pending[m.ID]
	delete(c.pending, m.ID)
	if cl != nil && cl.opens != nil && m.Error == nil {
		c.register(cl, m.Result)
	}
	c.mu.Unlock()
	if cl == nil {
		return // posted, or its caller gave up
	}
	cl.result = m.Result
	if m.Error != nil {
		cl.err = &RemoteError{Method: cl.method, Code: m.Error.Code, Message: m.Error.Message}
	}
	if cl.ordered && cl.session.push(item{completes: cl}) {
		return
	}
	close(cl.done)
}

// register adds the session that an answer names; c.mu is held.
func (c *conn) register(cl *call, result jsonv2.Value) {
	var r struct {
		SessionID string `json:"sessionId"`
	}
	if err := jsonv2.Unmarshal(result, &r, lenient()); err != nil || r.SessionID == "" {
		return
	}
	cl.opened = newSession(c, r.SessionID, cl.opens)
	c.sessions[r.SessionID] = cl.opened
}

func (c *conn) event(m *message) {
	if m.Method == "Target.detachedFromTarget" {
		var p struct {
			SessionID string `json:"sessionId"`
		}
		if err := jsonv2.Unmarshal(m.Params, &p, lenient()); err == nil {
			c.drop(p.SessionID, fmt.Errorf("page detached: %w", ErrGone))
		}
		return
	}
	c.mu.Lock()
	s := c.sessions[m.SessionID]
	c.mu.Unlock()
	if s == nil || !s.wants[m.Method] {
		return
	}
	if !s.push(item{event: Event{Method: m.Method, Params: m.Params}}) {
		c.drop(m.SessionID, fmt.Errorf("%w: %w", ErrOverflow, ErrGone))
	}
}

// drop ends one session and the calls that wait on it.
func (c *conn) drop(id string, err error) {
	c.mu.Lock()
	s := c.sessions[id]
	delete(c.sessions, id)
	var failed []*call
	for n, cl := range c.pending {
		if s != nil && cl.session == s {
			failed = append(failed, cl)
			delete(c.pending, n)
		}
	}
	c.mu.Unlock()
	if s == nil {
		return
	}
	for _, cl := range failed {
		cl.err = fmt.Errorf("%s: %w", cl.method, err)
		close(cl.done)
	}
	s.fail(err)
}

// fail ends the connection: every pending call fails at once.
func (c *conn) fail(err error) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.err = err
	pending, sessions := c.pending, c.sessions
	c.pending, c.sessions = map[int64]*call{}, map[string]*Session{}
	c.outbox, c.outBytes = nil, 0
	c.mu.Unlock()
	for _, cl := range pending {
		cl.err = fmt.Errorf("%s: %w", cl.method, err)
		close(cl.done)
	}
	for _, s := range sessions {
		s.fail(err)
	}
	close(c.gone)
}

// submit queues a command; cl is nil for one whose answer nobody waits for.
func (c *conn) submit(session, method string, params any, cl *call) (int64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, fmt.Errorf("%s: %w", method, c.err)
	}
	if c.sessions[session] == nil {
		return 0, fmt.Errorf("%s: page detached: %w", method, ErrGone)
	}
	if c.outBytes > outboxLimit {
		return 0, fmt.Errorf("%s: the browser reads nothing: %w", method, ErrGone)
	}
	c.lastID++
	raw, err := jsonv2.Marshal(request{ID: c.lastID, SessionID: session, Method: method, Params: params}, lenient())
	if err != nil {
		return 0, fmt.Errorf("%s: encoding parameters: %w", method, err)
	}
	if cl != nil {
		c.pending[c.lastID] = cl
	}
	c.outbox = append(c.outbox, raw)
	c.outBytes += len(raw)
	select {
	case c.wake <- struct{}{}:
	default:
	}
	return c.lastID, nil
}

// write sends what is queued until the connection ends. It is a goroutine of
// its own because a frozen browser lets the pipe fill, and a caller's context
// must still end its wait.
func (c *conn) write() {
	for {
		select {
		case <-c.gone:
			return
		case <-c.wake:
		}
		c.mu.Lock()
		batch := c.outbox
		c.outbox = nil
		c.mu.Unlock()
		for _, raw := range batch {
			size := len(raw)
			if err := c.transport.Send(raw); err != nil {
				c.fail(fmt.Errorf("writing to the browser: %w: %w", ErrGone, err))
				return
			}
			c.mu.Lock()
			c.outBytes -= size
			c.mu.Unlock()
		}
	}
}

// wait waits for an answer and decodes it into result.
func (c *conn) wait(ctx context.Context, id int64, cl *call, result any) error {
	select {
	case <-cl.done:
	case <-ctx.Done():
		c.mu.Lock()
		delete(c.pending, id)
		c.mu.Unlock()
		return fmt.Errorf("%s: %w", cl.method, context.Cause(ctx))
	}
	if cl.err != nil {
		return cl.err
	}
	if result == nil {
		return nil
	}
	if err := jsonv2.Unmarshal(cl.result, result, lenient()); err != nil {
		return fmt.Errorf("%s: decoding the answer: %w", cl.method, err)
	}
	return nil
}
