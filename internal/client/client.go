// Package client is the client of our own HTTP API: what prerender servers and
// realm servers say to the manager, what a prerender server fetches from a
// realm server, and what the command line asks.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// MaxAnswer bounds what is read of any answer, in bytes: a capture of 8 MiB
// with its JSON escapes.
const MaxAnswer = 64 << 20

// Manager speaks to a prerender manager. It may be shared by goroutines.
type Manager struct {
	URL    string // without a trailing slash
	Secret string // "" sends none
	HTTP   *http.Client
}

// NewManager returns a client of the manager at base. Its transport keeps
// enough idle connections for held heartbeats beside renders; budgets come
// from contexts, so it has no time-out of its own.
func NewManager(base, secret string) *Manager {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 64
	transport.Proxy = nil // the fleet speaks to itself, never through a proxy
	return &Manager{URL: strings.TrimSuffix(base, "/"), Secret: secret, HTTP: &http.Client{Transport: transport}}
}

// StatusError is an answer other than the one asked for.
type StatusError struct {
	Status     int
	Message    string
	RetryAfter time.Duration
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("answered %d: %s", e.Status, e.Message)
}

// Orders is what the manager tells with an answer: the newest release, and
// on a heartbeat the token this server may move its existing pages to.
type Orders struct {
	Sequence  uint64 // 0: none heard
	Token     words.Token
	Permitted words.Token // "" : none
}

// Report tells what a realm server serves, or holds. It returns once the
// manager has stored it, with the release that is current then.
func (m *Manager) Report(ctx context.Context, report wire.Report) (Orders, error) {
	_, answer, err := m.call(ctx, http.MethodPost, "/host-shell", resource("host-shell-report", report), nil)
	if err != nil {
		return Orders{}, err
	}
	return readOrders(answer), nil
}

// Heartbeat registers the server and returns the manager's orders. With wait
// > 0 the manager may hold the answer that long, until its orders change.
func (m *Manager) Heartbeat(ctx context.Context, beat wire.Heartbeat, wait time.Duration) (Orders, error) {
	header := http.Header{}
	if wait > 0 {
		header.Set("Prefer", "wait="+strconv.Itoa(int(wait/time.Second)))
	}
	_, answer, err := m.call(ctx, http.MethodPost, "/prerender-servers", resource(wire.TypePrerenderServer, beat), header)
	if err != nil {
		return Orders{}, err
	}
	return readOrders(answer), nil
}

func readOrders(h http.Header) Orders {
	var orders Orders
	if sequence, token, ok := wire.ParseRelease(h.Get(wire.HeaderRelease)); ok {
		orders.Sequence, orders.Token = sequence, token
	}
	if token, err := words.ParseToken(h.Get(wire.HeaderShellHash)); err == nil {
		orders.Permitted = token
	}
	return orders
}

// Unregister takes the server at serverURL out of the registry.
func (m *Manager) Unregister(ctx context.Context, serverURL string) error {
	_, _, err := m.call(ctx, http.MethodDelete, "/prerender-servers?url="+url.QueryEscape(serverURL), nil, nil)
	return err
}

// Call is how a render is asked for.
type Call struct {
	Pin       words.Token   // required token; "" takes any
	Budget    time.Duration // how long the caller waits; 0 leaves it to the server
	RequestID string
	Priority  int
	Anew      bool // the answer of a render that began before is not good enough
}

// VisitAnswer is a render's answer with the token of its document, as the
// answer's header says it.
type VisitAnswer struct {
	Result wire.VisitResult
	Meta   wire.Meta
	Token  words.Token
}

// Visit asks for a render. A refusal is a [*StatusError].
func (m *Manager) Visit(ctx context.Context, visit wire.VisitRequest, call Call) (VisitAnswer, error) {
	body, answer, err := m.call(ctx, http.MethodPost, "/prerender-visit", resource("prerender-visit", visit), call.header())
	if err != nil {
		return VisitAnswer{}, err
	}
	var doc wire.Document[wire.VisitResult]
	if err := wire.Decode(body, &doc); err != nil {
		return VisitAnswer{}, fmt.Errorf("visit %s: answer: %w", visit.URL, err)
	}
	result := VisitAnswer{Result: doc.Data.Attributes}
	if doc.Meta != nil {
		result.Meta = *doc.Meta
	}
	result.Token, _ = words.ParseToken(answer.Get(wire.HeaderShellHash))
	return result, nil
}

