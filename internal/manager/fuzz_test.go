package manager

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// FuzzUnderstand reads a proxied request as the manager and as the prerender
// server that gets it: both must see the same.
func FuzzUnderstand(f *testing.F) {
	f.Add([]byte(`{"data":{"type":"x","attributes":{"url":"http://realm/a","priority":3,"unknown":[1, 2]}}}`), "t", "7", "900")
	f.Add([]byte(`{"data":{"attributes":{"affinityType":"user","affinityValue":"me","url":"x","renderOptions":{"timeoutMs":5}}}}`), "", "", "")
	f.Add([]byte(`{"data":{"attributes":{"affinityType":null,"affinityValue":"","url":"http://realm"}}}`), "a b", "-1", "x")
	f.Add([]byte(`{"data":[{"attributes":7}]}`), "", "", "")
	f.Add([]byte(`{"data":{"attributes":{"url":"http://realm/a","affinityType":"realm","affinityValue":"http://realm","command":"c","URL":"http://realm/b","AffinityType":"user","AFFINITYVALUE":"me","Command":"d"}}}`), "", "", "")
	f.Add([]byte(`{"data":{"attributes":{"url":"http://realm/a","url":"http://realm/b","renderOptions":{"timeoutMs":1,"TimeoutMs":2}}}}`), "", "", "")
	f.Add([]byte(`{"data":{"attributes":{"url":"http://realm/a","affinityType":"realm","affinityValue":"\ud800","priority":1.5}},"data":{}}`), "", "", "")
	f.Add([]byte(`{"data":{"attributes":{"url":"http://realm/deep/x","realm":"http://realm/"}}}`), "", "", "")
	f.Add([]byte(`{"data":{"attributes":{"url":"http://realm/x","realm":"http://realm/deep"}}}`), "", "", "")
	m := &Manager{fleet: newFleet(1, time.Minute)}
	m.fleet.realms = []string{"http://realm", "http://realm/deep"}
	routes := []string{routeVisit, routeModule, routeScreenshot, routeCommand, routeTakeover, routeBatch}
	f.Fuzz(func(t *testing.T, body []byte, pin, priority, budget string) {
		header := http.Header{wire.HeaderShellHash: {pin}, wire.HeaderJobPriority: {priority}, wire.HeaderBudget: {budget}}
		for _, route := range routes {
			began := time.Now()
			w, err := m.understand(route, header, body)
			if err != nil {
				if !fault.Is(err, fault.Invalid) {
					t.Errorf("%q is refused with %v, which is no fault of the caller", body, err)
				}
				continue
			}
			if _, ok := words.ParseAffinityKey(w.affinity.Key()); !ok || w.priority < 0 || !w.deadline.After(began) {
				t.Errorf("%q is work for %q of priority %d until %v", body, w.affinity.Key(), w.priority, w.deadline)
			}
			if token, err := words.ParseToken(string(w.pin)); w.pin != "" && (err != nil || token != w.pin) {
				t.Errorf("pin %q: %v", w.pin, err)
			}
			if !json.Valid(w.body) || len(w.body) > 6*len(body)+200 {
				t.Errorf("%q is sent on as %q", body, w.body)
			}
			asServer(t, route, w)
			if !bytes.Equal(w.body, body) {
				if said, _ := wire.ParseVisitRequest(body); said.Realm != "" {
					named, _ := wire.NormalizeURL(said.Realm)
					url, _ := wire.NormalizeURL(said.URL)
					// A server that is asked for another realm refuses.
					if slices.Contains(m.fleet.realms, named) && strings.HasPrefix(url+"/", named+"/") && w.affinity.Value != named {
						t.Errorf("%q is rendered in %q, and routed as %q", body, named, w.affinity.Key())
					}
				}
				again, err := m.understand(route, header, w.body)
				if err != nil || again.affinity != w.affinity || again.subject != w.subject || again.identity != w.identity {
					t.Errorf("%q, filled, is %q: %+v, %v", body, w.body, again, err)
				}
			}
		}
	})
}

// asServer reads what is sent on as a prerender server does. It may refuse it,
// for it looks at more; what it takes has to be what the manager judged.
func asServer(t *testing.T, route string, w *work) {
	t.Helper()
	if route == routeTakeover {
		if request, err := wire.ParseTakeoverRequest(w.body); err == nil && request.URL != w.subject {
			t.Errorf("%q is routed as %q, and %q is checked", w.body, w.subject, request.URL)
		}
		return
	}
	request, err := wire.ParseVisitRequest(w.body)
	if err != nil {
		return
	}
	subject := request.URL
	if route == routeCommand {
		subject = request.Command
	}
	affinity, given, err := request.Affinity()
	if subject != w.subject || affinity != w.affinity || !given || err != nil {
		t.Errorf("%q is routed as %q of %+v, and done as %q of %+v, %v", w.body, w.subject, w.affinity, subject, affinity, err)
	}
	priority := max(0, request.Priority)
	if n, ok := wire.Priority(w.header.Get(wire.HeaderJobPriority)); ok {
		priority = n
	}
	if priority != w.priority {
		t.Errorf("%q is routed with priority %d, and done with %d", w.body, w.priority, priority)
	}
	if read, _ := wire.ReadAttributes(w.body); attributes(read).timeoutMs() != request.RenderOptions.TimeoutMs {
		t.Errorf("%q has a time-out of %d ms, and one of %d", w.body, attributes(read).timeoutMs(), request.RenderOptions.TimeoutMs)
	}
}

// FuzzForwarded passes headers on to a server.
func FuzzForwarded(f *testing.F) {
	f.Add("Connection", "X-A, authorization", "X-A", "1")
	f.Add(wire.HeaderJobID, "1.2\n", wire.HeaderJobPriority, "-3")
	f.Add("traceparent", "00-a-b-01", "Cookie", "a=b")
	f.Add("Prefer", "wait=99", "Retry-After", "Fri, 31 Dec 1999 23:59:59 GMT")
	m := &Manager{options: Options{HeartbeatTimeout: 30 * time.Second}}
	f.Fuzz(func(t *testing.T, name, value, other, otherValue string) {
		in := http.Header{}
		in.Add(name, value)
		in.Add(other, otherValue)
		out := forwardable(in)
		for _, never := range append(slices.Clone(hopByHop), "Authorization", "Cookie", "Prefer", wire.HeaderBudget, wire.HeaderRelease, wire.HeaderServerID) {
			if out.Values(never) != nil {
				t.Errorf("%q is sent on: %q", never, out)
			}
		}
		for got, values := range out {
			if !slices.Equal(values, in[got]) && got != wire.HeaderJobID && got != "Accept-Encoding" {
				t.Errorf("%q: %q became %q", got, in[got], values)
			}
		}
		if id := out.Get(wire.HeaderJobID); wire.JobID(id) != id {
			t.Errorf("job id %q", id)
		}
		if n, ok := wire.Priority(out.Get(wire.HeaderJobPriority)); out.Values(wire.HeaderJobPriority) != nil && (!ok || n < 0) {
			t.Errorf("priority %q", out.Get(wire.HeaderJobPriority))
		}
		if wait := m.holdFor(http.Header{"Prefer": {value, otherValue}}); wait < 0 || wait > 20*time.Second {
			t.Errorf("a heartbeat is held for %v", wait)
		}
	})
}
