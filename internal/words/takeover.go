package words

// FindingKind names what a takeover check found, for people to look up and for
// machines to count. The names are stable.
type FindingKind string

// The kinds of findings.
const (
	FindingNavigation   FindingKind = "navigation"    // the document could not be had, or not from the realm
	FindingException    FindingKind = "exception"     // uncaught: an error that was thrown, or a promise that was rejected
	FindingHydration    FindingKind = "hydration"     // a framework says that its DOM is not the prerendered one
	FindingConsole      FindingKind = "console"       // the page logged an error
	FindingAssetMissing FindingKind = "asset-missing" // a script, style, picture or font was not to be had
	FindingAssetType    FindingKind = "asset-type"    // a script or style came as something else, HTML for example
	FindingChunk        FindingKind = "chunk"         // the application says that a part of its bundle is gone
	FindingRequest      FindingKind = "request"       // data that was asked for came as an error
	FindingNoTakeover   FindingKind = "no-takeover"   // the application never touched what was prerendered
	FindingTextLost     FindingKind = "text-lost"     // text was prerendered and is gone after the takeover
	FindingTextAdded    FindingKind = "text-added"    // text was not prerendered: crawlers do not see it
	FindingLinksLost    FindingKind = "links-lost"
	FindingLinksAdded   FindingKind = "links-added"
	FindingLayoutShift  FindingKind = "layout-shift"
	FindingFlash        FindingKind = "flash"    // most of the text vanished, and came back
	FindingRestless     FindingKind = "restless" // the page changes, or loads itself, on and on
	FindingTimeout      FindingKind = "timeout"  // data that never arrived, a load that never ended, a thread that never answered
)

// Severity is what a finding means for a visitor.
type Severity string

// The severities. One that breaks makes the verdict.
const (
	SeverityBreak   Severity = "break"
	SeverityWarning Severity = "warning"
)

// Finding is one thing that a takeover check found.
type Finding struct {
	Kind     FindingKind `json:"kind"`
	Severity Severity    `json:"severity"`
	// Message says it in a sentence; Detail has the rest, a line for each thing.
	Message string `json:"message"`
	Detail  string `json:"detail,omitempty"`
}

// The verdicts of a takeover check.
const (
	VerdictOK     = "ok"
	VerdictBroken = "broken"
)

// Verdict is what became of a page in a visitor's browser when the application
// took over.
type Verdict struct {
	URL        string `json:"url"`
	FinalURL   string `json:"finalUrl"` // after redirects; "" when no document came
	HTTPStatus int    `json:"httpStatus"`
	// Token is that of the shell in the document, and Snapshot what the realm
	// server says it put in: hit, miss, stale or bypass. Both are "" of a server
	// that says neither.
	Token    Token  `json:"token"`
	Snapshot string `json:"snapshot"`
	// Verdict is ok or broken: broken when a finding breaks the page.
	Verdict  string          `json:"verdict"`
	Findings []Finding       `json:"findings"` // breaks first
	Timings  TakeoverTimings `json:"timings"`
	// CLS is the cumulative layout shift: the worst five seconds' sum.
	CLS float64 `json:"cls"`
}

// TakeoverTimings are milliseconds since the visitor asked for the page; 0 for
// what did not happen.
type TakeoverTimings struct {
	ResponseMs int64 `json:"responseMs"` // the document's first byte
	LoadMs     int64 `json:"loadMs"`
	// TakeoverMs is when the application replaced what was prerendered; 0 too for
	// one that adopts what it finds, which shows no moment.
	TakeoverMs int64 `json:"takeoverMs"`
	SettledMs  int64 `json:"settledMs"` // nothing more happened by itself
}
