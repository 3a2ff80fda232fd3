// Package words holds the domain's types. Read it first: the comments here,
// in this order, explain the system.
//
// A host is a single-page application: a directory of built files. The realm
// server serves the host's index.html, the host shell, and identifies it by a
// [Token]. A [Release] is a token with its place in history. Prerender servers
// keep warm pages; every page holds one document, whose token is known because
// the prerender server gave the page its bytes. A [Visit] asks for a render; a
// [Capture] is what the settled page gave; a [Snapshot] is a stored capture
// under (realm, token, URL), so a capture of one release can never be served
// as another's.
package words

import (
	"crypto/md5" //nolint:gosec // an identity on the wire, not a secret
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"time"
)

// Token is the lower-case hex md5 of the host shell's bytes as they are served.
// It changes exactly when a deploy changes the shell, and is compared as an
// opaque string.
type Token string

// MaxTokenLength bounds a token in bytes (protocol, "Releases").
const MaxTokenLength = 64

// TokenOf returns the token of a host shell.
func TokenOf(shell []byte) Token {
	sum := md5.Sum(shell) //nolint:gosec // see the import
	return Token(hex.EncodeToString(sum[:]))
}

// The messages of ParseToken are part of the wire contract.
var (
	ErrTokenMissing = errors.New("hash is required")
	ErrTokenLong    = errors.New("hash too long")
	ErrTokenInvalid = errors.New("hash has invalid characters")
)

// ParseToken trims s and checks that it is 1 to [MaxTokenLength] visible ASCII
// characters: a token is sent back in headers, so no other byte may pass.
func ParseToken(s string) (Token, error) {
	s = strings.TrimSpace(s)
	if s == "" {
		return "", ErrTokenMissing
	}
	if len(s) > MaxTokenLength {
		return "", ErrTokenLong
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return "", ErrTokenInvalid
		}
	}
	return Token(s), nil
}

// Source says why a realm server reports its token. The zero value is a
// reporter that does not say (a Boxel realm server).
type Source string

// The sources of a report.
const (
	SourceUnsaid     Source = ""
	SourceBoot       Source = "boot"
	SourcePresence   Source = "presence"
	SourceDeployment Source = "deployment"
	SourceOperator   Source = "operator"
)

// Release is a token with its place in history.
type Release struct {
	// Sequence only grows; the first release has 1. Zero means no release.
	Sequence     uint64    `json:"sequence"`
	Token        Token     `json:"token"`
	Since        time.Time `json:"since"`
	Source       Source    `json:"source,omitempty"`
	Reporter     string    `json:"reporter,omitempty"`
	DeploymentID string    `json:"deploymentId,omitempty"`
}

// AffinityType is what kind of owner a warm page is kept for.
type AffinityType string

// The affinity types of the wire contract.
const (
	AffinityRealm AffinityType = "realm"
	AffinityUser  AffinityType = "user"
)

// Affinity is what a warm page is kept for. Contexts are never shared between
// affinities, nor between different credentials of one affinity.
type Affinity struct {
	Type  AffinityType
	Value string
}

// Key is the affinity as the wire names it: "realm:<url>" or "user:<id>".
func (a Affinity) Key() string { return string(a.Type) + ":" + a.Value }

// ParseAffinityKey is the inverse of [Affinity.Key]; ok is false when s names
// no known type or no value.
func ParseAffinityKey(s string) (a Affinity, ok bool) {
	kind, value, found := strings.Cut(s, ":")
	a = Affinity{Type: AffinityType(kind), Value: value}
	return a, found && value != "" && (a.Type == AffinityRealm || a.Type == AffinityUser)
}

// Mode is how a page gets to a route.
type Mode string

const (
	// ModeDefault is transition where the host offers it, else navigate.
	ModeDefault Mode = ""
	// ModeTransition asks the application to go to the route without loading
	// the document again.
	ModeTransition Mode = "transition"
	// ModeNavigate loads the document again in the affinity's context.
	ModeNavigate Mode = "navigate"
	// ModeIsolated uses a fresh context for this one render.
	ModeIsolated Mode = "isolated"
)

// Viewport is the size a page is laid out at, in CSS pixels.
type Viewport struct {
	Width             int     `json:"width,omitempty"`
	Height            int     `json:"height,omitempty"`
	DeviceScaleFactor float64 `json:"deviceScaleFactor,omitempty"`
	Mobile            bool    `json:"mobile,omitempty"`
}

// RenderOptions refine a visit. The zero value is right for most.
type RenderOptions struct {
	// TimeoutMs bounds the render, in milliseconds; 0 leaves it to the budget.
	TimeoutMs int       `json:"timeoutMs,omitempty"`
	WaitFor   string    `json:"waitFor,omitempty"` // a CSS selector that must match before the page counts as settled
	Viewport  *Viewport `json:"viewport,omitempty"`
	UserAgent string    `json:"userAgent,omitempty"`
	Locale    string    `json:"locale,omitempty"`   // BCP 47
	Timezone  string    `json:"timezone,omitempty"` // IANA name
	Block     []string  `json:"block,omitempty"`    // image, font, media, stylesheet, or a URL pattern with *
	Mode      Mode      `json:"mode,omitempty"`
	// Of a screenshot: png, jpeg, webp or pdf; the whole page instead of what the
	// viewport shows; the first element that a CSS selector matches, and nothing
	// else.
	Format   string `json:"format,omitempty"`
	FullPage bool   `json:"fullPage,omitempty"`
	Selector string `json:"selector,omitempty"`
}

