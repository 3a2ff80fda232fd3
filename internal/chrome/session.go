package chrome

import (
	"context"
	"fmt"
	"sync"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/cdp/jsonv2"
	"github.com/chromedp/cdproto/target"
)

// The bounds of one session's unread events. Its reader is meant to keep up; a
// page that logs in a loop gets this far in seconds, and is then given up.
const (
	queueEvents = 20_000
	queueBytes  = 64 << 20
)

// Event is one event of a session, not decoded yet.
type Event struct {
	Method string
	Params jsonv2.Value
}

// Decode reads the event's payload into v.
func (e Event) Decode(v any) error {
	if err := jsonv2.Unmarshal(e.Params, v, lenient()); err != nil {
		return fmt.Errorf("decoding %s: %w", e.Method, err)
	}
	return nil
}

// item is an event, or the answer of an ordered call in its place among them.
type item struct {
	event     Event
	completes *call
}

// Session is a flat DevTools session: commands to one target, and its events
// in order. Its owner drains it with [Session.Next] from one goroutine; that
// goroutine may issue calls.
type Session struct {
	conn  *conn
	id    string
	wants map[string]bool
	gone  chan struct{}

	mu    sync.Mutex
	queue []item
	bytes int
	err   error
	wake  chan struct{}
}

func newSession(c *conn, id string, events []string) *Session {
	s := &Session{conn: c, id: id, wants: map[string]bool{}, gone: make(chan struct{}), wake: make(chan struct{}, 1)}
	for _, e := range events {
		s.wants[e] = true
	}
	return s
}

// push appends to the queue; false means that the session has ended or is full.
func (s *Session) push(it item) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil || len(s.queue) >= queueEvents || s.bytes > queueBytes {
		return false
	}
	s.queue = append(s.queue, it)
	s.bytes += len(it.event.Params)
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return true
}

func (s *Session) fail(err error) {
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return
	}
	s.err = err
	var waiting []*call
	for _, it := range s.queue {
		if it.completes != nil {
			waiting = append(waiting, it.completes)
		}
	}
	s.queue, s.bytes = nil, 0
	s.mu.Unlock()
	for _, cl := range waiting {
		close(cl.done) // answered before the end: the answer stands
	}
	close(s.gone)
}

// Next returns the session's next event. It fails when ctx ends, or with an
// error that wraps ErrGone once the session is over.
func (s *Session) Next(ctx context.Context) (Event, error) {
	for {
		s.mu.Lock()
		if len(s.queue) > 0 {
			it := s.queue[0]
			s.queue[0] = item{}
			s.queue = s.queue[1:]
			s.bytes -= len(it.event.Params)
			s.mu.Unlock()
			if it.completes != nil {
				close(it.completes.done)
				continue
			}
			return it.event, nil
		}
		err := s.err
		s.mu.Unlock()
		if err != nil {
			return Event{}, err
		}
		select {
		case <-s.wake:
		case <-s.gone:
		case <-ctx.Done():
			return Event{}, context.Cause(ctx)
		}
	}
}

// Gone is closed when the session is over: the target was closed or crashed
// away, its events overflowed, or the connection ended.
func (s *Session) Gone() <-chan struct{} { return s.gone }

// Abandon ends the session on our side: its pending calls fail with err at
// once. It is for a target that is known to answer no more.
func (s *Session) Abandon(err error) { s.conn.drop(s.id, err) }

// Err says why the session is over; nil while it is not.
func (s *Session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Call sends a command and waits for its answer until ctx ends.
func (s *Session) Call(ctx context.Context, method string, params, result any) error {
	return s.do(ctx, method, params, result, false)
}

// CallInOrder is Call, but returns only after every event that the browser
// sent before the answer has been handled by the caller of Next.
func (s *Session) CallInOrder(ctx context.Context, method string, params, result any) error {
	return s.do(ctx, method, params, result, true)
}

func (s *Session) do(ctx context.Context, method string, params, result any, ordered bool) error {
	return s.send(method, params, ordered).Wait(ctx, result)
}

func (s *Session) send(method string, params any, ordered bool) *Sent {
	sent := &Sent{conn: s.conn, call: &call{method: method, session: s, ordered: ordered, done: make(chan struct{})}}
	sent.id, sent.err = s.conn.submit(s.id, method, params, sent.call)
	return sent
}

// Send sends a command and does not wait; what is sent after it comes after it.
// Its answer is waited for, once, with [Sent.Wait].
func (s *Session) Send(method string, params any) *Sent { return s.send(method, params, false) }

// Sent is a command that was sent.
type Sent struct {
	conn *conn
	call *call
	id   int64
	err  error // it was not
}

// Wait waits for the answer until ctx ends.
func (s *Sent) Wait(ctx context.Context, result any) error {
	if s.err != nil {
		return s.err
	}
	return s.conn.wait(ctx, s.id, s.call, result)
}

// Post sends a command whose answer nobody needs; it never waits.
func (s *Session) Post(method string, params any) error {
	_, err := s.conn.submit(s.id, method, params, nil)
	return err
}

// Command is one element of [Session.CallAll].
type Command struct {
	Method string
	Params any
	Result any // what the answer is decoded into; nil for one that says nothing
}

// CallAll sends all commands at once and waits for all answers: one round trip
// for the many that setting up a page takes. The first failure is returned.
func (s *Session) CallAll(ctx context.Context, commands ...Command) error {
	sent := make([]*Sent, len(commands))
	for i, c := range commands {
		sent[i] = s.Send(c.Method, c.Params)
	}
	var first error
	for i, c := range commands {
		if err := sent[i].Wait(ctx, c.Result); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// Call is [Session.Call] with cdproto's types.
func Call[P, R any](ctx context.Context, s *Session, c cdp.Command[P, R], params P) (R, error) {
	var res R
	err := s.Call(ctx, c.Method, params, &res)
	return res, err
}

// attach opens a session on a target; it hears the given events and no others.
func (c *conn) attach(ctx context.Context, id target.ID, events []string) (*Session, error) {
	flat := true
	cl := &call{method: target.CommandAttachToTarget, session: c.root, opens: append([]string{}, events...), done: make(chan struct{})}
	n, err := c.submit("", cl.method, target.AttachToTargetParams{TargetID: id, Flatten: &flat}, cl)
	if err != nil {
		return nil, err
	}
	if err := c.wait(ctx, n, cl, nil); err != nil {
		return nil, err
	}
	if cl.opened == nil {
		return nil, fmt.Errorf("%s: the answer names no session", cl.method)
	}
	return cl.opened, nil
}
