package client

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"unicode"

	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// says answers every request with the same.
type says struct {
	status int
	header http.Header
	body   []byte
}

func (s says) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: s.status, Header: s.header.Clone(), Body: io.NopCloser(bytes.NewReader(s.body))}, nil
}

// FuzzManagerAnswer reads what a manager answers, whatever it is.
func FuzzManagerAnswer(f *testing.F) {
	f.Add(201, "7 abc", "abc", "", []byte(`{"data":{"attributes":{"status":"ready","html":"<p>","base64":"AA=="}},"meta":{"timing":{"totalMs":1}}}`))
	f.Add(503, "7", " a b", "3", []byte(`{"errors":[{"status":503,"message":"All prerender servers refuse for now"}]}`))
	f.Add(200, "", "", "", []byte(`{"current":{"sequence":1,"token":"t","since":"2026-01-02T03:04:05Z"},"history":[],"reporters":null,"release":{},"servers":[{}]}`))
	f.Add(500, "0 x", "\x00", "x", []byte(`{"errors":[]}`))
	f.Fuzz(func(t *testing.T, status int, release, shell, retryAfter string, body []byte) {
		header := http.Header{wire.HeaderRelease: {release}, wire.HeaderShellHash: {shell}, "Retry-After": {retryAfter}}
		m := &Manager{URL: "http://manager", HTTP: &http.Client{Transport: says{status, header, body}}}
		orders, err := m.Heartbeat(t.Context(), wire.Heartbeat{}, 0)
		whole(t, err, status)
		for _, token := range []words.Token{orders.Token, orders.Permitted} {
			holdsToken(t, token)
		}
		if (orders.Sequence == 0) != (orders.Token == "") {
			t.Errorf("orders of half a release: %+v", orders)
		}
		answer, err := m.Visit(t.Context(), wire.VisitRequest{}, Call{})
		whole(t, err, status)
		holdsToken(t, answer.Token)
		_, err = m.Screenshot(t.Context(), wire.VisitRequest{}, Call{})
		whole(t, err, status)
		_, err = m.Releases(t.Context())
		whole(t, err, status)
		_, err = m.Rollout(t.Context())
		whole(t, err, status)
	})
}

// whole holds that an answer is an error where it is none of those asked for,
// and that what such an error says can be acted on, and be shown to people.
func whole(t *testing.T, err error, status int) {
	t.Helper()
	if err == nil && status >= 300 {
		t.Errorf("%d is no error", status)
	}
	e, ok := errors.AsType[*StatusError](err)
	if ok && (e.Status != status || e.RetryAfter < 0 || strings.ContainsFunc(e.Message, unicode.IsControl)) {
		t.Errorf("%d is %+v", status, e)
	}
}

func holdsToken(t *testing.T, token words.Token) {
	t.Helper()
	if parsed, err := words.ParseToken(string(token)); token != "" && (err != nil || parsed != token) {
		t.Errorf("token %q: %v", token, err)
	}
}

// FuzzStandby reads what a realm server, or what stands before one, answers.
func FuzzStandby(f *testing.F) {
	shell := []byte("<p>")
	f.Add(200, string(words.TokenOf(shell)), "default-src 'self'", shell, true)
	f.Add(200, "", "", shell, false)
	f.Add(302, "x\r\n", "\x00", []byte{}, false)
	f.Fuzz(func(t *testing.T, status int, token, policy string, body []byte, attests bool) {
		if attests {
			token = string(words.TokenOf(body))
		}
		header := http.Header{wire.HeaderDocumentShell: {token}, "Content-Security-Policy": {policy}, "Set-Cookie": {policy}}
		r := NewRealm("http://realm")
		r.http.Transport = says{status, header, body}
		got, err := r.Standby(t.Context())
		if good := status == http.StatusOK && token == string(words.TokenOf(body)); good != (err == nil) {
			t.Fatalf("%d with token %q: %v", status, token, err)
		}
		if err == nil && (got.Token != words.TokenOf(got.Bytes) || !bytes.Equal(got.Bytes, body)) {
			t.Errorf("token %q is not that of %q", got.Token, got.Bytes)
		}
		if got.Header["Set-Cookie"] != "" {
			t.Errorf("a cookie travels with the shell: %q", got.Header)
		}
	})
}
