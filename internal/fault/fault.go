// Package fault is the one table of failure: a closed set of kinds, and for
// each kind its HTTP status, its exit code, and whether another server may be
// asked. What a client may read is kept apart from what is logged.
package fault

import (
	"errors"
	"fmt"
	"time"
)

// Kind classifies an error. The set is closed; see the table below.
type Kind int

// The kinds of error.
const (
	Internal     Kind = iota // a defect of ours
	Invalid                  // the request is wrong and will stay wrong
	Unauthorized             // no or wrong secret
	Forbidden                // understood, not allowed (a URL outside every realm)
	NotFound
	MethodNotAllowed
	Misdirected // a host that is not served here
	Superseded  // pinned to a release that is no longer current
	Cycle       // a render that waits for itself; 4xx, for no other server could do it
	Draining    // this process takes no more work; ask another
	TooLarge
	Refused  // full, or not on the pinned release yet; ask again later
	Upstream // the peer we depend on failed, outcome unknown
	Usage    // wrong command line
)

type row struct {
	status int
	exit   int
	retry  bool
}

// Exit codes are those of the design: 1 failed, 2 wrong usage.
var table = map[Kind]row{
	Internal:         {500, 1, false},
	Invalid:          {400, 1, false},
	Unauthorized:     {401, 1, false},
	Forbidden:        {403, 1, false},
	NotFound:         {404, 1, false},
	MethodNotAllowed: {405, 1, false},
	Superseded:       {409, 1, false},
	Draining:         {410, 1, true},
	TooLarge:         {413, 1, false},
	Misdirected:      {421, 1, false},
	Cycle:            {422, 1, false},
	Refused:          {503, 1, true},
	Upstream:         {502, 1, false},
	Usage:            {400, 2, false},
}

// Error is a classified error. Message is what a client may read; Cause is for
// the log alone.
type Error struct {
	Kind       Kind
	Message    string
	Cause      error
	RetryAfter time.Duration // with Refused: when asking again makes sense
}

func (e *Error) Error() string {
	if e.Cause != nil {
		return e.Message + ": " + e.Cause.Error()
	}
	return e.Message
}

func (e *Error) Unwrap() error { return e.Cause }

// Status is the HTTP status of the error's kind.
func (e *Error) Status() int { return table[e.Kind].status }

// New returns an error of the kind whose message a client may read.
func New(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Message: fmt.Sprintf(format, args...)}
}

// Wrap is New with a cause that is logged and not shown.
func Wrap(kind Kind, cause error, format string, args ...any) *Error {
	return &Error{Kind: kind, Message: fmt.Sprintf(format, args...), Cause: cause}
}

// Refuse returns a refusal: ask again after the given time.
func Refuse(after time.Duration, format string, args ...any) *Error {
	e := New(Refused, format, args...)
	e.RetryAfter = max(after, time.Second)
	return e
}

// From returns err as a classified error; an unclassified one is Internal with
// a message that gives nothing away.
func From(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Kind: Internal, Message: "internal error", Cause: err}
}

// Is reports whether err is classified as kind.
func Is(err error, kind Kind) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Kind == kind
}

// Retryable reports whether another server may be asked after an HTTP status.
func Retryable(status int) bool {
	for _, r := range table {
		if r.status == status && r.retry {
			return true
		}
	}
	return false
}

// ExitCode is the exit code of a command that ended with err; nil is 0.
func ExitCode(err error) int {
	if err == nil {
		return 0
	}
	return table[From(err).Kind].exit
}
