package cli

import (
	"cmp"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"unicode"

	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// unsafeInName is what a file's name is not made of.
var unsafeInName = regexp.MustCompile(`[^A-Za-z0-9.]+`)

// keepPictures writes a page's pictures into the directory for artifacts, and
// takes them out of the result.
func (c *checkCommand) keepPictures(target string, n int, result *wire.TakeoverResult) error {
	shots := result.Screenshots
	result.Screenshots = nil
	if c.Artifacts == "" || shots == nil {
		return nil
	}
	if err := os.MkdirAll(c.Artifacts, 0o755); err != nil {
		return fmt.Errorf("keep the pictures: %w", err)
	}
	name := target
	if u, err := url.Parse(target); err == nil {
		name = u.Hostname() + u.Path
	}
	name = strings.Trim(unsafeInName.ReplaceAllString(name, "-"), "-.")
	name = fmt.Sprintf("%d-%s", n+1, name[:min(len(name), 100)])
	for _, shot := range []struct {
		what string
		data []byte
	}{{"before", shots.Before}, {"after", shots.After}, {"difference", shots.Difference}} {
		if len(shot.data) == 0 {
			continue
		}
		if err := os.WriteFile(filepath.Join(c.Artifacts, name+"-"+shot.what+".png"), shot.data, 0o644); err != nil {
			return fmt.Errorf("keep the pictures: %w", err)
		}
	}
	return nil
}

// harmless is a text that a page chose, in one line of a terminal.
func harmless(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) { // an escape sequence, a change of direction
			return ' '
		}
		return r
	}, text)
}

func writeCheckText(w io.Writer, checked []wire.TakeoverResult) error {
	var b strings.Builder
	for _, v := range checked {
		fmt.Fprintf(&b, "%-7s %s\n", verdictWord(v.Verdict), harmless(v.URL))
		fmt.Fprintf(&b, "        %s\n", harmless(summary(v)))
		for _, f := range v.Findings {
			fmt.Fprintf(&b, "  %-7s %s: %s\n", f.Severity, f.Kind, harmless(f.Message))
			if f.Detail == "" {
				continue
			}
			for line := range strings.SplitSeq(f.Detail, "\n") {
				fmt.Fprintf(&b, "            %s\n", harmless(line))
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func verdictWord(v words.Verdict) string {
	if v.Verdict == words.VerdictOK {
		return "ok"
	}
	return "BROKEN"
}

// snapshots is what the realm server's word means.
var snapshots = map[string]string{
	"hit": "prerendered", "stale": "prerendered, due for renewal", "miss": "not prerendered yet: the bare shell", "bypass": "never prerendered: the bare shell",
	"": "no realm server of Rewarm's: what was prerendered is not compared",
}

func summary(v wire.TakeoverResult) string {
	parts := []string{cmp.Or(snapshots[v.Snapshot], "snapshot "+v.Snapshot)}
	if v.Token != "" {
		parts = append(parts, "release "+string(v.Token))
	}
	if v.Timings.TakeoverMs > 0 {
		parts = append(parts, fmt.Sprintf("taken over after %d ms", v.Timings.TakeoverMs))
	}
	if v.Timings.SettledMs > 0 {
		parts = append(parts, fmt.Sprintf("settled after %d ms", v.Timings.SettledMs))
	}
	parts = append(parts, fmt.Sprintf("layout shift %.2f", v.CLS))
	if v.Difference != nil {
		parts = append(parts, fmt.Sprintf("%.2f %% of the picture differs", 100**v.Difference))
	}
	return strings.Join(parts, "; ")
}

func writeCheckJSON(w io.Writer, checked []wire.TakeoverResult) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(checked)
}

// The parts of a JUnit report that pipelines read: a page is a test case, and
// what breaks it its failure.
type (
	junitSuite struct {
		XMLName  xml.Name    `xml:"testsuite"`
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Cases    []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Class   string        `xml:"classname,attr"`
		Name    string        `xml:"name,attr"`
		Time    string        `xml:"time,attr"` // seconds
		Failure *junitFailure `xml:"failure,omitempty"`
		Out     string        `xml:"system-out,omitempty"`
	}
	junitFailure struct {
		Type    string `xml:"type,attr"`
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
)

func writeCheckJUnit(w io.Writer, checked []wire.TakeoverResult) error {
	suite := junitSuite{Name: "rewarm check", Tests: len(checked)}
	for _, v := range checked {
		c := junitCase{Class: "takeover", Name: v.URL, Time: fmt.Sprintf("%.3f", float64(v.Timings.SettledMs)/1000), Out: summary(v)}
		for _, f := range v.Findings {
			text := fmt.Sprintf("%s: %s\n%s\n", f.Kind, f.Message, f.Detail)
			switch {
			case f.Severity != words.SeverityBreak:
				c.Out += "\n" + text
			case c.Failure == nil:
				suite.Failures++
				c.Failure = &junitFailure{Type: string(f.Kind), Message: f.Message, Text: text}
			default:
				c.Failure.Text += text
			}
		}
		suite.Cases = append(suite.Cases, c)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	encoder := xml.NewEncoder(w)
	encoder.Indent("", "  ")
	if err := encoder.Encode(suite); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}
