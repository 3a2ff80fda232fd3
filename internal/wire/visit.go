package wire

import (
	"encoding/json"

	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/words"
)

// The types of the answers' resources.
const (
	TypeVisitResult      = "prerender-visit-result"
	TypeScreenshotResult = "screenshot-result"
	TypeModuleResult     = "prerender-module-result"
	TypeCommandResult    = "command-result"
	TypeManagerHealth    = "prerender-manager-health"
	TypePrerenderServer  = "prerender-server"
)

// VisitRequest is the attributes of a render request. AffinityType and
// AffinityValue are pointers because absent and empty are told apart.
type VisitRequest struct {
	URL           string              `json:"url,omitempty"`
	Command       string              `json:"command,omitempty"`
	CommandInput  json.RawMessage     `json:"commandInput,omitempty"`
	AffinityType  *string             `json:"affinityType,omitempty"`
	AffinityValue *string             `json:"affinityValue,omitempty"`
	Realm         string              `json:"realm,omitempty"`
	Auth          string              `json:"auth,omitempty"`
	Priority      int                 `json:"priority,omitempty"`
	BatchID       string              `json:"batchId,omitempty"`
	RenderOptions words.RenderOptions `json:"renderOptions"`
	// Fields says what of a visit's document is sent.
	Fields Fields `json:"fields,omitzero"`
}

// ParseVisitRequest reads the body of a render route.
func ParseVisitRequest(body []byte) (VisitRequest, error) {
	var doc Document[VisitRequest]
	if err := Read(body, &doc); err != nil {
		return VisitRequest{}, err
	}
	return doc.Data.Attributes, nil
}

// Affinity checks the affinity of a request. Both attributes absent: given is
// false, and the realm that contains the URL decides.
func (r *VisitRequest) Affinity() (a words.Affinity, given bool, err error) {
	if r.AffinityType == nil && r.AffinityValue == nil {
		return a, false, nil
	}
	if r.AffinityType == nil || *r.AffinityType != string(words.AffinityRealm) && *r.AffinityType != string(words.AffinityUser) {
		return a, true, fault.New(fault.Invalid, "Missing required attribute: affinityType")
	}
	if r.AffinityValue == nil || *r.AffinityValue == "" {
		return a, true, fault.New(fault.Invalid, "Missing required attribute: affinityValue")
	}
	return words.Affinity{Type: words.AffinityType(*r.AffinityType), Value: *r.AffinityValue}, true, nil
}

// VisitResult is the attributes of a visit's answer.
type VisitResult struct {
	words.Capture
	Meta ResultMeta `json:"meta"`
}

// ResultMeta travels inside the attributes, as Boxel's clients expect it.
type ResultMeta struct {
	RequestID   string       `json:"requestId"`
	Diagnostics *Diagnostics `json:"diagnostics,omitempty"`
}

// Diagnostics say how the page got to its result. The times are milliseconds:
// going to the route, waiting until it had settled, capturing it; and, of the
// first two together, until it had arrived, until the network was quiet, until
// its scripts were.
type Diagnostics struct {
	SettledBy words.SettledBy `json:"settledBy"`
	Mode      words.Mode      `json:"mode"`
	FellBack  bool            `json:"fellBack"` // a transition was tried, and the page navigated
	GoMs      int64           `json:"goMs"`
	SettleMs  int64           `json:"settleMs"`
	CaptureMs int64           `json:"captureMs"`
	ArriveMs  int64           `json:"arriveMs"`
	NetworkMs int64           `json:"networkMs"`
	QuietMs   int64           `json:"quietMs"`
	// Residue is what the application left behind of routes before, each as
	// "kind: name". A result that is ready shows none of it.
	Residue []string `json:"residue,omitempty"`
}

// Meta is the meta of a render's answer.
type Meta struct {
	Timing    Timing        `json:"timing"`
	Pool      PoolMeta      `json:"pool"`
	HostShell HostShellMeta `json:"hostShell"`
}

// Timing is where the time went, in milliseconds.
type Timing struct {
	LaunchMs int64 `json:"launchMs"`
	RenderMs int64 `json:"renderMs"`
	TotalMs  int64 `json:"totalMs"`
	Waits    Waits `json:"waits"`
}

// Waits are the parts of launchMs, in milliseconds.
type Waits struct {
	SemaphoreMs  int64 `json:"semaphoreMs"`
	AdmissionMs  int64 `json:"admissionMs"`
	TabQueueMs   int64 `json:"tabQueueMs"`
	TabStartupMs int64 `json:"tabStartupMs"`
	TabProbeMs   int64 `json:"tabProbeMs"`
}

// PoolMeta says which page rendered.
type PoolMeta struct {
	PageID        string `json:"pageId"`
	AffinityType  string `json:"affinityType"`
	AffinityValue string `json:"affinityValue"`
	Reused        bool   `json:"reused"`
	Evicted       bool   `json:"evicted"`
	TimedOut      bool   `json:"timedOut"`
}

// HostShellMeta says on which release it was rendered. Desired is the token of
// the newest release the server had heard of; Fresh is whether they are equal.
type HostShellMeta struct {
	Rendered words.Token `json:"rendered"`
	Desired  words.Token `json:"desired"`
	Fresh    bool        `json:"fresh"`
}
