// Package wire is the HTTP contract as Go types: header names, JSON shapes and
// the parsing of both. It is pure, tolerant in what it reads (unknown fields
// are ignored, malformed parts dropped where the contract says so), and exact
// in what it writes.
package wire

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/rewarm/rewarm/internal/words"
)

// Header names of the contract.
const (
	// HeaderShellHash has three meanings by direction: on a heartbeat's answer
	// the token a prerender server may move its existing pages to; on a render's
	// answer the token of the document; on a render's request the pin.
	HeaderShellHash = "X-Boxel-Prerender-Host-Shell-Hash"
	// HeaderRelease is "<sequence> <token>" of the current release.
	HeaderRelease = "X-Rewarm-Release"
	// HeaderRefused is on what the egress proxy answers itself: why.
	HeaderRefused = "X-Rewarm-Refused"
	// HeaderDocumentShell is the token of the shell in an HTML answer of the realm server.
	HeaderDocumentShell = "X-Boxel-Host-Shell-Hash"
	HeaderBudget        = "X-Rewarm-Budget-Ms"
	HeaderServerStatus  = "X-Boxel-Prerender-Server-Status"
	HeaderRequestID     = "X-Boxel-Prerender-Request-Id"
	HeaderJobID         = "X-Boxel-Job-Id"
	HeaderJobPriority   = "X-Boxel-Job-Priority"
	HeaderTarget        = "X-Boxel-Prerender-Target"
	HeaderAffinity      = "X-Boxel-Prerender-Affinity"
	HeaderServerID      = "X-Prerender-Server-Id"
	HeaderSnapshot      = "X-Rewarm-Snapshot"
	StatusDraining      = "draining"
	ContentTypeJSONAPI  = "application/vnd.api+json"
	ContentTypeJSON     = "application/json; charset=utf-8"
)

// BudgetMargin is what each hop keeps of the budget it forwards (protocol, Headers).
const BudgetMargin = 250 * time.Millisecond

// DefaultBudget is how long a caller waits that does not say (protocol, Headers).
const DefaultBudget = 60 * time.Second

// FormatRelease is the value of HeaderRelease.
func FormatRelease(r words.Release) string {
	return strconv.FormatUint(r.Sequence, 10) + " " + string(r.Token)
}

// ParseRelease reads a HeaderRelease value; ok is false when it is malformed,
// and then it must be ignored.
func ParseRelease(s string) (sequence uint64, token words.Token, ok bool) {
	a, b, found := strings.Cut(strings.TrimSpace(s), " ")
	if !found {
		return 0, "", false
	}
	sequence, err := strconv.ParseUint(a, 10, 64)
	if err != nil || sequence == 0 {
		return 0, "", false
	}
	token, err = words.ParseToken(b)
	return sequence, token, err == nil
}

// Budget is how long the caller of a render still waits: the header when it is
// a positive number, else timeoutMs when positive, else [DefaultBudget]. Either
// is in milliseconds and at most 24 days, which no duration overflows.
func Budget(header string, timeoutMs int) time.Duration {
	if ms, err := strconv.ParseInt(strings.TrimSpace(header), 10, 32); err == nil && ms > 0 {
		return time.Duration(ms) * time.Millisecond
	}
	if timeoutMs > 0 {
		return time.Duration(min(timeoutMs, math.MaxInt32)) * time.Millisecond
	}
	return DefaultBudget
}

// FormatBudget is the header value for what a hop forwards of d.
func FormatBudget(d time.Duration) string {
	return strconv.FormatInt(max(1, (d-BudgetMargin).Milliseconds()), 10)
}

var (
	requestID = regexp.MustCompile(`^[0-9a-fA-F-]{1,64}$`)
	jobID     = regexp.MustCompile(`^\d{1,32}\.\d{1,32}$`)
)

// RequestID returns the trimmed header when it is well-formed, else "".
func RequestID(header string) string {
	if s := strings.TrimSpace(header); requestID.MatchString(s) {
		return s
	}
	return ""
}

// JobID returns the trimmed header when it is well-formed, else "".
func JobID(header string) string {
	if s := strings.TrimSpace(header); jobID.MatchString(s) {
		return s
	}
	return ""
}

// Priority reads HeaderJobPriority; ok is false when it is no integer >= 0.
func Priority(header string) (n int, ok bool) {
	n, err := strconv.Atoi(strings.TrimSpace(header))
	return n, err == nil && n >= 0
}

// FormatTime is how the health documents write a time; "" for the zero time.
func FormatTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return fmt.Sprintf("%s (UTC+00:00)", t.UTC().Format("2006-01-02 15:04:05"))
}
