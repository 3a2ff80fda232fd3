package manager

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/rewarm/rewarm/internal/client"
	"github.com/rewarm/rewarm/internal/ledger"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

const (
	// canaryLimit is how long a page's verdict is waited for. No verdict is as bad
	// as a break: what cannot be checked is not rolled out unseen.
	canaryLimit = time.Minute
	// canaryRetry is between two tries at what is not the page's fault.
	canaryRetry = 500 * time.Millisecond
	// canaryPrerender is how long a check waits for the page's snapshot, so that
	// it sees what visitors will see. A page that has none by then, for it is
	// private, is checked as it comes.
	canaryPrerender = 10 * time.Second
)

// errOver ends the check of a release that is not to be checked here any more.
var errOver = errors.New("the check is over")

// watchCanary has each release checked once some server is on it. Other
// managers may check the same; the first verdict holds.
func (m *Manager) watchCanary(ctx context.Context) {
	for ctx.Err() == nil {
		changed := m.fleet.change()
		if release, server := m.fleet.uncheckedCanary(); server != "" {
			m.checkCanary(ctx, release, server)
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// canary is one check of a release.
type canary struct {
	*Manager
	token words.Token
	// candidate: the realm servers hold the release and do not serve it yet.
	candidate bool
	// servers are those that may be asked, none when the release is not to be
	// checked any more.
	servers func() []string
	failed  int // tries; the next is another server's
}

// pick is the server to ask now, "" when the release is not to be checked any
// more.
func (c *canary) pick() string {
	servers := c.servers()
	if len(servers) == 0 {
		return ""
	}
	return servers[c.failed%len(servers)]
}

// goesOn is whether the release is still to be checked.
func (c *canary) goesOn() bool { return len(c.servers()) > 0 }

func (m *Manager) checkCanary(ctx context.Context, release words.Release, server string) {
	c := canary{Manager: m, token: release.Token, servers: func() []string {
		if now, on := m.fleet.uncheckedCanary(); now.Sequence == release.Sequence && on == server {
			return []string{server}
		}
		return nil
	}}
	verdict, err := c.verdict(ctx)
	if err != nil {
		return
	}
	verdict.Sequence, verdict.Server, verdict.At = release.Sequence, server, time.Now()
	m.log.Log(ctx, level(verdict.Passed), "canary checked", "sequence", release.Sequence, "token", release.Token, "server", server, "passed", verdict.Passed, "detail", verdict.Detail)
	for ctx.Err() == nil && c.goesOn() {
		err := m.ruleCanary(ctx, func(stored *ledger.Canary) bool {
			if stored.Sequence >= release.Sequence {
				return false // another manager's, or an operator's
			}
			*stored = verdict
			return true
		})
		if err == nil {
			return
		}
		m.log.Warn("the canary's verdict is not stored", "error", err)
		verdict.Checks = nil // if it was they that were too large
		pause(ctx, canaryRetry)
	}
}

// verdict looks at the pages until one breaks; an error says that the check is
// over without one.
func (c *canary) verdict(ctx context.Context) (ledger.Canary, error) {
	verdict := ledger.Canary{Passed: true, Detail: "nothing to check: no realm is live"}
	if len(c.options.CanaryURLs) == 0 {
		verdict.Detail = "no pages are to be checked"
	}
	for _, url := range canaryURLs(c.options.CanaryURLs, c.releases.liveRealms(time.Now())) {
		verdict.Detail = "the pages survive their takeover"
		found, err := c.check(ctx, url)
		verdict.Server = c.pick()
		switch {
		case errors.Is(err, errOver) || ctx.Err() != nil:
			return ledger.Canary{}, errOver
		case isUnsupported(err) && !c.candidate: // visitors have it: nothing is won by holding it back
			c.log.Warn("the canary cannot be checked", "server", verdict.Server, "url", url, "error", err)
			verdict.Detail = fmt.Sprintf("%s cannot check %s: %v", verdict.Server, url, err)
			continue
		case err != nil:
			verdict.Passed, verdict.Detail = false, fmt.Sprintf("%s: %v", url, err)
		default:
			verdict.Checks = append(verdict.Checks, found)
			if found.Verdict == words.VerdictBroken {
				verdict.Passed, verdict.Detail = false, url+" breaks in the visitor's browser: "+firstBreak(found)
			}
		}
		if !verdict.Passed {
			break
		}
	}
	return verdict, nil
}

// check is the verdict on one page. One that breaks is looked at twice: a
// rollout is not paused because a packet was lost.
func (c *canary) check(ctx context.Context, url string) (words.Verdict, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, canaryLimit, errors.New("no verdict in "+canaryLimit.String()))
	defer cancel()
	if !c.candidate { // its page is rendered for the check
		c.awaitSnapshot(ctx, url)
	}
	found, err := c.ask(ctx, url)
	if err != nil || found.Verdict != words.VerdictBroken {
		return found, err
	}
	pause(ctx, canaryRetry)
	if again, err := c.ask(ctx, url); err == nil || errors.Is(err, errOver) {
		return again, err
	}
	return found, nil
}

// ask asks the server until it has a verdict on the release's page. One that
// cannot check a candidate is no verdict while another may: it is an older one,
// does not know the realm yet, or its secret is being replaced.
func (c *canary) ask(ctx context.Context, url string) (words.Verdict, error) {
	unable := map[string]bool{}
	for {
		server := c.pick()
		if server == "" {
			return words.Verdict{}, errOver
		}
		asked := client.Manager{URL: server, HTTP: c.checker}
		if secrets := c.options.Guard.Secrets; len(secrets) > 0 {
			asked.Secret = secrets[0]
		}
		request := wire.TakeoverRequest{URL: url, AllowDifference: c.options.CanaryAllow}
		if c.candidate {
			request.Release = c.token
		}
		deadline, _ := ctx.Deadline()
		result, err := asked.TakeoverCheck(ctx, request, client.Call{Budget: time.Until(deadline)})
		switch {
		case err == nil && result.Token == c.token:
			return result.Verdict, nil
		case err == nil && result.Token == "":
			err = fmt.Errorf("the page did not come from the realm server: %s", firstBreak(result.Verdict))
		case err == nil:
			err = fmt.Errorf("the realm serves %s", result.Token)
		case isUnsupported(err):
			unable[server] = true
			if servers := c.servers(); len(servers) > 0 && !slices.ContainsFunc(servers, func(s string) bool { return !unable[s] }) {
				return words.Verdict{}, err
			}
		}
		c.failed++
		if pause(ctx, canaryRetry); ctx.Err() != nil {
			return words.Verdict{}, fmt.Errorf("%w (last: %w)", context.Cause(ctx), err)
		}
	}
}

// awaitSnapshot visits the page, so that it is rendered on the release, and
// waits until it is there.
func (c *canary) awaitSnapshot(ctx context.Context, url string) {
	ctx, cancel := context.WithTimeout(ctx, canaryPrerender)
	defer cancel()
	for ctx.Err() == nil && c.goesOn() {
		request, err := http.NewRequestWithContext(ctx, http.MethodHead, url, nil)
		if err != nil {
			return
		}
		answer, err := c.checker.Do(request)
		if err == nil {
			_ = answer.Body.Close()
			if said := answer.Header.Get(wire.HeaderSnapshot); said != "miss" && answer.Header.Get(wire.HeaderDocumentShell) == string(c.token) {
				return
			}
		}
		pause(ctx, canaryRetry)
	}
}

// ruleCanary changes the stored verdict, unless change says that it is to stay.
func (m *Manager) ruleCanary(ctx context.Context, change func(*ledger.Canary) bool) error {
	for range 5 { // others write too, but not without end
		stored, revision, err := m.store.Canary(ctx)
		if err != nil {
			return away(err)
		}
		if change(&stored) {
			revision, err = m.store.PutCanary(ctx, stored, revision)
		}
		if errors.Is(err, ledger.ErrConflict) {
			continue
		}
		if err == nil {
			m.fleet.setCanary(time.Now(), stored, revision)
			return nil
		}
		return away(err)
	}
	return away(ledger.ErrConflict)
}

// readCanary takes in what is stored.
func (m *Manager) readCanary(ctx context.Context) error {
	stored, revision, err := m.store.Canary(ctx)
	if err == nil {
		m.fleet.setCanary(time.Now(), stored, revision)
	}
	return err
}

// canaryURLs are the paths in each realm, and the URLs as they are.
func canaryURLs(wanted, realms []string) (urls []string) {
	for _, w := range wanted {
		if !strings.HasPrefix(w, "/") {
			urls = append(urls, w)
			continue
		}
		for _, realm := range realms {
			urls = append(urls, strings.TrimSuffix(realm, "/")+w)
		}
	}
	slices.Sort(urls)
	return slices.Compact(urls)
}

// isUnsupported is whether asking again cannot help: the server is another
// program, or an older one, or does not render the URL's realm.
func isUnsupported(err error) bool {
	answered, ok := errors.AsType[*client.StatusError](err)
	return ok && answered.Status >= 400 && answered.Status < 500 && answered.Status != http.StatusGone
}

func level(passed bool) slog.Level {
	if passed {
		return slog.LevelInfo
	}
	return slog.LevelError
}

func firstBreak(v words.Verdict) string {
	for _, f := range v.Findings {
		if f.Severity == words.SeverityBreak {
			return string(f.Kind) + ": " + f.Message
		}
	}
	return "no reason given"
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
