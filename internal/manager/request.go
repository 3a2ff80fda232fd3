package manager

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// The proxied routes.
const (
	routeVisit      = "/prerender-visit"
	routeModule     = "/prerender-module"
	routeScreenshot = "/prerender-screenshot"
	routeCommand    = "/run-command"
	routeTakeover   = "/takeover-check"
	routeBatch      = "/release-batch"
)

// work is a proxied request as the manager understood it.
type work struct {
	call
	affinity words.Affinity
	subject  string // what the log names it by: the URL, or the command
	pin      words.Token
	priority int
	// identity is equal for requests that one render can answer.
	identity string
	anew     bool // the caller takes no render that began before: what it shows may have changed since
	sent     bool // a byte of it may have reached a server
}

// understand reads a proxied request in the order of the protocol: JSON, then
// the affinity, then the pin's form.
func (m *Manager) understand(path string, header http.Header, body []byte) (*work, error) {
	read, err := wire.ReadAttributes(body)
	if err != nil {
		return nil, err
	}
	said := attributes(read)
	affinity, given, err := said.affinity()
	if err != nil {
		return nil, err
	}
	w := &work{affinity: affinity, subject: said.text("url"), call: call{path: path, header: forwardable(header), body: body}}
	if path == routeCommand {
		w.subject, w.once = said.text("command"), true
	}
	if !given {
		realm := ""
		if path != routeCommand && path != routeBatch {
			realm = m.fleet.realmOf(w.subject, said.text("realm"))
		}
		if realm == "" {
			return nil, fault.New(fault.Invalid, "Missing required attribute: affinityType")
		}
		w.affinity = words.Affinity{Type: words.AffinityRealm, Value: realm}
		if w.body, err = said.fill(body, w.affinity); err != nil {
			return nil, err
		}
	}
	if raw := header.Get(wire.HeaderShellHash); raw != "" {
		if w.pin, err = words.ParseToken(raw); err != nil {
			return nil, fault.New(fault.Invalid, "%s", err)
		}
	}
	w.priority = said.priority(header)
	w.deadline = time.Now().Add(wire.Budget(header.Get(wire.HeaderBudget), said.timeoutMs()))
	w.identity = said.identity(w, header)
	w.anew = strings.Contains(strings.ToLower(header.Get("Cache-Control")), "no-cache")
	return w, nil
}

// attributes are data.attributes, undecoded. What is of another type than it
// should be counts as absent; the affinity check, or the server, answers that.
type attributes wire.Attributes

func (a attributes) text(name string) string {
	s, _ := wire.Value[string](a[name])
	return s
}

// optional is nil when the attribute is absent or null, and empty when it is
// no string: present, and wrong.
func (a attributes) optional(name string) *string {
	if raw := a[name]; len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	s := a.text(name)
	return &s
}

func (a attributes) affinity() (words.Affinity, bool, error) {
	request := wire.VisitRequest{AffinityType: a.optional("affinityType"), AffinityValue: a.optional("affinityValue")}
	return request.Affinity()
}

func (a attributes) timeoutMs() int {
	options, _ := wire.Value[wire.Attributes](a["renderOptions"])
	ms, _ := wire.Value[int](options["timeoutMs"])
	return ms
}

func (a attributes) priority(header http.Header) int {
	if n, ok := wire.Priority(header.Get(wire.HeaderJobPriority)); ok {
		return n
	}
	n, _ := wire.Value[int](a["priority"])
	return max(0, n)
}

// fill returns the body with the affinity that the manager found.
func (a attributes) fill(body []byte, affinity words.Affinity) ([]byte, error) {
	doc, _ := wire.Value[wire.Attributes](body)
	data, _ := wire.Value[wire.Attributes](doc["data"])
	filled := maps.Clone(a)
	filled["affinityType"], _ = json.Marshal(affinity.Type)
	filled["affinityValue"], _ = json.Marshal(affinity.Value)
	var err error
	if data["attributes"], err = json.Marshal(filled); err == nil {
		if doc["data"], err = json.Marshal(data); err == nil {
			body, err = json.Marshal(doc)
		}
	}
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "Invalid JSON body")
	}
	return body, nil
}

// identity covers all that may change the answer: everything but how urgent it
// is, which batch it belongs to and how long its caller waits.
func (a attributes) identity(w *work, header http.Header) string {
	same := maps.Clone(a)
	for _, name := range []string{"priority", "batchId", "affinityType", "affinityValue"} {
		delete(same, name)
	}
	if raw, err := json.Marshal(same); err == nil { // keys sorted, space dropped
		var compact bytes.Buffer
		_ = json.Compact(&compact, raw)
		sum := sha256.New()
		for _, part := range []string{w.path, w.affinity.Key(), string(w.pin), header.Get("Accept-Encoding"), header.Get("Accept"), compact.String()} {
			sum.Write([]byte(part))
			sum.Write([]byte{0})
		}
		return hex.EncodeToString(sum.Sum(nil))
	}
	return ""
}
