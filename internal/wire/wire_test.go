package wire_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

func TestNormalizeURL(t *testing.T) {
	for in, want := range map[string]string{
		"http://a/":                 "http://a",
		"HTTP://A.Example:80/x/":    "http://a.example/x",
		"https://a:443/?q#f":        "https://a",
		"https://a:444//":           "https://a:444/",
		"http://a:/x":               "http://a/x",
		"http://user:pass@a/x?y=1":  "http://a/x",
		"http://[::1]:4221":         "http://[::1]:4221",
		" http://a ":                "http://a",
		"":                          "",
		"a":                         "",
		"ftp://a/":                  "",
		"http://":                   "",
		"http://a:b/":               "",
		"javascript:alert(1)//http": "",
	} {
		got, ok := wire.NormalizeURL(in)
		if got != want || ok != (want != "") {
			t.Errorf("NormalizeURL(%q) = %q, %v, want %q", in, got, ok, want)
		}
	}
}

func TestReleaseHeader(t *testing.T) {
	header := wire.FormatRelease(words.Release{Sequence: 7, Token: "abc"})
	if sequence, token, ok := wire.ParseRelease(header); sequence != 7 || token != "abc" || !ok {
		t.Errorf("ParseRelease(%q) = %d, %q, %v", header, sequence, token, ok)
	}
	for _, bad := range []string{"", "7", "abc 7", "-1 abc", "0 abc", "7 a b", "7 \x00", "99999999999999999999 a"} {
		if _, _, ok := wire.ParseRelease(bad); ok {
			t.Errorf("ParseRelease(%q) is accepted", bad)
		}
	}
}

func TestBudget(t *testing.T) {
	for _, c := range []struct {
		header    string
		timeoutMs int
		want      time.Duration
	}{
		{"1500", 9, 1500 * time.Millisecond},
		{"", 900, 900 * time.Millisecond},
		{"x", 0, time.Minute},
		{"-5", 0, time.Minute},
		{"0", 0, time.Minute},
	} {
		if got := wire.Budget(c.header, c.timeoutMs); got != c.want {
			t.Errorf("Budget(%q, %d) = %v, want %v", c.header, c.timeoutMs, got, c.want)
		}
	}
	if got := wire.FormatBudget(time.Second); got != "750" {
		t.Errorf("FormatBudget(1s) = %q, want what is left less 250 ms", got)
	}
	if got := wire.FormatBudget(time.Millisecond); got != "1" {
		t.Errorf("FormatBudget(1ms) = %q: a budget never reads as absent", got)
	}
}

func TestIdentifiers(t *testing.T) {
	for in, want := range map[string]string{" aB-09 ": "aB-09", "": "", "xyz": "", strings.Repeat("a", 65): "", "a\nb": ""} {
		if got := wire.RequestID(in); got != want {
			t.Errorf("RequestID(%q) = %q, want %q", in, got, want)
		}
	}
	for in, want := range map[string]string{"12.3": "12.3", "12": "", "a.b": "", "1.2.3": "", strings.Repeat("1", 33) + ".1": ""} {
		if got := wire.JobID(in); got != want {
			t.Errorf("JobID(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestHeartbeatDropsWhatIsMalformed(t *testing.T) {
	got, err := wire.ParseHeartbeat([]byte(`{"data":{"type":"x","attributes":{
		"url":"HTTP://Host:80/","capacity":"many","status":"asleep","unknown":1,
		"warmedAffinities":["realm:a",7,"",null],
		"affinityVacancy":{"realm:a":{"idle":true,"tabCount":2,"maxPendingPriority":3},"b":{"idle":1},"c":{"idle":true,"tabCount":-1},"d":5},
		"hostShell":{"release":4,"skews":3,"desired":"t\nx","pages":{"t1":2,"t 2":1,"t3":-1,"t4":"x"},"phase":"fresh","detail":7}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	three := 3
	want := wire.Heartbeat{
		URL: "http://host", Capacity: 4, Status: "active", WarmedAffinities: []string{"realm:a"},
		AffinityVacancy: map[string]wire.Vacancy{"realm:a": {Idle: true, TabCount: 2, MaxPendingPriority: &three}},
		HostShell:       wire.HostShell{Release: 4, Pages: map[words.Token]int{"t1": 2}, Phase: words.PhaseFresh, Skews: 3},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	absent, err := wire.ParseHeartbeat([]byte(`{"data":{"attributes":{"url":"http://a"}}}`))
	if err != nil || absent.WarmedAffinities != nil {
		t.Errorf("absent warmedAffinities are told from empty ones: %v, %v", absent.WarmedAffinities, err)
	}
	for body, want := range map[string]string{"": "Invalid JSON body", "[": "Invalid JSON body", "{}": "URL is required", `{"data":{"attributes":{"url":7}}}`: "URL is required"} {
		if _, err := wire.ParseHeartbeat([]byte(body)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v, want %q", body, err, want)
		}
	}
}

func TestReport(t *testing.T) {
	got, err := wire.ParseReport([]byte(`{"data":{"attributes":{"hash":" abc ","source":"rumour","since":"yesterday","realms":["http://a/","nonsense"],"reporter":"r"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(wire.Report{Hash: "abc", Reporter: "r", Realms: []string{"http://a"}}, got); diff != "" {
		t.Error(diff)
	}
	for kept, want := range map[string][]words.Token{
		`["a","b"]`: {"a", "b"}, `[]`: {}, `null`: nil, `"a"`: nil, `["a","b c"]`: nil, `["a",7]`: nil, `[` + strings.Repeat(`"a",`, wire.MaxKept) + `"a"]`: nil,
	} {
		got, err := wire.ParseReport([]byte(`{"data":{"attributes":{"hash":"a","kept":` + kept + `}}}`))
		if diff := cmp.Diff(want, got.Kept); diff != "" || err != nil {
			t.Errorf("%s: %v %s", kept, err, diff)
		}
	}
}
