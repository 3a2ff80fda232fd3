package takeover

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rewarm/rewarm/internal/words"
)

// healthy is a page that was taken over without a finding.
func healthy() Evidence {
	content := Content{Lines: []string{"Birds", "The robin sings."}, Links: []string{"http://h/a", "http://h/b"}}
	return Evidence{
		URL: "http://h/", FinalURL: "http://h/", HTTPStatus: 200, Token: "t", Snapshot: "hit", Documents: 1,
		Before: content, After: content, Takeover: Takeover{Seen: true, At: 80 * time.Millisecond},
		Response: 5 * time.Millisecond, Load: 90 * time.Millisecond, Settled: 400 * time.Millisecond,
	}
}

func kindsOf(v words.Verdict, severity words.Severity) (kinds []words.FindingKind) {
	for _, f := range v.Findings {
		if f.Severity == severity {
			kinds = append(kinds, f.Kind)
		}
	}
	return kinds
}

func TestJudgeFindsNothingOnAHealthyPage(t *testing.T) {
	v := Judge(healthy())
	if v.Verdict != words.VerdictOK || v.Findings == nil || len(v.Findings) > 0 {
		t.Errorf("%+v", v)
	}
	if want := (words.TakeoverTimings{ResponseMs: 5, LoadMs: 90, TakeoverMs: 80, SettledMs: 400}); v.Timings != want {
		t.Errorf("%+v", v.Timings)
	}
}

