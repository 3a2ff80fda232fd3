package wire_test

import (
	"bytes"
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

func FuzzNormalizeURL(f *testing.F) {
	for _, s := range []string{
		"http://a/", "HTTP://A.Example:80/x/?q#f", "https://u:p@a:443/", "http://[::1]:4221", "http://[fe80::1%25En0]:80/", " http://a/ ",
		"http://\u00dc.example/%2F%c3", "http://a/../b\\c", "ftp://a/", "http:a", "http://a:b",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, ok := wire.NormalizeURL(s)
		if !ok {
			if n != "" {
				t.Errorf("%q is no URL, and yet %q", s, n)
			}
			return
		}
		if again, ok := wire.NormalizeURL(n); !ok || again != strings.TrimSuffix(n, "/") {
			t.Errorf("%q became %q, and that %q, %v", s, n, again, ok)
		}
		u, err := url.Parse(n)
		switch {
		case err != nil:
			t.Errorf("%q became %q: %v", s, n, err)
		case u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "", u.User != nil, strings.ContainsAny(n, "?#"), strings.HasSuffix(u.Host, ":"):
			t.Errorf("%q became %q", s, n)
		case strings.ContainsFunc(n, unicode.IsControl) || strings.Contains(n, " "):
			t.Errorf("%q became %q, which fits in no header", s, n)
		case len(n) > 16+9*len(s): // an invalid byte of the host becomes U+FFFD, each of whose bytes is escaped
			t.Errorf("%d bytes became %d", len(s), len(n))
		}
	})
}

func FuzzHeaders(f *testing.F) {
	f.Add("7 abc", 0)
	f.Add(" 1500 ", 900)
	f.Add("12.3", -1)
	f.Add("aB-09", 1)
	f.Add("user:me\r\nX: y", 1)
	f.Add("99999999999999999999 a", 1)
	f.Add("+5", 1)
	f.Fuzz(func(t *testing.T, header string, timeoutMs int) {
		if sequence, token, ok := wire.ParseRelease(header); ok {
			again := wire.FormatRelease(words.Release{Sequence: sequence, Token: token})
			if s, tok, ok := wire.ParseRelease(again); !ok || s != sequence || tok != token || s == 0 {
				t.Errorf("%q is release %d %q, and %q is %d %q", header, sequence, token, again, s, tok)
			}
		}
		if token, err := words.ParseToken(header); err == nil {
			if again, err := words.ParseToken(string(token)); err != nil || again != token {
				t.Errorf("token %q of %q is %q, %v", token, header, again, err)
			}
			if len(token) == 0 || len(token) > words.MaxTokenLength || !visible(string(token)) {
				t.Errorf("%q is no token", token)
			}
		}
		budget := wire.Budget(header, timeoutMs)
		if budget <= 0 {
			t.Errorf("Budget(%q, %d) = %v", header, timeoutMs, budget)
		}
		if left := wire.Budget(wire.FormatBudget(budget), 0); left <= 0 || left > budget {
			t.Errorf("a hop forwards %v of %v", left, budget)
		}
		for name, id := range map[string]string{"request": wire.RequestID(header), "job": wire.JobID(header)} {
			if len(id) > 65 || !visible(id) {
				t.Errorf("%s id %q", name, id)
			}
		}
		if id := wire.RequestID(header); id != wire.RequestID(id) {
			t.Errorf("request id %q is not one", id)
		}
		if id := wire.JobID(header); id != wire.JobID(id) {
			t.Errorf("job id %q is not one", id)
		}
		if n, ok := wire.Priority(header); ok && n < 0 {
			t.Errorf("priority %d", n)
		}
		if a, ok := words.ParseAffinityKey(header); ok && (a.Key() != header || a.Value == "") {
			t.Errorf("affinity %q of %q", a.Key(), header)
		}
	})
}

// visible is whether text is visible ASCII, which any header, log line and
// terminal takes.
func visible(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' })
}

