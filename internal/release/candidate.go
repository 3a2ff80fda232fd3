package release

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rewarm/rewarm/internal/words"
)

// Under gated promotion a realm server holds a new release back and reports it
// as a candidate, until it is promoted here. A candidate is kept nowhere: it is
// read off what live realm servers say they hold, so a restart loses none. What
// is kept is what nobody would say again: which tokens were refused.

// Held is the candidate that a realm server holds back. The zero Held is none.
type Held struct {
	Token words.Token `json:"token"`
	Since time.Time   `json:"since,omitzero"` // when it was taken, as the realm server said
	// On is when its unbroken spell as this server's candidate began, by the
	// manager's clock.
	On           time.Time `json:"on"`
	DeploymentID string    `json:"deploymentId,omitempty"`
	Deployed     bool      `json:"deployed,omitempty"` // said by a deploy, not found at a start
}

// Candidate is the release that is to be promoted next, as of a moment.
type Candidate struct {
	Token        words.Token
	Since        time.Time // when the first of those who have it was heard to
	Turned       time.Time // when the last of them was, or had other files of it
	DeploymentID string
	Reporter     string // who turned to it last
	// Have and Missing are the live gated realm servers, by name.
	Have, Missing []string
	// Settled: whoever is live had the time to be heard.
	Settled bool
	Refusal *Refusal
}

// Ready reports whether the candidate may be checked, and promoted if it
// passes: all who are to switch together have it.
func (c Candidate) Ready() bool { return c.Refusal == nil && len(c.Missing) == 0 && c.Settled }

// Waits says what the candidate waits for, in words that go on from its name.
func (c Candidate) Waits() string {
	switch {
	case c.Refusal != nil:
		return "was refused: " + c.Refusal.Detail
	case len(c.Missing) > 0:
		return "waits for the realm servers that do not have it: " + strings.Join(c.Missing, ", ")
	case !c.Settled:
		return fmt.Sprintf("waits until every realm server was heard: %s after the first", RollbackAfter)
	}
	return "is being checked"
}

// Candidate is the newest one: that of the live gated realm server which turned
// to another last. Others say in Missing that they do not have it.
func (b *Book) Candidate(now time.Time) (c Candidate, ok bool) {
	var newest Held
	names := slices.Sorted(maps.Keys(b.reporters))
	old := map[words.Token]bool{} // asked for once each: it takes all reporters
	for _, name := range names {
		held := b.held(now, b.reporters[name])
		if held.Token == "" || held.On.Before(newest.On) {
			continue
		}
		if b.Known(held.Token) && !held.Deployed {
			if _, judged := old[held.Token]; !judged {
				_, missing := b.have(now, held.Token)
				old[held.Token] = len(missing) > 0
			}
			if old[held.Token] {
				continue // an old replica, until all of them are
			}
		}
		newest, c.Reporter = held, name
	}
	if newest.Token == "" {
		return Candidate{}, false
	}
	c.Token, c.Since, c.Turned, c.DeploymentID = newest.Token, newest.On, newest.On, newest.DeploymentID
	c.Have, c.Missing = b.have(now, c.Token)
	for _, name := range names {
		r := b.reporters[name]
		c.Settled = c.Settled || r.Gated && r.Live(now) && now.Sub(r.Known) >= RollbackAfter
		if held := b.held(now, r); held.Token == c.Token {
			c.DeploymentID = cmp.Or(c.DeploymentID, held.DeploymentID)
			if held.On.Before(c.Since) {
				c.Since = held.On
			}
		}
	}
	if refused, found := b.refusal(c.Token); found {
		c.Refusal = &refused
	}
	return c, true
}

// Still reports whether c is the candidate at now, with the files that it had: a
// verdict on it holds.
func (b *Book) Still(now time.Time, c Candidate) bool {
	is, ok := b.Candidate(now)
	return ok && is.Token == c.Token && is.Turned.Equal(c.Turned)
}

// have are the live gated realm servers that hold a token, or serve it still,
// and those that do neither, by name.
func (b *Book) have(now time.Time, token words.Token) (have, missing []string) {
	for _, name := range slices.Sorted(maps.Keys(b.reporters)) {
		r := b.reporters[name]
		switch {
		case !r.Gated || !r.Live(now):
		case r.Token == token || b.held(now, r).Token == token:
			have = append(have, name)
		default:
			missing = append(missing, name)
		}
	}
	return have, missing
}

// held is what a live realm server holds that is not current. One that serves a
// release which nobody promoted, for it had no other, holds that.
func (b *Book) held(now time.Time, r Reporter) Held {
	held := r.Held
	if held.Token == "" && !b.Known(r.Token) {
		held = Held{Token: r.Token, Since: r.Since, On: r.On}
	}
	if current, ok := b.Current(); !ok || !r.Gated || !r.Live(now) || held.Token == current.Token {
		return Held{}
	}
	return held
}

// Holds is the candidate that a reporter holds now, "" for none.
func (b *Book) Holds(now time.Time, r Reporter) words.Token { return b.held(now, r).Token }

// candidate takes in the report of one. Its reporter is known by its presence,
// which says that it is gated, and says too when it holds the candidate no more;
// before that, the next report will do.
func (b *Book) candidate(now time.Time, r Report) Outcome {
	heard, known := b.reporters[recordName(r)]
	if !known || !heard.Gated {
		return Outcome{Candidate: true}
	}
	deployed := r.Source == words.SourceDeployment || r.Source == words.SourceOperator
	held := Held{Token: r.Token, Since: r.Since, On: now, DeploymentID: r.DeploymentID, Deployed: deployed}
	if before := heard.Held; before.Token == r.Token {
		held.Deployed = held.Deployed || before.Deployed
		if before.Since.Equal(r.Since) { // else its files are others
			held.On = before.On
		}
		held.DeploymentID = cmp.Or(r.DeploymentID, before.DeploymentID)
	}
	heard.Held = held
	b.reporters[heard.Name] = heard
	return Outcome{Candidate: true, Reporter: heard}
}

// Gated reports whether a realm server of the realm waits for promotions. What
// others find it to serve is then no word of its own.
func (b *Book) Gated(realm string) bool {
	for _, r := range b.reporters {
		if r.Gated && slices.Contains(r.Realms, realm) {
			return true
		}
	}
	return false
}

// noteGated takes in whether realm servers wait for promotions: the last that
// spoke did, or one that does is remembered.
func (b *Book) noteGated(r Report) {
	gated := r.Gated
	switch {
	case !gated && r.Source != words.SourceBoot && r.Source != words.SourcePresence:
		return // an operator's word, or what another found
	case !gated:
		for _, other := range b.reporters {
			gated = gated || other.Gated
		}
	}
	if b.state.Gated != gated {
		b.state.Gated, b.changed = gated, true
	}
}
