package wire

import (
	"encoding/json"
	"net/url"
	"strings"

	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/words"
)

// DefaultCapacity is assumed of a server that does not say (protocol, Heartbeat).
const DefaultCapacity = 4

// Document is the JSON:API envelope of every request and answer.
type Document[A any] struct {
	Data Resource[A] `json:"data"`
	Meta *Meta       `json:"meta,omitempty"`
}

// Resource is the JSON:API resource in an envelope.
type Resource[A any] struct {
	Type       string `json:"type"`
	ID         string `json:"id,omitempty"`
	Attributes A      `json:"attributes"`
}

// Heartbeat is what a prerender server says of itself; it is its registration too.
type Heartbeat struct {
	URL              string             `json:"url"`
	Instance         string             `json:"instance,omitempty"`
	Capacity         int                `json:"capacity"`
	Status           string             `json:"status"` // "draining", else active
	WarmedAffinities []string           `json:"warmedAffinities"`
	AffinityVacancy  map[string]Vacancy `json:"affinityVacancy"`
	HostShell        HostShell          `json:"hostShell"`
}

// Draining reports whether the server takes no more work.
func (h *Heartbeat) Draining() bool { return h.Status == StatusDraining }

// Vacancy says whether an affinity's pages could take work now.
type Vacancy struct {
	Idle               bool `json:"idle"`
	TabCount           int  `json:"tabCount"`
	MaxPendingPriority *int `json:"maxPendingPriority,omitempty"`
}

// HostShell is where a server stands: the release it has heard of, the token
// it may move existing pages to, and what its pages are now.
type HostShell struct {
	Release uint64              `json:"release"`
	Desired words.Token         `json:"desired"`
	Pages   map[words.Token]int `json:"pages"`
	Phase   words.Phase         `json:"phase,omitempty"`
	Detail  string              `json:"detail,omitempty"`
	// Skews counts the renders of this process that found a file of the newest
	// release they knew gone: a deploy may be under way that nobody reported.
	Skews uint64 `json:"skews,omitempty"`
}

// ParseHeartbeat reads a heartbeat's body. Malformed entries are dropped, not
// the heartbeat; the URL alone is required, and is returned normalised.
func ParseHeartbeat(body []byte) (Heartbeat, error) {
	attributes, err := ReadAttributes(body)
	if err != nil {
		return Heartbeat{}, err
	}
	h := Heartbeat{Capacity: DefaultCapacity, Status: "active", AffinityVacancy: map[string]Vacancy{}}
	h.HostShell.Pages = map[words.Token]int{}

	raw, ok := Value[string](attributes["url"])
	if ok {
		h.URL, ok = NormalizeURL(raw)
	}
	if !ok {
		return Heartbeat{}, fault.New(fault.Invalid, "URL is required")
	}
	h.Instance, _ = Value[string](attributes["instance"])
	if n, ok := Value[int](attributes["capacity"]); ok && n >= 0 {
		h.Capacity = n
	}
	if s, _ := Value[string](attributes["status"]); s == StatusDraining {
		h.Status = s
	}
	if items, ok := Value[[]json.RawMessage](attributes["warmedAffinities"]); ok {
		h.WarmedAffinities = []string{}
		for _, item := range items {
			if key, ok := Value[string](item); ok && key != "" {
				h.WarmedAffinities = append(h.WarmedAffinities, key)
			}
		}
	}
	vacancies, _ := Value[Attributes](attributes["affinityVacancy"])
	for key, item := range vacancies {
		v, ok := Value[struct {
			Idle               *bool `json:"idle"`
			TabCount           *int  `json:"tabCount"`
			MaxPendingPriority *int  `json:"maxPendingPriority"`
		}](item)
		if !ok || v.Idle == nil || v.TabCount == nil || *v.TabCount < 0 {
			continue
		}
		if v.MaxPendingPriority != nil && *v.MaxPendingPriority < 0 {
			continue
		}
		h.AffinityVacancy[key] = Vacancy{Idle: *v.Idle, TabCount: *v.TabCount, MaxPendingPriority: v.MaxPendingPriority}
	}
	h.HostShell = readHostShell(attributes["hostShell"])
	return h, nil
}

func readHostShell(raw json.RawMessage) HostShell {
	shell := HostShell{Pages: map[words.Token]int{}}
	fields, _ := Value[Attributes](raw)
	shell.Release, _ = Value[uint64](fields["release"])
	shell.Skews, _ = Value[uint64](fields["skews"])
	if s, ok := Value[string](fields["desired"]); ok {
		shell.Desired, _ = words.ParseToken(s)
	}
	if s, ok := Value[string](fields["phase"]); ok {
		shell.Phase = words.Phase(s)
	}
	shell.Detail, _ = Value[string](fields["detail"])
	pages, _ := Value[Attributes](fields["pages"])
	for key, item := range pages {
		token, err := words.ParseToken(key)
		// Exactly a token: of two that differ by a space, chance would take one.
		if n, ok := Value[int](item); ok && n > 0 && err == nil && string(token) == key {
			shell.Pages[token] = n
		}
	}
	return shell
}

// NormalizeURL lower-cases scheme and host and drops the default or empty port,
// user, query, fragment and one trailing slash (protocol, "Heartbeat"). ok is
// false for anything but an absolute http or https URL.
func NormalizeURL(s string) (normalized string, ok bool) {
	u, err := url.Parse(strings.TrimSpace(s))
	if err != nil || u.Hostname() == "" {
		return "", false
	}
	u.Scheme = strings.ToLower(u.Scheme)
	if u.Scheme != "http" && u.Scheme != "https" {
		return "", false
	}
	u.Host = strings.ToLower(u.Host)
	if port := u.Port(); port == "" || port == "80" && u.Scheme == "http" || port == "443" && u.Scheme == "https" {
		u.Host = strings.TrimSuffix(u.Host, ":"+port)
	}
	u.User, u.RawQuery, u.ForceQuery, u.Fragment, u.RawFragment = nil, "", false, "", ""
	normalized = strings.TrimSuffix(u.String(), "/")
	if _, err := url.Parse(normalized); err != nil {
		return "", false // the zone of an IPv6 address may be read and yet not be written
	}
	return normalized, true
}
