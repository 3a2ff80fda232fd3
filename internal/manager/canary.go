package manager

import (
	"context"
	"errors"
	"fmt"
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
	// canaryLimit is how long a release waits for its verdict. No verdict is as
	// bad as a break: what cannot be checked is not rolled out unseen.
	canaryLimit = time.Minute
	// canaryRetry is between two tries at what is not the page's fault.
	canaryRetry = 500 * time.Millisecond
	// canaryPrerender is how long a check waits for the page's snapshot, so that
	// it sees what visitors will see. A page that has none by then is checked as
	// it comes.
	canaryPrerender = 15 * time.Second
)

// errSuperseded ends the check of a release that is not the current one any more.
var errSuperseded = errors.New("the release was superseded")

// watchCanary has each release checked once some server is on it. Other
// managers may check the same; what was stored last holds, and all say the same
// of a page that is broken.
func (m *Manager) watchCanary(ctx context.Context) {
	for ctx.Err() == nil {
		changed := m.fleet.change()
		if release, server, realms := m.fleet.uncheckedCanary(); server != "" {
			m.checkCanary(ctx, release, server, realms)
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

func (m *Manager) checkCanary(ctx context.Context, release words.Release, server string, realms []string) {
	bounded, cancel := context.WithTimeoutCause(ctx, canaryLimit, errors.New("no verdict in "+canaryLimit.String()))
	defer cancel()
	verdict := ledger.Canary{Sequence: release.Sequence, Server: server, Passed: true, Detail: "nothing to check: no realm is known"}
	for _, url := range canaryURLs(m.options.CanaryURLs, realms) {
		found, err := m.checkTakeover(bounded, release, server, url)
		if errors.Is(err, errSuperseded) || ctx.Err() != nil {
			return
		}
		verdict.Detail = "the pages survive their takeover"
		switch {
		case isUnsupported(err):
			verdict.Detail = server + " cannot check a takeover"
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
	verdict.At = time.Now()
	level := m.log.Info
	if !verdict.Passed {
		level = m.log.Error
	}
	level("canary checked", "sequence", release.Sequence, "token", release.Token, "server", server, "passed", verdict.Passed, "detail", verdict.Detail)
	for m.putCanary(ctx, verdict) != nil && ctx.Err() == nil {
		pause(ctx, canaryRetry) // the store is away: no wave advances meanwhile
	}
}

// checkTakeover asks the server until it has a verdict.
func (m *Manager) checkTakeover(ctx context.Context, release words.Release, server, url string) (words.Verdict, error) {
	m.awaitSnapshot(ctx, release, url)
	asked := &client.Manager{URL: server, HTTP: m.asker.client}
	if secrets := m.options.Guard.Secrets; len(secrets) > 0 {
		asked.Secret = secrets[0]
	}
	for {
		if m.fleet.current().Sequence != release.Sequence {
			return words.Verdict{}, errSuperseded
		}
		deadline, _ := ctx.Deadline()
		result, err := asked.TakeoverCheck(ctx, wire.TakeoverRequest{URL: url, AllowDifference: m.options.CanaryAllow}, client.Call{Budget: time.Until(deadline)})
		switch {
		case err == nil && (result.Token == release.Token || result.Token == ""):
			return result.Verdict, nil
		case err == nil: // the realm serves another release at this moment
			err = fmt.Errorf("the realm serves %s", result.Token)
		case isUnsupported(err):
			return words.Verdict{}, err
		}
		if pause(ctx, canaryRetry); ctx.Err() != nil {
			return words.Verdict{}, fmt.Errorf("%w (last: %w)", context.Cause(ctx), err)
		}
	}
}

// awaitSnapshot visits the page, so that it is rendered on the release, and
// waits until it is there.
func (m *Manager) awaitSnapshot(ctx context.Context, release words.Release, url string) {
	ctx, cancel := context.WithTimeout(ctx, canaryPrerender)
	defer cancel()
	for ctx.Err() == nil && m.fleet.current().Sequence == release.Sequence {
		request, err := http.NewRequestWithContext(ctx, http.MethodHead, url, nil)
		if err != nil {
			return
		}
		answer, err := m.asker.client.Do(request)
		if err == nil {
			_ = answer.Body.Close()
			if said := answer.Header.Get(wire.HeaderSnapshot); said != "miss" && answer.Header.Get(wire.HeaderDocumentShell) == string(release.Token) {
				return
			}
		}
		pause(ctx, canaryRetry)
	}
}

func (m *Manager) putCanary(ctx context.Context, c ledger.Canary) error {
	if err := m.store.PutCanary(ctx, c); err != nil {
		return away(err)
	}
	m.fleet.setCanary(time.Now(), c)
	return nil
}

// brokenCanary is the verdict that holds the current release back, if one does.
func (f *fleet) brokenCanary() (c ledger.Canary, broken bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.canary, f.check().Broken != ""
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

// isUnsupported is whether the server knows no takeover check: it is another
// program, or an older one.
func isUnsupported(err error) bool {
	answered, ok := errors.AsType[*client.StatusError](err)
	return ok && (answered.Status == http.StatusNotFound || answered.Status == http.StatusMethodNotAllowed)
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