// Visit asks for one URL to be rendered.
type Visit struct {
	URL      string
	Realm    string // base URL of the realm that contains URL
	Affinity Affinity
	// Auth goes into the page's localStorage["boxel-session"] before the
	// application starts. Results of a visit with Auth are never stored.
	Auth     string
	Priority int
	// Pin is the token the caller requires of the document; "" takes any.
	Pin     Token
	Options RenderOptions
	// RequestID names the visit in every log line and answer.
	RequestID string
	// Carry is the id that the page's own requests carry meanwhile, "" for none.
	Carry string
}

// Status is the outcome of a render that the page itself decided.
type Status string

// The statuses of a capture.
const (
	StatusReady    Status = "ready"
	StatusPartial  Status = "partial"
	StatusUnusable Status = "unusable"
	StatusError    Status = "error"
)

// SettledBy says what told that a page was settled.
type SettledBy string

// What can settle a page, in order of precedence.
const (
	SettledBySignal    SettledBy = "signal"
	SettledByAttribute SettledBy = "attribute"
	SettledBySelector  SettledBy = "selector"
	SettledByQuiet     SettledBy = "quiet"
	SettledByTimeout   SettledBy = "timeout"
)

// PageErrorKind says whose error a page error is.
type PageErrorKind string

// The kinds of page errors (protocol, "What comes back").
const (
	PageErrorTimeout    PageErrorKind = "timeout"
	PageErrorPage       PageErrorKind = "page"
	PageErrorSkew       PageErrorKind = "skew"
	PageErrorNavigation PageErrorKind = "navigation"
)

// PageError is why a capture is not ready.
type PageError struct {
	Kind    PageErrorKind `json:"kind"`
	Title   string        `json:"title,omitempty"`
	Message string        `json:"message"`
	Stack   string        `json:"stack,omitempty"`
}

// ConsoleLine is one line that the page wrote to its console, or an uncaught
// exception (level "exception").
type ConsoleLine struct {
	Level string `json:"level"`
	Text  string `json:"text"`
}

// FailedRequest is a request of the page that got no usable answer. Status is
// 0 when none came at all.
type FailedRequest struct {
	URL    string `json:"url"`
	Type   string `json:"type,omitempty"`
	Status int    `json:"status,omitempty"`
	Error  string `json:"error,omitempty"`
}

// Capture is what a page gave once it had settled. HTML is the whole document
// with its doctype; Head and Body are the inner HTML of its two parts.
type Capture struct {
	Status         Status            `json:"status"`
	HTTPStatus     int               `json:"httpStatus"`
	FinalURL       string            `json:"finalUrl"`
	Title          string            `json:"title"`
	HTML           string            `json:"html"`
	Head           string            `json:"head"`
	Body           string            `json:"body"`
	Headers        map[string]string `json:"headers"`
	Links          []string          `json:"links"`
	Console        []ConsoleLine     `json:"console"`
	FailedRequests []FailedRequest   `json:"failedRequests"`
	SettledBy      SettledBy         `json:"settledBy"`
	Error          *PageError        `json:"error,omitempty"`
	// Token is that of the document the capture was made in; "" when the
	// document did not come from bytes the prerender server gave it.
	Token Token `json:"-"`
}

// Snapshot is a stored capture. Its key is (Realm, Token, URL).
type Snapshot struct {
	Realm      string            `json:"realm"`
	Token      Token             `json:"token"`
	URL        string            `json:"url"`
	RenderedAt time.Time         `json:"renderedAt"`
	Status     Status            `json:"status"`
	HTTPStatus int               `json:"httpStatus"`
	Headers    map[string]string `json:"headers,omitempty"`
	// HTML is the whole captured document; composition takes what it needs.
	HTML string `json:"-"`
}

// Module is JSON that the host extracted for a URL. Its key is (Realm, Token,
// URL).
type Module struct {
	Realm      string          `json:"realm"`
	Token      Token           `json:"token"`
	URL        string          `json:"url"`
	RenderedAt time.Time       `json:"renderedAt"`
	Result     json.RawMessage `json:"-"`
	Deps       []string        `json:"deps"` // URLs of the modules it was made of
	// Generation is the newest invalidation that was known when its render
	// began: it knows nothing of any that came later.
	Generation uint64 `json:"generation"`
}

// Shell is a host shell with its token, as fetched from a realm server's
// /_standby. Header holds what must travel with the bytes when a document is
// fulfilled from them (Content-Type, Content-Security-Policy and the like).
type Shell struct {
	Token  Token
	Bytes  []byte
	Header map[string]string
}

// Phase is where a prerender server stands with respect to the release.
type Phase string

// The phases a prerender server reports on its heartbeats.
const (
	PhaseFresh     Phase = "fresh"     // every page is of the current release
	PhaseRecycling Phase = "recycling" // pages are being replaced
	PhaseWaiting   Phase = "waiting"   // not permitted yet, or the host still serves an old shell
	PhaseFailed    Phase = "failed"    // pages of the current release cannot be warmed
)
