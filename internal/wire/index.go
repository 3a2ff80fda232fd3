package wire

import (
	"time"

	"github.com/rewarm/rewarm/internal/words"
)

// IndexRequest is the attributes of POST /index: a realm to be indexed again,
// or only some of its pages.
type IndexRequest struct {
	Realm string   `json:"realm"`
	URLs  []string `json:"urls,omitempty"`
}

// MaxIndexURLs bounds how many pages one request may name.
const MaxIndexURLs = 10_000

// IndexStatus is the answer of POST and GET /index: the last indexing of a
// realm, and how far it is.
type IndexStatus struct {
	Realm string    `json:"realm"`
	Run   *IndexRun `json:"run"` // null: none yet
	// Pending counts the realm's jobs that are queued or being done, of any run;
	// the rest is of Run.
	Pending  int            `json:"pending"`
	Stored   int            `json:"stored"`
	Skipped  int            `json:"skipped"` // fresh already, or forbidden by robots rules
	Failed   int            `json:"failed"`
	Failures []IndexFailure `json:"failures"` // given up, the newest first, at most 100
}

// MaxIndexFailures bounds the failures in an answer.
const MaxIndexFailures = 100

// IndexRun is one indexing of a realm.
type IndexRun struct {
	ID        uint64      `json:"id"`
	Class     string      `json:"class"` // deploy or routine
	Sequence  uint64      `json:"sequence"`
	Token     words.Token `json:"token"`
	StartedAt time.Time   `json:"startedAt"`
}

// IndexFailure is a page that was given up.
type IndexFailure struct {
	URL     string    `json:"url"`
	Renders int       `json:"renders"`
	Reason  string    `json:"reason"`
	At      time.Time `json:"at"`
}

// Purged is the answer of DELETE /index.
type Purged struct {
	Realm     string   `json:"realm"`
	URLs      []string `json:"urls"`      // at most 1000
	Pages     int      `json:"pages"`     // how many URLs there are
	Snapshots int      `json:"snapshots"` // of all releases
	DryRun    bool     `json:"dryRun"`
}

// MaxPurgedURLs bounds the URLs in an answer.
const MaxPurgedURLs = 1000
