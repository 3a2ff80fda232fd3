package prerender

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/page"
	"github.com/rewarm/rewarm/internal/web"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// maxURL bounds a URL in bytes. Longer ones are refused by common proxies too,
// and each would be a key, a log field and a header.
const maxURL = 4096

// ask is what a caller wants done, and until when.
type ask struct {
	kind    task
	task    page.Task
	subject string // what it is named by: the URL, or the command
	fields  wire.Fields
	budget  time.Duration
	jobID   string
}

// readAsk reads and checks the request of a task's route.
func (s *Server) readAsk(w http.ResponseWriter, r *http.Request, kind task) (ask, error) {
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
	realm, err := s.placeOrLearn(r, kind.kind, &request, affinity, given)
	if err != nil {
		return ask{}, err
	}
	if !given {
		affinity = words.Affinity{Type: words.AffinityRealm, Value: realm}
	}
	pin, err := readPin(r.Header.Get(wire.HeaderShellHash))
	if err != nil {
		return ask{}, err
	}
	if err := wire.CheckOptions(request.RenderOptions); err != nil {
		return ask{}, err
	}
	if err := request.Fields.Check(); err != nil {
		return ask{}, err
	}
	priority := request.Priority
	if n, ok := wire.Priority(r.Header.Get(wire.HeaderJobPriority)); ok {
		priority = n
	}
	budget := wire.Budget(r.Header.Get(wire.HeaderBudget), request.RenderOptions.TimeoutMs)
	if ms := request.RenderOptions.TimeoutMs; ms > 0 {
		budget = min(budget, wire.Budget("", ms))
	}
	visit := words.Visit{
		URL: request.URL, Realm: realm, Affinity: affinity, Auth: request.Auth, Priority: max(0, priority),
		Pin: pin, Options: request.RenderOptions, RequestID: web.RequestID(r.Context()),
	}
	a := ask{
		kind: kind, task: page.Task{Visit: visit, Kind: kind.kind, Command: request.Command, Input: request.CommandInput},
		subject: request.URL,
		fields:  request.Fields,
		budget:  min(budget, s.options.RenderTimeout),
		jobID:   wire.JobID(r.Header.Get(wire.HeaderJobID)),
	}
	if kind.kind == page.Screenshot && request.RenderOptions.Format == "pdf" {
		a.task.Kind = page.PDF
	}
	if kind.kind == page.Command {
		// Where the application is started if no warm page holds it.
		a.subject, a.task.Visit.URL = request.Command, realm+"/_standby"
	}
	return a, nil
}

// place finds the realm that the work belongs to: the one that is asked for,
// which then has to contain the URL, else the one that does. A command has no
// URL; its affinity may name the realm, and one realm alone needs no name.
func (s *Server) place(kind page.Kind, request *wire.VisitRequest, affinity words.Affinity, given bool) (string, error) {
	realms := s.realms.all()
	if request.Realm != "" {
		named, ok := wire.NormalizeURL(request.Realm)
		if !ok || !slices.Contains(realms, named) {
			return "", fault.New(fault.Forbidden, "realm is none of this server: %.200s", request.Realm)
		}
		realms = []string{named}
	}
	if kind != page.Command {
		target, err := checkURL(request.URL)
		if err != nil {
			return "", err
		}
		if realm := realmOf(realms, target); realm != "" {
			return realm, nil
		}
		return "", fault.New(fault.Forbidden, "URL is in no realm of this server: %.200s", request.URL)
	}
	if !given {
		return "", fault.New(fault.Invalid, "Missing required attribute: affinityType")
	}
	if request.Command == "" {
		return "", fault.New(fault.Invalid, "Missing required attribute: command")
	}
	if affinity.Type == words.AffinityRealm {
		if target, err := checkURL(affinity.Value); err == nil {
			if realm := realmOf(realms, target); realm != "" {
				return realm, nil
			}
		}
	} else if len(realms) == 1 {
		return realms[0], nil
	}
	return "", fault.New(fault.Forbidden, "The command belongs to no realm of this server")
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
	target, err := url.Parse(strings.TrimSpace(raw)) // as a browser trims it
	if err != nil || target.Host == "" || target.Scheme != "http" && target.Scheme != "https" {
		return nil, fault.New(fault.Invalid, "url must be an absolute http or https URL")
	}
	if target.User != nil {
		return nil, fault.New(fault.Invalid, "url must not hold a user name or password")
	}
	if climbs(target.Path) {
		return nil, fault.New(fault.Invalid, "url must not hold segments of dots")
	}
	return target, nil
}

// climbs is whether a browser would go to another path than the one that is
// written, and so perhaps out of the realm; a backslash is a slash to it.
func climbs(path string) bool {
	for segment := range strings.FieldsFuncSeq(path, func(r rune) bool { return r == '/' || r == '\\' }) {
		if segment == "." || segment == ".." {
			return true
		}
	}
	return false
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
