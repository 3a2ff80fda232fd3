package prerender

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/web"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// maxURL bounds a URL in bytes. Longer ones are refused by common proxies too,
// and each would be a key, a log field and a header.
const maxURL = 4096

// ask is what a caller wants rendered, and until when.
type ask struct {
	visit  words.Visit
	budget time.Duration
	jobID  string
}

// readAsk reads and checks a render request.
func (s *Server) readAsk(w http.ResponseWriter, r *http.Request) (ask, error) {
	body, err := web.ReadBody(w, r)
	if err != nil {
		return ask{}, err
	}
	request, err := wire.ParseVisitRequest(body)
	if err != nil {
		return ask{}, err
	}
	affinity, given, err := request.Affinity()
	if err != nil {
		return ask{}, err
	}
	target, err := checkURL(request.URL)
	if err != nil {
		return ask{}, err
	}
	realm := realmOf(s.options.Realms, target)
	if realm == "" {
		return ask{}, fault.New(fault.Forbidden, "URL is in no realm of this server: %.200s", request.URL)
	}
	if !given {
		affinity = words.Affinity{Type: words.AffinityRealm, Value: realm + "/"}
	}
	pin, err := readPin(r.Header.Get(wire.HeaderShellHash))
	if err != nil {
		return ask{}, err
	}
	switch request.RenderOptions.Mode {
	case words.ModeDefault, words.ModeTransition, words.ModeNavigate, words.ModeIsolated:
	default:
		return ask{}, fault.New(fault.Invalid, "mode must be transition, navigate or isolated")
	}
	priority := request.Priority
	if n, ok := wire.Priority(r.Header.Get(wire.HeaderJobPriority)); ok {
		priority = n
	}
	budget := wire.Budget(r.Header.Get(wire.HeaderBudget), request.RenderOptions.TimeoutMs)
	if ms := request.RenderOptions.TimeoutMs; ms > 0 {
		budget = min(budget, time.Duration(ms)*time.Millisecond)
	}
	return ask{
		visit: words.Visit{
			URL: request.URL, Realm: realm, Affinity: affinity, Auth: request.Auth, Priority: max(0, priority),
			Pin: pin, Options: request.RenderOptions, RequestID: web.RequestID(r.Context()),
		},
		budget: min(budget, s.options.RenderTimeout),
		jobID:  wire.JobID(r.Header.Get(wire.HeaderJobID)),
	}, nil
}

func readPin(header string) (words.Token, error) {
	if header == "" {
		return "", nil
	}
	pin, err := words.ParseToken(header)
	if err != nil {
		return "", fault.New(fault.Invalid, "%s: %s", wire.HeaderShellHash, err)
	}
	return pin, nil
}

func checkURL(raw string) (*url.URL, error) {
	if raw == "" {
		return nil, fault.New(fault.Invalid, "Missing required attribute: url")
	}
	if len(raw) > maxURL {
		return nil, fault.New(fault.Invalid, "url is longer than %d bytes", maxURL)
	}
	target, err := url.Parse(raw)
	if err != nil || target.Host == "" || target.Scheme != "http" && target.Scheme != "https" {
		return nil, fault.New(fault.Invalid, "url must be an absolute http or https URL")
	}
	if target.User != nil {
		return nil, fault.New(fault.Invalid, "url must not hold a user name or password")
	}
	return target, nil
}

// realmOf is the longest realm that contains the URL, "" for none.
func realmOf(realms []string, target *url.URL) string {
	normalized, ok := wire.NormalizeURL(target.String())
	if !ok {
		return ""
	}
	best := ""
	for _, realm := range realms {
		if (normalized == realm || strings.HasPrefix(normalized, realm+"/")) && len(realm) > len(best) {
			best = realm
		}
	}
	return best
}

// authHash keeps pages of different credentials apart without keeping the
// credentials.
func authHash(auth string) string {
	if auth == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(auth))
	return hex.EncodeToString(sum[:])
}