func (c Call) header() http.Header {
	h := http.Header{}
	if c.Pin != "" {
		h.Set(wire.HeaderShellHash, string(c.Pin))
	}
	if c.Budget > 0 {
		h.Set(wire.HeaderBudget, strconv.FormatInt(c.Budget.Milliseconds(), 10))
	}
	if c.RequestID != "" {
		h.Set(wire.HeaderRequestID, c.RequestID)
	}
	if c.Anew {
		h.Set("Cache-Control", "no-cache")
	}
	if c.Priority > 0 {
		h.Set(wire.HeaderJobPriority, strconv.Itoa(c.Priority))
	}
	return h
}

// Releases is GET /host-shell.
func (m *Manager) Releases(ctx context.Context) (wire.Releases, error) {
	return ask[wire.Releases](ctx, m, http.MethodGet, "/host-shell")
}

// Rollout is GET /rollout.
func (m *Manager) Rollout(ctx context.Context) (wire.Rollout, error) {
	return ask[wire.Rollout](ctx, m, http.MethodGet, "/rollout")
}

// RolloutAction is POST /rollout/{action}: pause, resume, undo or restart.
// release is what resume and undo mean; "" is whatever is next, or current. It
// returns the rollout as the order left it.
func (m *Manager) RolloutAction(ctx context.Context, action string, release words.Token) (wire.Rollout, error) {
	path := "/rollout/" + url.PathEscape(action)
	if release != "" {
		path += "?release=" + url.QueryEscape(string(release))
	}
	return ask[wire.Rollout](ctx, m, http.MethodPost, path)
}

func ask[T any](ctx context.Context, m *Manager, method, path string) (v T, err error) {
	body, _, err := m.call(ctx, method, path, nil, nil)
	if err != nil {
		return v, err
	}
	if err := wire.Decode(body, &v); err != nil {
		return v, fmt.Errorf("%s %s%s: answer: %w", method, m.URL, path, err)
	}
	return v, nil
}

func resource[A any](kind string, attributes A) any {
	return wire.Document[A]{Data: wire.Resource[A]{Type: kind, Attributes: attributes}}
}

func (m *Manager) call(ctx context.Context, method, path string, body any, header http.Header) ([]byte, http.Header, error) {
	var reader io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return nil, nil, fmt.Errorf("%s %s: %w", method, path, err)
		}
		reader = bytes.NewReader(encoded)
	}
	request, err := http.NewRequestWithContext(ctx, method, m.URL+path, reader)
	if err != nil {
		return nil, nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if header != nil {
		request.Header = header
	}
	request.Header.Set("Content-Type", wire.ContentTypeJSONAPI)
	request.Header.Set("Accept", "application/json, application/vnd.api+json")
	if m.Secret != "" {
		request.Header.Set("Authorization", "Bearer "+m.Secret)
	}
	response, err := m.HTTP.Do(request)
	if err != nil {
		return nil, nil, fault.Wrap(fault.Upstream, err, "manager %s cannot be reached", m.URL)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, MaxAnswer))
	if err != nil {
		return nil, nil, fault.Wrap(fault.Upstream, err, "manager %s broke off its answer", m.URL)
	}
	if response.StatusCode >= 300 {
		return nil, response.Header, statusError(response, answer)
	}
	return answer, response.Header, nil
}

func statusError(response *http.Response, body []byte) error {
	var doc struct {
		Errors []struct {
			Message string `json:"message"`
		} `json:"errors"`
	}
	message := http.StatusText(response.StatusCode)
	if wire.Decode(body, &doc) == nil && len(doc.Errors) > 0 {
		message = doc.Errors[0].Message
	}
	// What it says goes to terminals and logs: one line, without their controls.
	message = strings.Join(strings.FieldsFunc(message, unicode.IsControl), " ")
	seconds, _ := strconv.ParseUint(response.Header.Get("Retry-After"), 10, 31)
	return &StatusError{Status: response.StatusCode, Message: message, RetryAfter: time.Duration(seconds) * time.Second}
}

// IsStatus reports whether err is an answer with the status.
func IsStatus(err error, status int) bool {
	e, ok := errors.AsType[*StatusError](err)
	return ok && e.Status == status
}
