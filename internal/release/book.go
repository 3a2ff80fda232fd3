// Package release decides what the current release of a fleet is, from what
// realm servers report of the shells they serve. It is pure: the state is
// handed in, time is an argument, and what is to be persisted is handed out.
//
// Reporters are many and disagree: in a rolling deploy old and new replicas
// answer side by side, reports are lost, repeated and late. So a release has a
// sequence that only grows, a token that was superseded does not come back
// because an old replica says it again, and nothing depends on one report:
// presence repeats what each reporter serves, and the same facts always give
// the same answer, whichever manager judges them.
package release

import (
	"cmp"
	"slices"
	"time"

	"github.com/rewarm/rewarm/internal/words"
)

const (
	// PresenceInterval is how often a realm server repeats its token.
	PresenceInterval = 5 * time.Second
	// LiveFor is how long a reporter counts as live after it was heard: one
	// lost presence, or even two, do not make a realm server absent.
	LiveFor = 3 * PresenceInterval
	// RollbackAfter is how long every live reporter must be on a superseded
	// token before that counts as a rollback by redeploying. One interval would
	// do if no presence were ever late; after a manager's restart the second
	// gives the replica that is on the current release time to be heard.
	RollbackAfter = 2 * PresenceInterval
	// RememberFor is how long a silent reporter is remembered: long enough for
	// the rollback rule, and for a person to see who left.
	RememberFor = 5 * time.Minute
	// MaxHistory bounds the releases kept. The sequence is kept apart and
	// survives; a token older than this is unknown again.
	MaxHistory = 100
	// MaxReporterName bounds a reporter's name in bytes; the rest is cut.
	MaxReporterName = 200
	// MaxDeploymentID bounds a deployment's id in bytes; the rest is cut. The
	// history, with an id in each release, is one message of the store.
	MaxDeploymentID = 512
)

// Report is what a realm server says of the shell it serves.
type Report struct {
	Token        words.Token
	Source       words.Source
	Reporter     string    // stable name; "" is identified by its token
	Since        time.Time // when it began to serve Token, by its own clock; zero: it does not say
	Realms       []string
	DeploymentID string
	// Gated: the reporter serves what is promoted, not what it is given.
	Gated bool
	// Holds is the candidate of a gated reporter, in the report of what it serves.
	Holds words.Token
	// Kept are the releases that a gated reporter can serve at once; nil if it
	// does not say.
	Kept []words.Token
	// Candidate: Token is held back by a gated reporter until it is promoted.
	Candidate bool
}

// State is what must survive: it is persisted with compare-and-set. The zero
// State is a fleet that no release was reported to.
type State struct {
	Version  int             `json:"v"`
	Sequence uint64          `json:"sequence"`          // highest ever given
	History  []words.Release `json:"history"`           // newest first; the first is current
	Refused  []Refusal       `json:"refused,omitempty"` // candidates, newest first
	// Gated: realm servers wait for promotions. It outlives them: an operator may
	// stop them all because of a release, and undo it then.
	Gated bool `json:"gated,omitempty"`
}

// Reporter is what is known of one realm server. Reporters are shared between
// managers and may be lost: presence brings them back.
type Reporter struct {
	Name  string      `json:"name"`
	Token words.Token `json:"token"`
	Since time.Time   `json:"since,omitzero"` // as it said
	// On is when its unbroken spell on Token began, by the manager's clock.
	On time.Time `json:"on"`
	// Left is when it was last live on another token; zero if never.
	Left       time.Time `json:"left,omitzero"`
	LastSeenAt time.Time `json:"lastSeenAt"`
	// Known is when its unbroken spell of being live began, by the manager's clock.
	Known time.Time `json:"known,omitzero"`
	Gated bool      `json:"gated,omitempty"`
	Held  Held      `json:"held,omitzero"` // its candidate, as last heard
	// Kept is what it can serve at once, as last heard; nil if it does not say.
	Kept   []words.Token `json:"kept,omitzero"`
	Realms []string      `json:"realms,omitempty"`
	// Behind is set when its token was judged older than the current one
	// though it is in no history.
	Behind bool `json:"behind,omitempty"`
}

// Live reports whether r was heard within three presence intervals of now.
func (r Reporter) Live(now time.Time) bool { return now.Before(r.LastSeenAt.Add(LiveFor)) }