func FuzzHeartbeat(f *testing.F) {
	f.Add([]byte(`{"data":{"attributes":{"url":"http://a","capacity":2,"status":"draining","instance":"i","warmedAffinities":["realm:x",""],
		"affinityVacancy":{"realm:x":{"idle":true,"tabCount":1,"maxPendingPriority":0}},
		"hostShell":{"release":1,"desired":"t","pages":{"t":1,"u ":-1},"phase":"fresh","detail":"d"}}}}`))
	f.Add([]byte(`{"data":{"attributes":{"url":"https://a:444/","warmedAffinities":null,"affinityVacancy":[],"hostShell":{"pages":{"t t":2}}}}}`))
	f.Add([]byte(`{"data":{"attributes":{"url":"http://a","URL":"http://b"}},"Data":{}}`))
	f.Add([]byte(`{"data":{"attributes":{"url":"http://a","\u0075rl":"http://b"}}}`))
	f.Add([]byte(`{"data":null}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		h, err := wire.ParseHeartbeat(body)
		if err != nil {
			refused(t, body, err)
			return
		}
		url, _ := wire.NormalizeURL(heard(t, body, "url"))
		same(t, body, "url", h.URL, url)
		same(t, body, "instance", h.Instance, heard(t, body, "instance"))
		if same, _ := wire.ParseHeartbeat(body); !cmp.Equal(h, same) {
			t.Errorf("%q is read in two ways: %s", body, cmp.Diff(h, same))
		}
		again, err := wire.ParseHeartbeat(encode(t, h))
		if diff := cmp.Diff(h, again); diff != "" || err != nil {
			t.Errorf("%q: what was read is written as something else: %v %s", body, err, diff)
		}
		if h.Capacity < 0 || h.Status != "active" && h.Status != wire.StatusDraining {
			t.Errorf("capacity %d, status %q", h.Capacity, h.Status)
		}
		for key, v := range h.AffinityVacancy {
			if v.TabCount < 0 || v.MaxPendingPriority != nil && *v.MaxPendingPriority < 0 {
				t.Errorf("vacancy of %q: %+v", key, v)
			}
		}
		for token, n := range h.HostShell.Pages {
			if parsed, err := words.ParseToken(string(token)); err != nil || parsed != token || n <= 0 {
				t.Errorf("%d pages of %q", n, token)
			}
		}
	})
}

func FuzzReport(f *testing.F) {
	f.Add([]byte(`{"data":{"attributes":{"hash":" abc ","source":"boot","since":"2026-01-02T03:04:05.6+07:00","realms":["http://a/","x"],"reporter":"r","deploymentId":"d","state":"candidate","kept":["a","b"]}}}`))
	f.Add([]byte(`{"data":{"attributes":{"hash":"a","source":"rumour","since":"yesterday","realms":["https://a/",7]}}}`))
	f.Add([]byte(`{"data":{"attributes":{"hash":"a\nb"}}}`))
	f.Add([]byte(`{"data":{"attributes":{"hash":"a","Hash":"b"},"attributes":{"hash":"c"}}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := wire.ParseReport(body)
		if err != nil {
			refused(t, body, err)
			return
		}
		same(t, body, "hash", string(r.Hash), strings.TrimSpace(heard(t, body, "hash")))
		same(t, body, "reporter", r.Reporter, heard(t, body, "reporter"))
		again, err := wire.ParseReport(encode(t, r))
		if diff := cmp.Diff(r, again); diff != "" || err != nil {
			t.Errorf("%q: what was read is written as something else: %v %s", body, err, diff)
		}
		if token, err := words.ParseToken(string(r.Hash)); err != nil || token != r.Hash {
			t.Errorf("hash %q: %v", r.Hash, err)
		}
	})
}

func FuzzVisitRequest(f *testing.F) {
	f.Add([]byte(`{"data":{"type":"prerender-visit","attributes":{"url":"http://a/x","affinityType":"realm","affinityValue":"http://a","auth":"s","priority":3,
		"renderOptions":{"timeoutMs":100,"viewport":{"width":1,"deviceScaleFactor":1.5},"block":["image"],"mode":"isolated"}}}}`))
	f.Add([]byte(`{"data":{"attributes":{"command":"c","commandInput":{"<":[1, 2]},"affinityType":"user","affinityValue":""}}}`))
	f.Add([]byte(`{"data":{"attributes":{"affinityType":"group","commandInput":null}}}`))
	f.Add([]byte(`{"data":{"attributes":{"url":"a","URL":"b","AffinityType":"user","affinityvalue":"c","realm":"d","Realm":"e"}}}`))
	f.Add([]byte(`{"data":{"attributes":{"url":"a","commandInput":{"x":1,"x":2}}},"data":{"attributes":{"url":"b"}}}`))
	f.Add([]byte("{\"data\":{\"attributes\":{\"url\":\"a\xff\\ud800\"}}}"))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := wire.ParseVisitRequest(body)
		if err != nil {
			refused(t, body, err)
			return
		}
		for name, got := range map[string]string{"url": r.URL, "command": r.Command, "realm": r.Realm, "auth": r.Auth, "batchId": r.BatchID} {
			same(t, body, name, got, heard(t, body, name))
		}
		again, err := wire.ParseVisitRequest(encode(t, r))
		// By its bytes: space in raw JSON, and empty lists, are not kept.
		if err != nil || !bytes.Equal(encode(t, again), encode(t, r)) {
			t.Errorf("%q: what was read, %q, is written as %q, %v", body, encode(t, r), encode(t, again), err)
		}
		affinity, given, err := r.Affinity()
		switch {
		case err != nil:
			refused(t, body, err)
		case given:
			same(t, body, "affinity", affinity.Key(), heard(t, body, "affinityType")+":"+heard(t, body, "affinityValue"))
			if parsed, ok := words.ParseAffinityKey(affinity.Key()); !ok || parsed != affinity {
				t.Errorf("affinity %q is read as %+v, %v", affinity.Key(), parsed, ok)
			}
		case affinity != words.Affinity{}:
			t.Errorf("affinity %+v, which nobody gave", affinity)
		}
	})
}

