package manager

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/rewarm/rewarm/internal/release"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

const (
	// askAgainAfter spaces questions about one token: its report may be on its
	// way, and every server of the fleet names it.
	askAgainAfter = 2 * time.Second
	askTimeout    = 5 * time.Second
	maxAsked      = 100 // tokens remembered, and questions waiting
)

// anyToken is the question what the realms serve, whatever it is.
const anyToken words.Token = ""

// asker asks realms for their token when a server has pages of one that nobody
// reported, or finds files of the current release gone: a lost report must not
// keep the fleet from a release.
type asker struct {
	log      *slog.Logger
	fleet    *fleet
	releases *releases
	client   *http.Client
	unknown  chan words.Token
}

func newAsker(log *slog.Logger, f *fleet, r *releases) *asker {
	return &asker{
		log: log, fleet: f, releases: r,
		unknown: make(chan words.Token, maxAsked),
		client: &http.Client{
			Transport: &http.Transport{DisableKeepAlives: true},
			Timeout:   askTimeout,
			// A realm answers itself; what it redirects to is not the realm.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// askAbout queues a question for each token of h that is in no history; and
// for any token, if files have gone that the server's pages name.
func (m *Manager) askAbout(h wire.Heartbeat, skewed bool) {
	var unknown []words.Token
	if skewed {
		unknown = append(unknown, anyToken)
	}
	book := m.releases.book()
	for token := range h.HostShell.Pages {
		if !book.Known(token) {
			unknown = append(unknown, token)
		}
	}
	for _, token := range unknown {
		select {
		case m.asker.unknown <- token:
		default: // the next heartbeat names it again
		}
	}
}

func (a *asker) run(ctx context.Context) {
	asked := map[words.Token]time.Time{}
	var again <-chan time.Time // when a skew that came too soon is asked about
	for {
		token := anyToken
		select {
		case <-ctx.Done():
			return
		case <-again:
			again = nil
		case token = <-a.unknown:
		}
		now := time.Now()
		if soon := asked[token].Add(askAgainAfter).Sub(now); soon > 0 {
			if token == anyToken { // no heartbeat says it again
				again = time.After(soon)
			}
			continue
		}
		if a.releases.book().Known(token) {
			continue
		}
		if len(asked) >= maxAsked {
			clear(asked)
		}
		asked[token] = now
		a.ask(ctx, token)
	}
}

// ask looks for a realm that serves token, or any that nobody reported, and
// counts that as its presence.
func (a *asker) ask(ctx context.Context, token words.Token) {
	a.fleet.mu.Lock()
	realms := append([]string(nil), a.fleet.realms...)
	a.fleet.mu.Unlock()
	seen := map[string]bool{}
	for _, realm := range realms {
		if seen[realm] {
			continue
		}
		seen[realm] = true
		if a.releases.book().Gated(realm) {
			continue // what is served is no release before it is promoted
		}
		found := a.serves(ctx, realm)
		if found == "" || token != anyToken && found != token || a.releases.book().Known(found) {
			continue
		}
		outcome, err := a.releases.report(ctx, release.Report{
			Token: found, Source: words.SourcePresence, Reporter: realm, Realms: []string{realm},
		})
		if err != nil {
			a.log.Warn("a realm serves a token that nobody reported, and it cannot be recorded", "realm", realm, "token", found, "error", err)
			return
		}
		a.log.Info("a realm serves a token that nobody had reported", "realm", realm, "token", found, "outcome", outcome.Name())
		return
	}
}

// serves is the token that the realm says it serves; "" when it says none.
func (a *asker) serves(ctx context.Context, realm string) words.Token {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, realm+"/_host-shell-hash", nil)
	if err != nil {
		return ""
	}
	answer, err := a.client.Do(request)
	if err != nil {
		return ""
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 1024))
	if err != nil || answer.StatusCode != http.StatusOK {
		return ""
	}
	token, err := words.ParseToken(strings.TrimSpace(string(body)))
	if err != nil {
		return ""
	}
	return token
}