// Outcome is what a report or a tick led to.
type Outcome struct {
	// New is the release that was made; nil when nothing changed. It must be
	// persisted (see [Book.State]) before anyone is told.
	New *words.Release
	// Behind: the reporter serves an older release; the fleet does not move.
	Behind bool
	// Candidate: it was a gated reporter's word of its candidate.
	Candidate bool
	// Refused is the candidate that was refused; nil for none.
	Refused *Refusal
	// Declined is why an operator's order was not carried out; "" if it was.
	Declined string
	// Unchanged is why an operator's order had nothing left to do; "" if it had.
	Unchanged string
	// Rollback: New goes back to a superseded token.
	Rollback bool
	// Reporter is the record to store; its Name is "" when there is none.
	Reporter Reporter
}

// Name is the outcome of a report in one word, for counters and logs: new,
// rollback, behind, candidate or same.
func (o Outcome) Name() string {
	switch {
	case o.Rollback:
		return "rollback"
	case o.New != nil:
		return "new"
	case o.Behind:
		return "behind"
	case o.Candidate:
		return "candidate"
	default:
		return "same"
	}
}

// Book is the releases and the reporters at one moment. It is not safe for
// concurrent use.
type Book struct {
	state     State
	reporters map[string]Reporter
	changed   bool
}

// Open returns a book over what was persisted. The slices are not kept, nor is
// what no server could be told: releases without a sequence or a token.
func Open(state State, reporters []Reporter) *Book {
	state.History = slices.DeleteFunc(slices.Clone(state.History), func(r words.Release) bool { return r.Sequence == 0 || !tellable(r.Token) })
	state.Refused = slices.DeleteFunc(slices.Clone(state.Refused), func(r Refusal) bool { return !tellable(r.Token) })
	slices.SortStableFunc(state.History, func(a, b words.Release) int { return cmp.Compare(b.Sequence, a.Sequence) })
	if len(state.History) > 0 {
		state.Sequence = max(state.Sequence, state.History[0].Sequence)
	}
	b := &Book{state: state, reporters: make(map[string]Reporter, len(reporters))}
	for _, r := range reporters {
		b.reporters[r.Name] = r
	}
	return b
}

func tellable(t words.Token) bool {
	token, err := words.ParseToken(string(t))
	return err == nil && token == t
}

// State is what must be persisted. Its slices are the caller's own.
func (b *Book) State() State {
	s := b.state
	s.History, s.Refused = slices.Clone(s.History), slices.Clone(s.Refused)
	return s
}

// Changed reports whether State is another than the book was opened with.
func (b *Book) Changed() bool { return b.changed }

// Current is the current release; ok is false before the first report.
func (b *Book) Current() (r words.Release, ok bool) {
	if len(b.state.History) == 0 {
		return r, false
	}
	return b.state.History[0], true
}

// Known reports whether token is in the history, current or superseded.
func (b *Book) Known(token words.Token) bool {
	return slices.ContainsFunc(b.state.History, func(r words.Release) bool { return r.Token == token })
}

// Superseded reports whether token is known and no longer current.
func (b *Book) Superseded(token words.Token) bool {
	current, ok := b.Current()
	return ok && current.Token != token && b.Known(token)
}

// Reporters lists who was heard within [RememberFor], by name, Behind judged
// against the current release.
func (b *Book) Reporters(now time.Time) []Reporter {
	all := make([]Reporter, 0, len(b.reporters))
	for _, r := range b.reporters {
		if now.Before(r.LastSeenAt.Add(RememberFor)) {
			r.Behind = b.behind(r)
			all = append(all, r)
		}
	}
	slices.SortFunc(all, func(a, b Reporter) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

func (b *Book) behind(r Reporter) bool {
	current, ok := b.Current()
	return ok && r.Token != current.Token && (r.Behind || b.Known(r.Token))
}

// add makes token the current release.
func (b *Book) add(now time.Time, r Report) *words.Release {
	b.state.Sequence++
	b.changed = true
	b.forgive(r.Token) // whoever makes it current has seen to that
	made := words.Release{
		Sequence: b.state.Sequence, Token: r.Token, Since: now,
		Source: r.Source, Reporter: r.Reporter, DeploymentID: r.DeploymentID,
	}
	kept := b.state.History[:min(len(b.state.History), MaxHistory-1)]
	b.state.History = append([]words.Release{made}, kept...)
	return &made
}