// FuzzResults is over what a page gives as the result of a module or a command.
func FuzzResults(f *testing.F) {
	f.Add([]byte(`{"deps":["a",7,null]}`))
	f.Add([]byte(`"text"`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, result []byte) {
		if wire.DepsOf(result) == nil {
			t.Error("deps are null")
		}
		text := wire.CardResultString(result)
		if !json.Valid(result) || text == nil {
			return
		}
		if quoted, err := json.Marshal(*text); err != nil || !sameJSON(quoted, result) && *text != string(result) {
			t.Errorf("%q is told as %q", result, *text)
		}
	})
}

// refused holds that a wrong request is told to be the caller's.
func refused(t *testing.T, body []byte, err error) {
	t.Helper()
	if !fault.Is(err, fault.Invalid) || err.Error() == "" {
		t.Errorf("%q is refused with %v, which is no fault of the caller", body, err)
	}
}

// heard is the text that a reader of another make finds under a name in a body
// that we understood: JavaScript's, say, which takes names exactly, and the last
// of two where others take the first. So none may be there twice.
func heard(t *testing.T, body []byte, name string) string {
	t.Helper()
	if !utf8.Valid(body) || twice(t, json.NewDecoder(bytes.NewReader(body))) {
		t.Errorf("%q is understood, and not by everybody in the same way", body)
	}
	var doc map[string]any // not a struct: encoding/json would not take its names exactly
	_ = json.Unmarshal(body, &doc)
	data, _ := doc["data"].(map[string]any)
	attributes, _ := data["attributes"].(map[string]any)
	text, _ := attributes[name].(string)
	return text
}

// twice is whether an object in the next value has a name twice.
func twice(t *testing.T, d *json.Decoder) bool {
	t.Helper()
	token, err := d.Token()
	if err != nil {
		t.Fatalf("understood, and no JSON: %v", err)
	}
	seen, found := map[json.Token]bool{}, false
	for token == json.Delim('{') && d.More() {
		name, _ := d.Token()
		found = seen[name] || found
		seen[name] = true
		found = twice(t, d) || found
	}
	for token == json.Delim('[') && d.More() {
		found = twice(t, d) || found
	}
	if _, opened := token.(json.Delim); opened {
		_, _ = d.Token()
	}
	return found
}

func same(t *testing.T, body []byte, name, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s of %q is read as %q, and by others as %q", name, body, got, want)
	}
}

func encode[A any](t *testing.T, attributes A) []byte {
	t.Helper()
	body, err := json.Marshal(wire.Document[A]{Data: wire.Resource[A]{Type: "x", Attributes: attributes}})
	if err != nil {
		t.Fatalf("what was read cannot be written: %v", err)
	}
	return body
}

// sameJSON compares what two texts say; a number may be too large for a float.
func sameJSON(a, b []byte) bool {
	var said [2]any
	for i, raw := range [][]byte{a, b} {
		d := json.NewDecoder(bytes.NewReader(raw))
		d.UseNumber()
		if d.Decode(&said[i]) != nil {
			return false
		}
	}
	return cmp.Equal(said[0], said[1])
}

func FuzzTakeoverRequest(f *testing.F) {
	f.Add([]byte(`{"data":{"attributes":{"url":"http://h/","allowDifference":[".clock"],"timeoutMs":5,"viewport":{"width":1,"height":1}}}}`))
	f.Add([]byte(`{"data":{"attributes":{"allowDifference":["", null]}}}`))
	f.Add([]byte(`{"data":{"attributes":{"url":"a","Url":"b","release":"t","RELEASE":"u"}}}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		request, err := wire.ParseTakeoverRequest(body)
		if err != nil {
			if !fault.Is(err, fault.Invalid) {
				t.Errorf("%v is not the caller's fault", err)
			}
			return
		}
		same(t, body, "url", request.URL, heard(t, body, "url"))
		same(t, body, "realm", request.Realm, heard(t, body, "realm"))
		same(t, body, "release", string(request.Release), heard(t, body, "release"))
		for _, selector := range request.AllowDifference {
			if strings.TrimSpace(selector) == "" {
				t.Errorf("%q is let through", selector)
			}
		}
		again, err := json.Marshal(wire.Document[wire.TakeoverRequest]{Data: wire.Resource[wire.TakeoverRequest]{Attributes: request}})
		if err != nil {
			t.Fatal(err)
		}
		if read, err := wire.ParseTakeoverRequest(again); err != nil || !cmp.Equal(read, request, cmpopts.EquateEmpty()) {
			t.Errorf("%+v became %+v, %v", request, read, err)
		}
	})
}
