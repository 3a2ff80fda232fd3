package release

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/rewarm/rewarm/internal/words"
)

// Report takes a report in at now. A repeated report changes nothing but when
// its reporter was last heard; what an earlier one should have led to and did
// not, it leads to.
func (b *Book) Report(now time.Time, r Report) Outcome {
	r.Reporter, r.DeploymentID = cut(r.Reporter, MaxReporterName), cut(r.DeploymentID, MaxDeploymentID)
	if r.Candidate {
		return b.candidate(now, r)
	}
	heard := b.hear(now, r)
	outcome := b.judge(now, r)
	heard.Behind = outcome.Behind
	b.reporters[heard.Name] = heard
	b.forget(now)
	b.noteGated(r)
	if outcome.New == nil {
		if outcome = b.redeployed(now); outcome.New != nil {
			heard.Behind = b.behind(heard)
			b.reporters[heard.Name] = heard
		}
	}
	outcome.Behind, outcome.Reporter = heard.Behind, heard
	return outcome
}

func cut(s string, most int) string { return strings.ToValidUTF8(s[:min(len(s), most)], "") }

// Tick judges at now what only the passing of time decides: a rollback by
// redeploying. Call it at least once a presence interval.
func (b *Book) Tick(now time.Time) Outcome {
	return b.redeployed(now)
}

// judge applies the rules for one report, in the order of the protocol.
func (b *Book) judge(now time.Time, r Report) Outcome {
	current, ok := b.Current()
	switch {
	case ok && current.Token == r.Token:
		return Outcome{}
	case ok && r.Gated: // it waits for a promotion, or has not heard of it yet
		return Outcome{Behind: true}
	case b.Superseded(r.Token):
		switch r.Source {
		case words.SourceBoot, words.SourcePresence:
			return Outcome{Behind: true} // an old replica, until redeployed says otherwise
		default: // a deployment, an operator, or one whose last write wins
			return Outcome{New: b.add(now, r), Rollback: true}
		}
	case b.older(now, r):
		return Outcome{Behind: true}
	default:
		return Outcome{New: b.add(now, r)}
	}
}

// older reports whether r, of an unknown token, is of a replica that began to
// serve before a live reporter of the current token did. Who does not say when
// is not older: a release that is never taken in is worse than one too many.
func (b *Book) older(now time.Time, r Report) bool {
	current, ok := b.Current()
	if !ok || r.Since.IsZero() || r.Source != words.SourceBoot && r.Source != words.SourcePresence {
		return false
	}
	for _, other := range b.reporters {
		if other.Name != recordName(r) && other.Token == current.Token && other.Live(now) && r.Since.Before(other.Since) {
			return true
		}
	}
	return false
}

// hear returns the record of r's reporter as of this report.
func (b *Book) hear(now time.Time, r Report) Reporter {
	name := recordName(r)
	before, known := b.reporters[name]
	heard := Reporter{Name: name, Token: r.Token, Since: r.Since, On: now, Left: before.Left, LastSeenAt: now, Known: now, Gated: r.Gated, Kept: slices.Clone(r.Kept), Realms: slices.Clone(r.Realms)}
	if !known {
		return heard
	}
	if before.Live(now) {
		if r.Gated && before.Held.Token == r.Holds {
			heard.Held = before.Held
		}
		if !before.Known.IsZero() {
			heard.Known = before.Known
		}
	}
	if before.LastSeenAt.After(now) {
		heard.LastSeenAt = before.LastSeenAt // another manager's clock is ahead
	}
	switch {
	case before.Token != r.Token:
		// It was on the other token until now, or until it counted as gone.
		heard.Left = before.LastSeenAt.Add(LiveFor)
		if heard.Left.After(now) {
			heard.Left = now
		}
	case !now.After(before.LastSeenAt.Add(LiveFor)): // no gap
		heard.On = before.On
	}
	if heard.Since.IsZero() && before.Token == r.Token {
		heard.Since = before.Since
	}
	if len(heard.Realms) == 0 {
		heard.Realms = before.Realms
	}
	return heard
}

// recordName identifies a reporter. One without a name is known by its token: two
// replicas that do not say who they are, on different tokens, must count as
// two, or their turns would look like one that changes its mind.
func recordName(r Report) string {
	if r.Reporter == "" {
		return "unnamed " + string(r.Token)
	}
	return r.Reporter
}

func (b *Book) forget(now time.Time) {
	for name, r := range b.reporters {
		if !now.Before(r.LastSeenAt.Add(RememberFor)) {
			delete(b.reporters, name)
		}
	}
}

// redeployed makes a superseded token current again when for [RollbackAfter]
// at least one reporter was live and every live one was on it.
func (b *Book) redeployed(now time.Time) Outcome {
	token, ok := b.agreed(now)
	if !ok || !b.Superseded(token) || now.Sub(b.alone(now, token)) < RollbackAfter {
		return Outcome{}
	}
	// Who began to serve it last is who brought it back.
	var by Reporter
	for _, r := range b.reporters {
		if r.Live(now) && (r.On.After(by.On) || r.On.Equal(by.On) && r.Name > by.Name) {
			by = r
		}
	}
	return Outcome{New: b.add(now, Report{Token: token, Source: words.SourcePresence, Reporter: by.Name}), Rollback: true}
}

// agreed returns the token that every live reporter is on. Gated ones agree on
// nothing: what they serve follows from what was promoted.
func (b *Book) agreed(now time.Time) (token words.Token, ok bool) {
	for _, r := range b.reporters {
		if !r.Live(now) {
			continue
		}
		if r.Gated || ok && r.Token != token {
			return "", false
		}
		token, ok = r.Token, true
	}
	return token, ok
}

// alone returns since when, without a break, somebody was live on token and
// nobody on another. It is read off the records and kept nowhere, so that a
// manager that starts in the middle, or shares the work with another, judges
// as one that saw it all.
func (b *Book) alone(now time.Time, token words.Token) time.Time {
	var other time.Time // when somebody was last live on another token
	spells := make([]Reporter, 0, len(b.reporters))
	for _, r := range b.reporters {
		last := r.Left
		if r.Token == token {
			spells = append(spells, r)
		} else {
			last = r.LastSeenAt.Add(LiveFor)
		}
		if last.After(other) {
			other = last
		}
	}
	// Walk back from now as far as spells on the token, each from its start to
	// its end, leave no gap.
	slices.SortFunc(spells, func(a, b Reporter) int { return cmp.Compare(b.LastSeenAt.UnixNano(), a.LastSeenAt.UnixNano()) })
	start := now
	for _, r := range spells {
		if !start.After(r.LastSeenAt.Add(LiveFor)) && r.On.Before(start) {
			start = r.On
		}
	}
	if other.After(start) {
		return other
	}
	return start
}
