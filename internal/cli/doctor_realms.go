package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/rewarm/rewarm/internal/client"
	"github.com/rewarm/rewarm/internal/realm"
	"github.com/rewarm/rewarm/internal/words"
)

// realmTimeout bounds the check of one realm.
const realmTimeout = 5 * time.Second

// checkConfig is the configuration file's line.
func checkConfig(c *configured) check {
	return check{"configuration", func(context.Context) (string, error) {
		if c.err != nil {
			return "", c.err
		}
		return fmt.Sprintf("%s: %d realms", c.path, len(c.file.Realms)), nil
	}}
}

// maxAtOnce is how many realms are asked at a time: all may be away, and each
// would be waited for.
const maxAtOnce = 16

// checkRealms are a line for each realm, each of which must be run. They are
// asked side by side.
func checkRealms(ctx context.Context, c *configured) (checks []check) {
	if c.file == nil {
		return nil
	}
	slots := make(chan struct{}, maxAtOnce)
	for _, r := range c.file.Table().Realms() {
		fine, done := "", make(chan error, 1)
		go func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			var err error
			fine, err = checkRealm(ctx, r)
			done <- err
		}()
		checks = append(checks, check{"realm", func(context.Context) (string, error) {
			err := <-done
			return fine, err
		}})
	}
	return checks
}

// checkRealm asks as a prerender server does: for a name that resolves, and a
// shell that is attested.
func checkRealm(ctx context.Context, r realm.Realm) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, realmTimeout)
	defer cancel()
	u, err := url.Parse(r.URL)
	if err != nil {
		return "", err
	}
	if _, err := net.DefaultResolver.LookupHost(ctx, u.Hostname()); err != nil {
		return "", fmt.Errorf("%s: its name has no address here; add it to DNS, or to /etc/hosts of this machine: %w", r.URL, err)
	}
	shell, err := client.NewRealm(r.URL).Standby(ctx)
	if err == nil {
		return fmt.Sprintf("%s answers, release %s", r.URL, shell.Token), nil
	}
	if _, ok := errors.AsType[*client.AttestationError](err); ok {
		return "", fmt.Errorf("%s: something else than a realm server answers there; point the name, or the proxy in front, at it: %w", r.URL, err)
	}
	if token, asked := tokenAt(ctx, u); asked == nil && token != "" {
		return "", fmt.Errorf("%s: a realm server answers there and does not have this realm; have the proxy in front pass the Host header on, or give that server this file: %w", r.URL, err)
	}
	return "", fmt.Errorf("%s: no answer; start the realm server, or let the proxy in front reach it: %w", r.URL, err)
}

// tokenAt is what a realm server says at the root of any host.
func tokenAt(ctx context.Context, u *url.URL) (words.Token, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: "/_host-shell-hash"}).String(), nil)
	if err != nil {
		return "", err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, words.MaxTokenLength+1))
	if err != nil || answer.StatusCode != http.StatusOK {
		return "", err
	}
	return words.ParseToken(string(body))
}
