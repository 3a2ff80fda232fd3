package pool

import "time"

// ActionKind is what the caller has to do.
type ActionKind int

// The kinds of action.
const (
	// Warm: open page Page on a shell that [Pool.Accepts] says yes to, then
	// call Warmed or WarmFailed.
	Warm ActionKind = iota
	// Close: close page Page. It is out of the pool already; nobody waits.
	Close
	// Grant: give page Page to request Request, then call Done or Gone.
	Grant
	// Refuse: tell request Request that there is no page for it in time.
	Refuse
	// Freeze: page Page is not needed for now; it may rest until it is granted.
	// This is done before the pool is asked for anything else.
	Freeze
)

// Action is one thing to do. Actions are carried out in any order.
type Action struct {
	Kind    ActionKind
	Page    PageID
	Request RequestID
	Reason  Reason // why a page is closed
	Owner   Owner  // of a granted page
	Reused  bool   // the granted page served this owner before
	Evicted bool   // another owner's page was closed for this request
	Frozen  bool   // the granted page rests; it has to be woken first
	// Full says that a request was refused at once: the queue is full, or so
	// long that its turn would come too late. RetryAfter estimates when it is not.
	Full       bool
	RetryAfter time.Duration
}
