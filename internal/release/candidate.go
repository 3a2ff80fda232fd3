package release

import (
	"cmp"
	"encoding/json"
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

const (
	// MaxRefused bounds the refusals kept. It is more than anybody goes back; a
	// token older than this is checked again before it is promoted.
	MaxRefused = 8
	// MaxEvidence bounds what is kept of a refusal's checks, in bytes of JSON. The
	// history is one message of the store with it.
	MaxEvidence = 128 << 10
	maxDetail   = 2 << 10
)

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

// Refusal is why a token is not promoted. It holds until an operator orders
// otherwise, however often the token is reported.
type Refusal struct {
	Token  words.Token     `json:"token"`
	At     time.Time       `json:"at"`
	Server string          `json:"server,omitempty"` // the prerender server that checked it
	Detail string          `json:"detail"`           // a sentence for people
	Checks []words.Verdict `json:"checks,omitempty"` // the evidence; of the newest refusal only
	// Dropped: an operator undid it, or would not have it. No resume promotes it
	// and no restart checks it again.
	Dropped bool `json:"dropped,omitempty"`
}

// Candidate is the release that is to be promoted next, as of a moment.
type Candidate struct {
	Token        words.Token
	Since        time.Time // when the first of those who have it was heard to
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
	for _, name := range names {
		held := b.held(now, b.reporters[name])
		if held.Token == "" || held.On.Before(newest.On) {
			continue
		}
		if _, missing := b.have(now, held.Token); len(missing) > 0 && b.Known(held.Token) && !held.Deployed {
			continue // an old replica, until all of them are
		}
		newest, c.Reporter = held, name
	}
	if newest.Token == "" {
		return Candidate{}, false
	}
	c.Token, c.Since, c.DeploymentID = newest.Token, newest.On, newest.DeploymentID
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
		held.On = before.On
		held.DeploymentID = cmp.Or(r.DeploymentID, before.DeploymentID)
	}
	heard.Held = held
	b.reporters[heard.Name] = heard
	return Outcome{Candidate: true, Reporter: heard}
}

// Pass promotes the candidate if it is still token, after a check that found
// nothing.
func (b *Book) Pass(now time.Time, token words.Token) Outcome {
	c, ok := b.Candidate(now)
	if !ok || c.Token != token || !c.Ready() {
		return Outcome{}
	}
	return b.promote(now, c, words.SourceDeployment)
}

// Refuse keeps the candidate from being promoted if it is still r's token and
// nobody said anything of it meanwhile.
func (b *Book) Refuse(now time.Time, r Refusal) Outcome {
	c, ok := b.Candidate(now)
	if !ok || c.Token != r.Token || c.Refusal != nil {
		return Outcome{}
	}
	return b.refuse(now, r)
}

// Resume promotes the candidate as an operator's order, whatever it waits for
// and though it was refused; but none that was dropped, and none that only a
// pause held: that goes on by itself.
func (b *Book) Resume(now time.Time, paused bool) Outcome {
	c, ok := b.Candidate(now)
	if !ok || c.Refusal != nil && c.Refusal.Dropped || c.Refusal == nil && paused {
		return Outcome{}
	}
	return b.promote(now, c, words.SourceOperator)
}

// Recheck takes back that the candidate was refused, unless it was dropped.
func (b *Book) Recheck(now time.Time) Outcome {
	if c, ok := b.Candidate(now); ok && c.Refusal != nil && !c.Refusal.Dropped {
		b.forgive(c.Token)
	}
	return Outcome{}
}

// Undo drops the candidate if there is one to drop, else makes the newest
// release current again that is neither current nor refused. Under gated
// promotion what it undoes is refused: its files are still in place, and
// nothing but an operator is to bring it back. The zero Outcome: there was
// nothing to undo.
func (b *Book) Undo(now time.Time) Outcome {
	c, ok := b.Candidate(now)
	if ok && (c.Refusal == nil || !c.Refusal.Dropped) {
		dropped := Refusal{Token: c.Token, Detail: "dropped by an operator"}
		if c.Refusal != nil {
			dropped = *c.Refusal
		}
		dropped.Dropped = true
		return b.refuse(now, dropped)
	}
	current, _ := b.Current()
	for _, before := range b.state.History {
		if _, refused := b.refusal(before.Token); refused || before.Token == current.Token {
			continue
		}
		o := b.Report(now, Report{Token: before.Token, Source: words.SourceOperator, Reporter: "undo"})
		if b.gated(now) {
			b.refuse(now, Refusal{Token: current.Token, Detail: "undone by an operator", Dropped: true})
		}
		return o
	}
	return Outcome{}
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

// gated reports whether a live realm server waits for promotions.
func (b *Book) gated(now time.Time) bool {
	for _, r := range b.reporters {
		if r.Gated && r.Live(now) {
			return true
		}
	}
	return false
}

func (b *Book) promote(now time.Time, c Candidate, source words.Source) Outcome {
	rollback := b.Superseded(c.Token)
	return Outcome{New: b.add(now, Report{Token: c.Token, Source: source, Reporter: c.Reporter, DeploymentID: c.DeploymentID}), Rollback: rollback}
}

func (b *Book) refusal(token words.Token) (Refusal, bool) {
	i := slices.IndexFunc(b.state.Refused, func(r Refusal) bool { return r.Token == token })
	if i < 0 {
		return Refusal{}, false
	}
	return b.state.Refused[i], true
}

func (b *Book) refuse(now time.Time, r Refusal) Outcome {
	b.forgive(r.Token)
	r.At, r.Detail = now, cut(r.Detail, maxDetail)
	if encoded, err := json.Marshal(r.Checks); err != nil || len(encoded) > MaxEvidence {
		r.Checks = nil
	}
	kept := slices.Clone(b.state.Refused[:min(len(b.state.Refused), MaxRefused-1)])
	for i := range kept {
		kept[i].Checks = nil
	}
	b.state.Refused = append([]Refusal{r}, kept...)
	b.changed = true
	return Outcome{Refused: &r}
}

// forgive forgets that a token was refused.
func (b *Book) forgive(token words.Token) {
	if _, refused := b.refusal(token); refused {
		b.state.Refused = slices.DeleteFunc(slices.Clone(b.state.Refused), func(r Refusal) bool { return r.Token == token })
		b.changed = true
	}
}