func TestJudgeTellsBreaksFromWarnings(t *testing.T) {
	ms := time.Millisecond
	type kinds = []words.FindingKind
	for name, c := range map[string]struct {
		change         func(e *Evidence)
		breaks, warnes kinds
	}{
		"exception":           {func(e *Evidence) { e.Said = []Said{{Exception: true, Text: "Error: boom"}} }, kinds{"exception"}, nil},
		"stranger's":          {func(e *Evidence) { e.Said = []Said{{Exception: true, Text: "Error: boom", Stranger: true}} }, nil, kinds{"exception"}},
		"console":             {func(e *Evidence) { e.Said = []Said{{Text: "careful"}} }, nil, kinds{"console"}},
		"console warning":     {func(e *Evidence) { e.Said = []Said{{Text: "careful", Warning: true}} }, nil, nil},
		"hydration warning":   {func(e *Evidence) { e.Said = []Said{{Text: "https://svelte.dev/e/hydration_mismatch", Warning: true}} }, kinds{"hydration"}, nil},
		"chunk":               {func(e *Evidence) { e.Said = []Said{{Text: "ChunkLoadError: Loading chunk 7 failed"}} }, kinds{"chunk"}, nil},
		"script gone":         {func(e *Evidence) { e.Failures = []Request{{URL: "u", Type: "Script", Status: 404}} }, kinds{"asset-missing"}, nil},
		"script unreachable":  {func(e *Evidence) { e.Failures = []Request{{URL: "u", Type: "Script", Error: "net::ERR"}} }, kinds{"asset-missing"}, nil},
		"a stranger's script": {func(e *Evidence) { e.Failures = []Request{{URL: "u", Type: "Script", Status: 404, Stranger: true}} }, nil, kinds{"asset-missing"}},
		"picture gone":        {func(e *Evidence) { e.Failures = []Request{{URL: "u", Type: "Image", Status: 404}} }, nil, kinds{"asset-missing"}},
		"style is HTML": {func(e *Evidence) {
			e.Failures = []Request{{URL: "u", Type: "Stylesheet", Status: 200, MIME: "text/html"}}
		}, kinds{"asset-type"}, nil},
		"data fails":          {func(e *Evidence) { e.Failures = []Request{{URL: "u", Type: "Fetch", Status: 500}} }, nil, kinds{"request"}},
		"text lost":           {func(e *Evidence) { e.After.Lines = []string{"Birds"} }, kinds{"text-lost"}, nil},
		"text added":          {func(e *Evidence) { e.After.Lines = append(e.After.Lines, "More") }, nil, kinds{"text-added"}},
		"text moved":          {func(e *Evidence) { slices.Reverse(e.After.Lines) }, nil, nil},
		"link lost":           {func(e *Evidence) { e.After.Links = e.After.Links[1:] }, kinds{"links-lost"}, nil},
		"link there twice":    {func(e *Evidence) { e.After.Links = append(e.After.Links, e.After.Links[0]) }, nil, nil},
		"no takeover":         {func(e *Evidence) { e.Takeover = Takeover{} }, kinds{"no-takeover"}, nil},
		"left behind":         {func(e *Evidence) { e.Takeover.Left = true }, kinds{"no-takeover"}, nil},
		"long poll":           {func(e *Evidence) { e.Pending = []Request{{URL: "u", Type: "Fetch"}} }, nil, kinds{"timeout"}},
		"data never comes":    {func(e *Evidence) { e.After.Lines, e.Pending = e.After.Lines[1:], []Request{{URL: "u", Type: "Fetch"}} }, kinds{"text-lost", "timeout"}, nil},
		"of a bare shell too": {func(e *Evidence) { e.Snapshot, e.Pending = "miss", []Request{{URL: "u", Type: "Fetch"}} }, kinds{"timeout"}, nil},
		"a bare shell":        {func(e *Evidence) { e.Snapshot, e.Before = "miss", Content{Lines: []string{"Loading"}} }, nil, nil},
		"another server":      {func(e *Evidence) { e.Snapshot, e.Before = "", Content{Lines: []string{"Loading"}} }, nil, nil},
		"stale is compared":   {func(e *Evidence) { e.Snapshot, e.After.Lines = "stale", nil }, kinds{"text-lost"}, nil},
		"never loads":         {func(e *Evidence) { e.Load = 0 }, kinds{"timeout"}, nil},
		"wedged":              {func(e *Evidence) { e.Wedged, e.Unread, e.After = true, true, Content{} }, kinds{"timeout"}, nil},
		"crashed":             {func(e *Evidence) { e.Crashed, e.Unread, e.After = true, true, Content{} }, kinds{"timeout"}, nil},
		"restless":            {func(e *Evidence) { e.Busy = 100 }, kinds{"restless"}, nil},
		"a clock":             {func(e *Evidence) { e.Busy = 4 }, nil, nil},
		"reloads":             {func(e *Evidence) { e.Documents, e.Unread = 99, true }, kinds{"restless"}, nil},
		"unread":              {func(e *Evidence) { e.Unread, e.Before, e.After = true, Content{}, Content{} }, kinds{"navigation"}, nil},
		"unreachable":         {func(e *Evidence) { *e = Evidence{URL: "u", Failed: "refused"} }, kinds{"navigation"}, nil},
		"shifts a little":     {func(e *Evidence) { e.Shifts = []Shift{{At: ms, Value: 0.08}, {At: 2 * ms, Value: 0.04}} }, nil, kinds{"layout-shift"}},
		"shifts much":         {func(e *Evidence) { e.Shifts = []Shift{{At: ms, Value: 0.4}} }, kinds{"layout-shift"}, nil},
		"blinks":              {func(e *Evidence) { e.Samples = []Sample{{50 * ms, 21}, {80 * ms, 0}, {120 * ms, 21}} }, nil, kinds{"flash"}},
		"goes blank":          {func(e *Evidence) { e.Samples = []Sample{{80 * ms, 9}, {900 * ms, 21}} }, kinds{"flash"}, nil},
		"was adopted":         {func(e *Evidence) { e.Takeover.At, e.Samples = 0, []Sample{{10 * ms, 0}, {60 * ms, 21}} }, nil, nil},
		"was built slowly":    {func(e *Evidence) { e.Samples = []Sample{{10 * ms, 0}, {60 * ms, 21}} }, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			e := healthy()
			c.change(&e)
			v := Judge(e)
			if breaks := kindsOf(v, words.SeverityBreak); !slices.Equal(breaks, c.breaks) {
				t.Errorf("breaks by %v, want %v", breaks, c.breaks)
			}
			if warns := kindsOf(v, words.SeverityWarning); !slices.Equal(warns, c.warnes) {
				t.Errorf("warns of %v, want %v", warns, c.warnes)
			}
			if (v.Verdict == words.VerdictBroken) != (len(c.breaks) > 0) {
				t.Errorf("verdict %s", v.Verdict)
			}
		})
	}
}

