package release

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/rewarm/rewarm/internal/words"
)

const (
	// MaxRefused bounds the refusals kept. It is more than anybody goes back; a
	// token older than this is checked again before it is promoted.
	MaxRefused = 8
	// MaxEvidence bounds what is kept of a refusal's checks, in bytes of JSON. The
	// history is one message of the store with it.
	MaxEvidence = 128 << 10
	maxDetail   = 2 << 10
)

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
// pause held: that goes on by itself. token is the one that is meant. Without
// it, what is promoted was refused, or waits for servers that lack it and is all
// that can be meant: never what is yet to be checked.
func (b *Book) Resume(now time.Time, token words.Token, paused bool) Outcome {
	c, ok := b.Candidate(now)
	current, _ := b.Current()
	name := "release " + string(c.Token)
	switch {
	case token != "" && token == current.Token:
		return Outcome{}
	case token != "" && c.Token != token:
		return Outcome{Declined: "release " + string(token) + " is no candidate now"}
	case token != "" && c.Refusal != nil && c.Refusal.Dropped:
		return Outcome{Declined: name + " was dropped; `rewarm release report --hash` promotes it"}
	case token != "":
	case !ok || c.Refusal != nil && c.Refusal.Dropped || c.Refusal == nil && paused:
		return Outcome{}
	case c.Refusal == nil && len(c.Missing) == 0:
		return Outcome{Declined: name + " is yet to be checked; `rewarm rollout resume --release` promotes it unchecked"}
	case c.Refusal == nil && b.others(now, c, current):
		return Outcome{Declined: name + " came after another that may be meant; say which with `rewarm rollout resume --release`"}
	}
	return b.promote(now, c, words.SourceOperator)
}

// others reports whether an operator may have another candidate in mind than c:
// one that was refused since the current release began, or that is held still.
func (b *Book) others(now time.Time, c Candidate, current words.Release) bool {
	for _, r := range b.state.Refused {
		if !r.Dropped && r.Token != c.Token && r.At.After(current.Since) {
			return true
		}
	}
	for _, r := range b.reporters {
		if held := b.held(now, r).Token; held != "" && held != c.Token && !b.Known(held) {
			return true
		}
	}
	return false
}

// Recheck takes back that the candidate was refused, unless it was dropped. It
// declines for one that is not decided on: there is nothing to take back.
func (b *Book) Recheck(now time.Time) Outcome {
	c, ok := b.Candidate(now)
	switch {
	case !ok || c.Refusal != nil && c.Refusal.Dropped:
	case c.Refusal == nil:
		return Outcome{Declined: "release " + string(c.Token) + " " + c.Waits()}
	default:
		b.forgive(c.Token)
	}
	return Outcome{}
}

// Undo drops the candidate if there is one to drop, else makes the newest
// release current again that is neither current nor refused, and that every live
// gated realm server has still: one that lacks it would go on serving what is
// undone. Under gated
// promotion what it undoes is refused: its files are still in place, and
// nothing but an operator is to bring it back. token is the one that is meant,
// candidate or current; "" is whatever is, once: whoever repeats that, because
// an answer was lost or a pipeline runs again, goes back no further. The zero
// Outcome: there was nothing to undo.
func (b *Book) Undo(now time.Time, token words.Token) Outcome {
	c, ok := b.Candidate(now)
	current, _ := b.Current()
	droppable := ok && (c.Refusal == nil || !c.Refusal.Dropped)
	switch {
	case droppable && (token == "" || token == c.Token):
		dropped := Refusal{Token: c.Token, Detail: "dropped by an operator"}
		if c.Refusal != nil {
			dropped = *c.Refusal
		}
		dropped.Dropped = true
		return b.refuse(now, dropped)
	case token == "" || token != current.Token:
		if done := b.undone(token); done != "" {
			return Outcome{Unchanged: "release " + string(done) + " was undone already; the current one is undone by its name: `rewarm rollout undo --release " + string(current.Token) + "`"}
		}
		if token != "" {
			return Outcome{Declined: "release " + string(token) + " is neither current nor a candidate that could be dropped"}
		}
	}
	lacked := ""
	for _, before := range b.state.History {
		if _, refused := b.refusal(before.Token); refused || before.Token == current.Token {
			continue
		}
		if without := b.without(now, before.Token); len(without) > 0 {
			lacked = cmp.Or(lacked, "release "+string(before.Token)+" is no longer on "+strings.Join(without, ", ")+
				"; put its files in place there, or go back to it all the same with `rewarm release report --hash`")
			continue
		}
		o := b.Report(now, Report{Token: before.Token, Source: words.SourceOperator, Reporter: reporterUndo})
		if b.state.Gated {
			b.refuse(now, Refusal{Token: current.Token, Detail: "undone by an operator", Dropped: true})
		}
		return o
	}
	return Outcome{Declined: lacked}
}

// without are the live gated realm servers, by name, that say what they can
// serve, and that token is not among it.
func (b *Book) without(now time.Time, token words.Token) (names []string) {
	_, missing := b.have(now, token)
	for _, name := range missing {
		if kept := b.reporters[name].Kept; kept != nil && !slices.Contains(kept, token) {
			names = append(names, name)
		}
	}
	return names
}

// reporterUndo is the reporter of a release that an undo made current.
const reporterUndo = "undo"

// undone is token if it was undone or dropped, and for "" what was since the
// current release began; "" for nothing.
func (b *Book) undone(token words.Token) words.Token {
	current, _ := b.Current()
	if current.Reporter == reporterUndo && len(b.state.History) > 1 {
		if before := b.state.History[1].Token; token == "" || token == before {
			return before
		}
	}
	for _, r := range b.state.Refused {
		if r.Dropped && (token == r.Token || token == "" && !r.At.Before(current.Since)) {
			return r.Token
		}
	}
	return ""
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
