package wire

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/words"
)

// Report is what a realm server says of the shell it serves.
type Report struct {
	Hash         words.Token  `json:"hash"`
	Source       words.Source `json:"source,omitempty"`
	Reporter     string       `json:"reporter,omitempty"` // stable name of the realm server
	Since        time.Time    `json:"since,omitzero"`     // when it began to serve Hash
	Realms       []string     `json:"realms,omitempty"`   // base URLs it serves
	DeploymentID string       `json:"deploymentId,omitempty"`
	// State is [StateCandidate] of a release that is held back until it is promoted.
	State string `json:"state,omitempty"`
	// Promotion is [PromotionGated] of a realm server that serves what is promoted.
	Promotion string `json:"promotion,omitempty"`
	// Candidate is the token that a gated realm server holds beside Hash, "" for
	// none.
	Candidate words.Token `json:"candidate,omitempty"`
	// Kept are the releases that a gated realm server can serve at once, Hash
	// among them; nil if it does not say.
	Kept []words.Token `json:"kept,omitzero"`
}

// MaxKept bounds what is read of a report's Kept.
const MaxKept = 16

// What a report says under gated promotion.
const (
	StateCandidate = "candidate"
	PromotionGated = "gated"
)

// ParseReport reads a report's body. Only the hash is required; other
// malformed fields count as absent.
func ParseReport(body []byte) (Report, error) {
	attributes, err := ReadAttributes(body)
	if err != nil {
		return Report{}, err
	}
	hash, _ := Value[string](attributes["hash"])
	token, err := words.ParseToken(hash)
	if err != nil {
		return Report{}, fault.New(fault.Invalid, "%s", err)
	}
	r := Report{Hash: token}
	if s, ok := Value[string](attributes["source"]); ok {
		switch source := words.Source(s); source {
		case words.SourceBoot, words.SourcePresence, words.SourceDeployment, words.SourceOperator:
			r.Source = source
		}
	}
	r.Reporter, _ = Value[string](attributes["reporter"])
	r.Since, _ = Value[time.Time](attributes["since"])
	r.DeploymentID, _ = Value[string](attributes["deploymentId"])
	r.State, _ = Value[string](attributes["state"])
	r.Promotion, _ = Value[string](attributes["promotion"])
	held, _ := Value[string](attributes["candidate"])
	r.Candidate, _ = words.ParseToken(held)
	r.Kept = readKept(attributes["kept"])
	realms, _ := Value[[]string](attributes["realms"])
	for _, realm := range realms {
		if u, ok := NormalizeURL(realm); ok {
			r.Realms = append(r.Realms, u)
		}
	}
	return r, nil
}

// readKept is nil unless the whole list makes sense: what is left out would
// count as gone.
func readKept(raw json.RawMessage) []words.Token {
	said, ok := Value[[]string](raw)
	if !ok || len(said) > MaxKept {
		return nil
	}
	kept := make([]words.Token, 0, len(said))
	for _, token := range said {
		parsed, err := words.ParseToken(token)
		if err != nil {
			return nil
		}
		kept = append(kept, parsed)
	}
	return kept
}

// Releases is the answer of GET /host-shell.
type Releases struct {
	Current   *ReleaseView   `json:"current"`
	History   []ReleaseView  `json:"history"` // newest first
	Reporters []ReporterView `json:"reporters"`
}

// Realms are all that are reported, on whatever release, each once, in order.
func (r Releases) Realms() (all []string) {
	for _, reporter := range r.Reporters {
		all = append(all, reporter.Realms...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// ReleaseView is a release as GET /host-shell shows it.
type ReleaseView = words.Release

// ReporterView is what one realm server serves.
type ReporterView struct {
	Name       string      `json:"name"`
	Token      words.Token `json:"token"`
	Since      time.Time   `json:"since,omitzero"`
	LastSeenAt time.Time   `json:"lastSeenAt"`
	Behind     bool        `json:"behind"`
	Promotion  string      `json:"promotion,omitempty"`
	Candidate  words.Token `json:"candidate,omitempty"` // that it holds back
	Realms     []string    `json:"realms"`
}

// RolloutPhase is where the fleet stands.
type RolloutPhase string

// The phases of GET /rollout.
const (
	RolloutNone     RolloutPhase = "none"
	RolloutCanary   RolloutPhase = "canary"
	RolloutRolling  RolloutPhase = "rolling"
	RolloutWaiting  RolloutPhase = "waiting"
	RolloutPaused   RolloutPhase = "paused"
	RolloutComplete RolloutPhase = "complete"
	RolloutFailed   RolloutPhase = "failed"
)

// Rollout is the answer of GET /rollout.
type Rollout struct {
	Release    RolloutRelease  `json:"release"`
	Phase      RolloutPhase    `json:"phase"`
	Detail     string          `json:"detail"`
	StartedAt  time.Time       `json:"startedAt,omitzero"`
	FinishedAt time.Time       `json:"finishedAt,omitzero"`
	Servers    []RolloutServer `json:"servers"`
	// CanaryPassed is whether the release may be worked with in bulk: a server has
	// only its pages, and they survive the takeover where that is checked.
	CanaryPassed bool          `json:"canaryPassed"`
	Canary       *CanaryReport `json:"canary,omitempty"` // nil while there is no verdict
	// Candidate is the release that is to be promoted next; nil for none.
	Candidate *CandidateReport `json:"candidate,omitempty"`
	// Unchanged, of the answer to an order, is why nothing was left to do; "" if
	// something was.
	Unchanged string `json:"unchanged,omitempty"`
}

// CandidatePhase is where a candidate stands.
type CandidatePhase string

// The phases of a candidate. A promoted one is none any more, but the release.
const (
	CandidateWaiting  CandidatePhase = "waiting"  // for realm servers, a prerender server, the store or an operator
	CandidateChecking CandidatePhase = "checking" // its pages are rendered and their takeover is checked
	CandidateRefused  CandidatePhase = "refused"  // until a newer one, or an operator
)

// CandidateReport is a release that realm servers hold back until it is promoted.
type CandidateReport struct {
	Token        words.Token    `json:"token"`
	Since        time.Time      `json:"since"`
	DeploymentID string         `json:"deploymentId,omitempty"`
	Phase        CandidatePhase `json:"phase"`
	Detail       string         `json:"detail"`  // a sentence for people
	Have         []string       `json:"have"`    // realm servers, by name
	Missing      []string       `json:"missing"` // those that are waited for
	// Dropped: an operator undid it or would not have it, so no resume promotes it.
	Dropped bool          `json:"dropped,omitempty"`
	Canary  *CanaryReport `json:"canary,omitempty"` // why it was refused
}

// CanaryReport is what came of the takeover check that the first server on a
// release was asked for.
type CanaryReport struct {
	Server string          `json:"server"`
	Passed bool            `json:"passed"`
	Detail string          `json:"detail"`
	Checks []words.Verdict `json:"checks,omitempty"`
	At     time.Time       `json:"at"`
}

// RolloutRelease is the release a rollout is about.
type RolloutRelease struct {
	Sequence uint64      `json:"sequence"`
	Token    words.Token `json:"token"`
}

// RolloutServer is one prerender server's part in a rollout.
type RolloutServer struct {
	URL       string              `json:"url"`
	Phase     words.Phase         `json:"phase"`
	Permitted bool                `json:"permitted"`
	Pages     map[words.Token]int `json:"pages"`
	Detail    string              `json:"detail"`
}
