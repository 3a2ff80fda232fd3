package client

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// MaxShell bounds a host shell in bytes; the largest shells seen are some 100 KB.
const MaxShell = 8 << 20

// standbyTimeout bounds one fetch of /_standby. It is one small file; a realm
// server that needs longer is asked again.
const standbyTimeout = 10 * time.Second

// Realm fetches the host shell from a realm server. It may be shared.
type Realm struct {
	URL  string // base URL, without a trailing slash
	http *http.Client
}

// NewRealm returns a client of the realm at base. It follows no redirect, keeps
// no cookies, and takes bytes as they are: what it hashes is what was sent.
func NewRealm(base string) *Realm {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableCompression = true
	transport.Proxy = nil
	// A new connection each time: behind a load balancer a kept one would go on
	// reaching the same, perhaps old, replica.
	transport.DisableKeepAlives = true
	return &Realm{URL: strings.TrimSuffix(base, "/"), http: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       standbyTimeout,
	}}
}

// AttestationError says that a realm does not attest the shell it serves, so
// no page of it could ever be known to be of a release.
type AttestationError struct{ Detail string }

func (e *AttestationError) Error() string {
	return "realm does not attest its shell: " + e.Detail
}

// Standby fetches the host shell and checks its md5 against the header that
// names it.
func (r *Realm) Standby(ctx context.Context) (words.Shell, error) {
	return r.shell(ctx, "/_standby")
}

// StandbyOf fetches the shell of a release that the realm server holds, current
// or not.
func (r *Realm) StandbyOf(ctx context.Context, token words.Token) (words.Shell, error) {
	shell, err := r.shell(ctx, "/_standby?release="+url.QueryEscape(string(token)))
	if err == nil && shell.Token != token {
		return words.Shell{}, fmt.Errorf("fetch the host shell: asked for release %s, got %s", token, shell.Token)
	}
	return shell, err
}

func (r *Realm) shell(ctx context.Context, path string) (words.Shell, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.URL+path, nil)
	if err != nil {
		return words.Shell{}, fmt.Errorf("fetch the host shell: %w", err)
	}
	request.Header.Set("Accept-Encoding", "identity")
	response, err := r.http.Do(request)
	if err != nil {
		return words.Shell{}, fmt.Errorf("fetch the host shell: %w", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, MaxShell+1))
	switch {
	case err != nil:
		return words.Shell{}, fmt.Errorf("fetch the host shell: %w", err)
	case response.StatusCode != http.StatusOK:
		return words.Shell{}, fmt.Errorf("fetch the host shell: %s%s answered %d", r.URL, path, response.StatusCode)
	case len(body) > MaxShell:
		return words.Shell{}, fmt.Errorf("fetch the host shell: larger than %d bytes", MaxShell)
	}
	named := response.Header.Get(wire.HeaderDocumentShell)
	token := words.TokenOf(body)
	if named == "" {
		return words.Shell{}, &AttestationError{"no " + wire.HeaderDocumentShell + " header on " + r.URL + "/_standby"}
	}
	if words.Token(named) != token {
		return words.Shell{}, &AttestationError{fmt.Sprintf("its header names %.64q, its bytes are %s", named, token)}
	}
	return words.Shell{Token: token, Bytes: body, Header: documentHeaders(response.Header)}, nil
}

// documentHeaders keeps what changes how a browser treats the document.
func documentHeaders(h http.Header) map[string]string {
	kept := map[string]string{}
	for _, name := range []string{
		"Content-Type", "Content-Language", "Content-Security-Policy", "Content-Security-Policy-Report-Only",
		"Cross-Origin-Opener-Policy", "Cross-Origin-Embedder-Policy", "Permissions-Policy", "Referrer-Policy",
	} {
		if v := h.Get(name); v != "" {
			kept[name] = v
		}
	}
	return kept
}
