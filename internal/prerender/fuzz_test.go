package prerender

import (
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// FuzzPlace finds the realm that a URL is rendered for. What is found must be
// where a browser goes: to another host or path it would take the realm's name
// with it.
func FuzzPlace(f *testing.F) {
	for _, s := range []string{
		"http://realm/app/x?y=//z#f", "HTTP://REALM:80/app", "http://realm/apple", "http://realm/app/.well-known/x", "http://realm@evil/app",
		"http://realm\\@evil/app", "http://evil/http://realm/app", "http://[::1]:1/", "https://realm/app/%2e", "http://realm/app/...",
	} {
		f.Add(s)
	}
	realms := []string{"http://realm/app", "http://realm/app/deep", "https://other:8443", "http://[::1]:1"}
	f.Fuzz(func(t *testing.T, raw string) {
		target, err := checkURL(raw)
		if err != nil {
			if !fault.Is(err, fault.Invalid) {
				t.Errorf("%q is refused with %v, which is no fault of the caller", raw, err)
			}
			return
		}
		realm := realmOf(realms, target)
		if realm == "" {
			return
		}
		if went := browsed(raw); went != realm && !strings.HasPrefix(went, realm+"/") || !slices.Contains(realms, realm) {
			t.Errorf("%q is of realm %q, and a browser goes to %q", raw, realm, went)
		}
	})
}

// browsed is where a browser goes, as far as a realm is told by it: a backslash
// is a slash, and dots are dots however they are written.
func browsed(raw string) string {
	raw, _, _ = strings.Cut(strings.TrimSpace(raw), "#")
	raw, _, _ = strings.Cut(raw, "?")
	scheme, rest, _ := strings.Cut(strings.ReplaceAll(raw, `\`, "/"), "://")
	host, p, _ := strings.Cut(rest, "/")
	segments := strings.Split(p, "/")
	for i, segment := range segments {
		switch dots := strings.ReplaceAll(strings.ToLower(segment), "%2e", "."); dots {
		case ".", "..":
			segments[i] = dots
		case "":
			segments[i] = "-" // an empty segment is one that two dots take away
		}
	}
	normalized, _ := wire.NormalizeURL(scheme + "://" + host + path.Clean("/"+strings.Join(segments, "/")))
	return normalized
}

// FuzzAsk reads a render request from its headers and its body.
func FuzzAsk(f *testing.F) {
	f.Add([]byte(`{"data":{"attributes":{"url":"http://realm/x","renderOptions":{"timeoutMs":100,"mode":"isolated","viewport":{"width":9}}}}}`), "1500", "3", "t", "1.2")
	f.Add([]byte(`{"data":{"attributes":{"command":"c","affinityType":"realm","affinityValue":"http://realm/y"}}}`), "", "x", "", "")
	f.Add([]byte(`{"data":{"attributes":{"url":"http://realm","realm":"http://realm/","affinityType":"user","affinityValue":"a\u0000b","priority":-1}}}`), "-1", "", " ", "")
	server := &Server{options: Options{RenderTimeout: time.Minute}, realms: newRealms([]string{"http://realm"}, nil)}
	f.Fuzz(func(t *testing.T, body []byte, budget, priority, pin, job string) {
		for _, kind := range tasks() {
			r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(string(body)))
			r.Header = http.Header{wire.HeaderBudget: {budget}, wire.HeaderJobPriority: {priority}, wire.HeaderShellHash: {pin}, wire.HeaderJobID: {job}}
			a, err := server.readAsk(httptest.NewRecorder(), r, kind)
			if err != nil {
				if !fault.Is(err, fault.Invalid) && !fault.Is(err, fault.Forbidden) {
					t.Errorf("%q is refused with %v, which is no fault of the caller", body, err)
				}
				continue
			}
			visit := a.task.Visit
			if a.budget <= 0 || a.budget > time.Minute || visit.Priority < 0 || wire.JobID(a.jobID) != a.jobID {
				t.Errorf("%q is %+v", body, a)
			}
			if _, ok := words.ParseAffinityKey(visit.Affinity.Key()); !ok || visit.Realm != "http://realm" {
				t.Errorf("%q is for %q in realm %q", body, visit.Affinity.Key(), visit.Realm)
			}
			if token, err := words.ParseToken(string(visit.Pin)); visit.Pin != "" && (err != nil || token != visit.Pin) {
				t.Errorf("pin %q: %v", visit.Pin, err)
			}
		}
	})
}
