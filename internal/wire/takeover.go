package wire

import (
	"strings"

	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/words"
)

// TypeTakeoverResult is the type of a takeover check's answer.
const TypeTakeoverResult = "takeover-check-result"

// maxAllow bounds the selectors of what may differ.
const maxAllow = 50

// TakeoverRequest is the attributes of POST /takeover-check.
type TakeoverRequest struct {
	URL   string `json:"url"`
	Realm string `json:"realm,omitempty"`
	// AllowDifference are CSS selectors of what may differ before and after.
	AllowDifference []string `json:"allowDifference,omitempty"`
	// TimeoutMs is how long the page may take to settle, in milliseconds; 0
	// leaves it to the server and the budget.
	TimeoutMs   int             `json:"timeoutMs,omitempty"`
	Viewport    *words.Viewport `json:"viewport,omitempty"`
	Screenshots bool            `json:"screenshots,omitempty"`
	// Release is the token of a release that the realm server holds and does not
	// serve yet: the page is rendered on it, and loaded as visitors would get it if
	// it were current. "" checks what is served.
	Release words.Token `json:"release,omitempty"`
}

// ParseTakeoverRequest reads and checks the body of POST /takeover-check; the
// URL is the server's to check.
func ParseTakeoverRequest(body []byte) (TakeoverRequest, error) {
	var doc Document[TakeoverRequest]
	if err := Read(body, &doc); err != nil {
		return TakeoverRequest{}, err
	}
	r := doc.Data.Attributes
	return r, CheckTakeover(r)
}

// CheckTakeover refuses what no check could be asked for.
func CheckTakeover(r TakeoverRequest) error {
	if token, err := words.ParseToken(string(r.Release)); r.Release != "" && (err != nil || token != r.Release) {
		return fault.New(fault.Invalid, "release is no token")
	}
	if len(r.AllowDifference) > maxAllow {
		return fault.New(fault.Invalid, "allowDifference has more than %d selectors", maxAllow)
	}
	for _, selector := range r.AllowDifference {
		if len(selector) > maxOptionBytes || strings.TrimSpace(selector) == "" {
			return fault.New(fault.Invalid, "a selector of allowDifference is empty, or longer than %d bytes", maxOptionBytes)
		}
	}
	return CheckOptions(words.RenderOptions{Viewport: r.Viewport})
}

// TakeoverResult is the attributes of a takeover check's answer, and what
// `rewarm check --format json` prints of each page:
//
//	{
//	  "url": "https://shop.example/products",
//	  "finalUrl": "https://shop.example/products",  after redirects
//	  "httpStatus": 200,
//	  "token": "d41d8cd98f00b204e9800998ecf8427e",  of the shell in the document
//	  "snapshot": "hit",          hit, stale: prerendered; miss, bypass: the bare shell; "": not said
//	  "verdict": "broken",        broken when a finding breaks the page, else ok
//	  "findings": [{
//	    "kind": "text-lost",      stable; see words.FindingKind
//	    "severity": "break",      or warning
//	    "message": "2 lines of the prerendered text are gone after the takeover: \"In stock\"",
//	    "detail": "In stock\nAdd to basket"
//	  }],
//	  "timings": {"responseMs": 4, "loadMs": 81, "takeoverMs": 77, "settledMs": 480},  0: did not happen
//	  "cls": 0.02,                cumulative layout shift
//	  "difference": 0.013         share of the window's pixels that differ; with screenshots only
//	}
//
// With screenshots the answer has them too, as PNG in base64.
type TakeoverResult struct {
	words.Verdict
	Difference  *float64             `json:"difference,omitempty"`
	Screenshots *TakeoverScreenshots `json:"screenshots,omitempty"`
}

// TakeoverScreenshots are PNG; empty where none could be taken.
type TakeoverScreenshots struct {
	Before     []byte `json:"before"` // what was prerendered
	After      []byte `json:"after"`  // what the application shows
	Difference []byte `json:"difference"`
}
