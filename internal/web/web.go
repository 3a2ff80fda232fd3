// Package web is what every HTTP listener of ours shares: handlers that return
// errors, bounded bodies, request ids, who may call, and a server whose life
// is a context's.
package web

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"

	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/wire"
)

// MaxBody bounds request bodies in bytes (protocol: default 8 MiB, then 413).
const MaxBody = 8 << 20

// Handler answers a request or returns why it cannot. It must not return an
// error after it has begun to write.
type Handler func(w http.ResponseWriter, r *http.Request) error

type requestIDKey struct{}

// RequestID is the id of the request that ctx belongs to; "" outside one.
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}

// Handle turns mux into an [http.Handler] whose every answer, errors too,
// carries the request id, and in which a panic costs one request only.
func Handle(log *slog.Logger, mux http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := wire.RequestID(r.Header.Get(wire.HeaderRequestID))
		if id == "" {
			id = newUUID()
		}
		w.Header().Set(wire.HeaderRequestID, id)
		r = r.WithContext(context.WithValue(r.Context(), requestIDKey{}, id))
		defer func() {
			if p := recover(); p != nil {
				if p == http.ErrAbortHandler {
					panic(p)
				}
				log.Error("panic in a handler", "requestId", id, "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
				WriteError(w, fault.New(fault.Internal, "internal error"))
			}
		}()
		mux.ServeHTTP(w, r)
	})
}

// Route adapts h for a mux: an error becomes the answer, and is logged here
// once when it is ours.
func Route(log *slog.Logger, h Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		err := h(w, r)
		if err == nil || r.Context().Err() != nil && errors.Is(err, context.Canceled) {
			return // done, or the caller is gone: nobody reads an answer
		}
		e := fault.From(err)
		if e.Status() >= 500 && e.Kind != fault.Refused {
			log.Error("request failed", "requestId", RequestID(r.Context()), "method", r.Method, "path", r.URL.Path, "error", err)
		}
		WriteError(w, e)
	}
}

// NotFound answers paths that no route knows.
func NotFound(http.ResponseWriter, *http.Request) error {
	return fault.New(fault.NotFound, "Not found")
}

// WriteError writes e in the contract's error shape.
func WriteError(w http.ResponseWriter, e *fault.Error) {
	if e.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int((e.RetryAfter+time.Second-1)/time.Second)))
	}
	if e.Kind == fault.Draining {
		w.Header().Set(wire.HeaderServerStatus, wire.StatusDraining)
	}
	type item struct {
		Status  int    `json:"status"`
		Message string `json:"message"`
	}
	WriteJSON(w, e.Status(), wire.ContentTypeJSON, map[string][]item{"errors": {{e.Status(), e.Message}}})
}

// WriteJSON writes v. What cannot be encoded is a defect and answers 500.
func WriteJSON(w http.ResponseWriter, status int, contentType string, v any) {
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false) // answers are full of HTML, and would be a third longer
	if err := encoder.Encode(v); err != nil {
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	body.Truncate(body.Len() - 1) // its line's end
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Content-Length", strconv.Itoa(body.Len()))
	w.WriteHeader(status)
	_, _ = body.WriteTo(w) // the peer may be gone; nothing to do about it
}

// ReadBody reads a request's body of at most [MaxBody] bytes.
func ReadBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, fault.New(fault.TooLarge, "Body larger than %d bytes", tooLarge.Limit)
	}
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "Body could not be read")
	}
	return body, nil
}

// Listen binds addr and turns the usual mistakes into sentences. role names
// the listener in them, flag the option that moves it.
func Listen(role, flag, addr string) (net.Listener, error) {
	ln, err := net.Listen("tcp", addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fault.Wrap(fault.Internal, err, "%s: %s is in use; stop what listens there, or choose another address with %s", role, addr, flag)
	case errors.Is(err, syscall.EACCES):
		return nil, fault.Wrap(fault.Internal, err, "%s: may not listen on %s; choose a port above 1023 with %s", role, addr, flag)
	case err != nil:
		return nil, fault.Wrap(fault.Internal, err, "%s: cannot listen on %q; %s takes host:port", role, addr, flag)
	}
	return ln, nil
}

// Serve answers on ln until ctx ends, then stops accepting, lets running
// requests finish for at most grace, and returns after the last has ended or
// was cut off. It returns nil when ctx ended it.
func Serve(ctx context.Context, ln net.Listener, handler http.Handler, grace time.Duration) error {
	base, cutOff := context.WithCancel(context.WithoutCancel(ctx))
	defer cutOff()
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second, // a slow header is a stuck or hostile peer
		IdleTimeout:       2 * time.Minute,
		BaseContext:       func(net.Listener) context.Context { return base },
		ConnContext:       withConn,
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(wholeListener{ln}) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve %s: %w", ln.Addr(), err)
	case <-ctx.Done():
	}
	bounded, cancel := context.WithTimeout(base, grace)
	defer cancel()
	if server.Shutdown(bounded) != nil {
		cutOff()
		_ = server.Close()
	}
	<-ended
	return nil
}

func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	text := make([]byte, 36)
	for i, at := range [...][3]int{{0, 0, 4}, {9, 4, 6}, {14, 6, 8}, {19, 8, 10}, {24, 10, 16}} {
		if hex.Encode(text[at[0]:], b[at[1]:at[2]]); i > 0 {
			text[at[0]-1] = '-'
		}
	}
	return string(text)
}