func TestJudgeNamesHydrationErrorsOfFrameworks(t *testing.T) {
	for text, want := range map[string]string{
		"Error: Minified React error #418; visit https://react.dev/errors/418?args[]=text": "React #418: ",
		"Error: Minified React error #419;":                                                "React #419: ",
		"Error: Minified React error #421;":                                                "React #421: ",
		"Error: Minified React error #422;":                                                "React #422: ",
		"Error: Minified React error #423;":                                                "React #423: ",
		"Error: Minified React error #425;":                                                "React #425: ",
		"Error: Hydration failed because the server rendered HTML didn't match":            "React: ",
		"Hydration completed but contains mismatches.":                                     "Vue: ",
		"[Vue warn]: Hydration node mismatch:":                                             "Vue: ",
		"Svelte error: hydration_mismatch":                                                 "Svelte: ",
		"Error: NG0500: During hydration Angular expected <p>":                             "Angular NG0500: ",
		"ERROR Error: NG0507: HTML content was altered":                                    "Angular NG0507: ",
	} {
		v := Judge(Evidence{Snapshot: "miss", Load: 1, Takeover: Takeover{Seen: true}, Said: []Said{{Text: text}}})
		if len(v.Findings) != 1 || v.Findings[0].Kind != words.FindingHydration || !strings.HasPrefix(v.Findings[0].Message, want) {
			t.Errorf("%q: %+v, want %s", text, v.Findings, want)
		}
	}
	for _, other := range []string{"Error: Minified React error #31;", "NG0100: changed after it was checked", "stay hydrated", "NG05000"} {
		if why := hydration(other); why != "" {
			t.Errorf("%q is taken for hydration: %s", other, why)
		}
	}
}

// A page in trouble says the same thing a thousand times; a report does not.
func TestJudgeBoundsWhatItSays(t *testing.T) {
	e := healthy()
	for i := range 1000 {
		e.Said = append(e.Said, Said{Exception: true, Text: "Error " + strings.Repeat("x", i%50)})
		e.Before.Lines = append(e.Before.Lines, strings.Repeat("y", i))
	}
	v := Judge(e)
	for _, f := range v.Findings {
		if lines := strings.Count(f.Detail, "\n") + 1; lines > maxDetail+1 {
			t.Errorf("%s has %d lines", f.Kind, lines)
		}
	}
	if len(v.Findings) != maxFindings+1 {
		t.Errorf("%d findings", len(v.Findings))
	}
}

func TestLayoutShiftIsSummedInWindows(t *testing.T) {
	at := func(s float64, v float64) Shift { return Shift{At: time.Duration(s * float64(time.Second)), Value: v} }
	for name, c := range map[string]struct {
		shifts []Shift
		want   float64
	}{
		"none":                 {nil, 0},
		"together":             {[]Shift{at(0, 0.25), at(0.5, 0.25)}, 0.5},
		"a second apart":       {[]Shift{at(0, 0.25), at(1, 0.5)}, 0.5},
		"five seconds at most": {[]Shift{at(0, 0.25), at(0.9, 0.25), at(1.8, 0.25), at(2.7, 0.25), at(3.6, 0.25), at(4.5, 0.25), at(5.4, 0.25)}, 1.5},
	} {
		if got := cls(c.shifts); got != c.want {
			t.Errorf("%s: %g, want %g", name, got, c.want)
		}
	}
}
