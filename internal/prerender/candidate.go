package prerender

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/rewarm/rewarm/internal/chrome"
	"github.com/rewarm/rewarm/internal/client"
	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/page"
	hostshell "github.com/rewarm/rewarm/internal/shell"
	"github.com/rewarm/rewarm/internal/takeover"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// observeCandidate checks a page of a release that the realm server holds and
// does not serve: it is rendered on a page that is warmed with the release and
// used once, outside of the pool, and then visited as the realm server would
// serve it. Nothing of it is kept.
func (s *Server) observeCandidate(ctx context.Context, browser *resident, c check) (page.Observation, error) {
	shell, err := client.NewRealm(c.realm).StandbyOf(ctx, c.release)
	if err != nil {
		return page.Observation{}, fault.Refuse(time.Second, "The release cannot be had of %s: %v", c.realm, err)
	}
	given, broken, err := s.rehearse(ctx, browser, c, shell)
	switch {
	case err != nil:
		return page.Observation{}, err
	case broken != "":
		return page.Observation{Evidence: takeover.Evidence{URL: c.observe.URL, FinalURL: c.observe.URL, Token: c.release, Failed: broken}}, nil
	}
	c.observe.Given = given
	return browser.Observe(ctx, c.observe)
}

// rehearse renders the page and composes what visitors would get. broken is
// what is wrong with the release, an error what is wrong with this server.
func (s *Server) rehearse(ctx context.Context, browser *resident, c check, shell words.Shell) (given *page.Given, broken string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.budget/3, errBudget)
	defer cancel()
	opened, err := browser.open(ctx, page.OpenOptions{Shell: shell, StandbyURL: c.realm + "/_standby", Realms: s.realms.all()})
	switch {
	case err == nil:
	case !errors.Is(err, page.ErrNotWarm):
		return nil, "", err
	case ctx.Err() != nil || isOurs(err):
		return nil, "", fault.Refuse(time.Second, "No page was warmed with the release: %v", err)
	default:
		return nil, "no page can be warmed with the release: " + err.Error(), nil
	}
	defer func() { _ = opened.Close() }() // the browser's end closes it at the latest
	result, err := opened.Do(ctx, page.Task{Kind: page.Document, Visit: words.Visit{
		URL: c.observe.URL, Realm: c.realm, Affinity: words.Affinity{Type: words.AffinityRealm, Value: c.realm},
		Options: words.RenderOptions{Viewport: c.observe.Viewport}, RequestID: c.requestID,
	}})
	switch {
	case err != nil:
		return nil, "", err
	case result.Status == words.StatusError && result.Error != nil:
		return nil, fmt.Sprintf("the page does not render (%s): %s", result.Error.Kind, result.Error.Message), nil
	case result.Status == words.StatusUnusable:
		return nil, fmt.Sprintf("the page does not render within %s", (c.budget / 3).Round(time.Second)), nil
	}
	if result.Token != "" && result.Token != shell.Token {
		s.metrics.violations.WithLabelValues("never_stale").Inc()
		return nil, "", errors.New("the document's token is not the page's")
	}
	return compose(shell, result.Capture), "", nil
}

// isOurs reports whether a page's end says nothing of the release: the browser
// died, or there was no time. A release that always ends it so gets no verdict
// from any server, and is refused for that.
func isOurs(err error) bool {
	return errors.Is(err, chrome.ErrGone) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// compose is the page as the realm server would serve it: with what was
// rendered in it, or bare where nothing would be stored.
func compose(shell words.Shell, c words.Capture) *page.Given {
	bare := &page.Given{Shell: shell, Body: shell.Bytes, Status: http.StatusOK, Snapshot: "miss"}
	if c.Status != words.StatusReady || c.Token != shell.Token || wire.Private(c.Headers) {
		return bare
	}
	composed, err := hostshell.Compose(shell.Bytes, c.HTML, hostshell.Options{})
	if err != nil {
		return bare
	}
	given := &page.Given{Shell: shell, Body: composed.HTML, Status: http.StatusOK, Snapshot: "hit"}
	if c.HTTPStatus >= http.StatusBadRequest {
		given.Status = c.HTTPStatus
	}
	return given
}
