package takeover

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rewarm/rewarm/internal/skew"
	"github.com/rewarm/rewarm/internal/words"
)

// Where a number begins to be a finding.
const (
	// A layout shift over the first is not "good", over the second "poor": the
	// thresholds of Core Web Vitals.
	shiftWarns, shiftBreaks = 0.1, 0.25
	// flashBreaks is when a blank page is taken for a broken one. A shorter blank
	// is a warning: over a real network it is longer.
	flashBreaks = 500 * time.Millisecond
	// busyFrames of two seconds in which a settled page still changed are more
	// than any clock needs.
	busyFrames = 20
	// maxDocuments that a visit may load: the page, where it redirects to, a
	// service worker's reload.
	maxDocuments = 4
	// maxFindings of one kind; a page in trouble says the same thing often.
	maxFindings = 10
	maxDetail   = 20 // lines
	// maxDetailLine is in bytes: a line can be all of a page's text.
	maxDetailLine = 500
)

// judgement collects findings.
type judgement struct{ findings []words.Finding }

func (j *judgement) add(kind words.FindingKind, breaks bool, detail []string, format string, args ...any) {
	f := words.Finding{Kind: kind, Severity: words.SeverityWarning, Message: fmt.Sprintf(format, args...), Detail: join(detail)}
	if breaks {
		f.Severity = words.SeverityBreak
	}
	same := 0
	for _, known := range j.findings {
		if known == f {
			return
		}
		if known.Kind == kind {
			same++
		}
	}
	if same < maxFindings {
		j.findings = append(j.findings, f)
	}
}

func join(lines []string) string {
	var cut []string
	for _, line := range lines[:min(len(lines), maxDetail)] {
		cut = append(cut, clip(line, maxDetailLine))
	}
	if more := len(lines) - maxDetail; more > 0 {
		cut = append(cut, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(cut, "\n")
}

// Judge says what the evidence means.
func Judge(e Evidence) words.Verdict {
	v := words.Verdict{
		URL: e.URL, FinalURL: e.FinalURL, HTTPStatus: e.HTTPStatus, Token: e.Token, Snapshot: e.Snapshot,
		Verdict: words.VerdictOK, Findings: []words.Finding{}, CLS: cls(e.Shifts),
		Timings: words.TakeoverTimings{
			ResponseMs: e.Response.Milliseconds(), LoadMs: e.Load.Milliseconds(),
			TakeoverMs: e.Takeover.At.Milliseconds(), SettledMs: e.Settled.Milliseconds(),
		},
	}
	var j judgement
	switch {
	case e.Failed != "":
		j.add(words.FindingNavigation, true, nil, "%s", e.Failed)
	case e.Unread && e.readable():
		j.add(words.FindingNavigation, true, nil, "the document is empty, broke off, or is larger than a page may be")
	default:
		j.said(e.Said)
		for _, r := range e.Failures {
			j.failure(r)
		}
		j.content(e)
		j.life(e, v.CLS)
	}
	slices.SortStableFunc(j.findings, func(a, b words.Finding) int { return cmp.Compare(a.Severity, b.Severity) }) // "break" < "warning"
	v.Findings = append(v.Findings, j.findings...)
	if len(j.findings) > 0 && j.findings[0].Severity == words.SeverityBreak {
		v.Verdict = words.VerdictBroken
	}
	return v
}

func (e *Evidence) isPrerendered() bool { return e.Snapshot == "hit" || e.Snapshot == "stale" }

// readable is whether what the page shows could be read, and is what it stays.
func (e *Evidence) readable() bool {
	return !e.Wedged && !e.Crashed && e.Documents <= maxDocuments
}

func (j *judgement) said(all []Said) {
	for _, s := range all {
		var detail []string
		if s.Stack != "" && s.Stack != s.Text {
			detail = strings.Split(s.Stack, "\n")
		}
		about := s.Text + "\n" + s.Stack
		_, gone := skew.Says(about)
		why := hydration(about)
		switch {
		case gone:
			j.add(words.FindingChunk, !s.Stranger, detail, "a part of the bundle is gone: %s", s.Text)
		case why != "":
			j.add(words.FindingHydration, true, detail, "%s", why)
		case s.Exception && s.Stranger:
			j.add(words.FindingException, false, detail, "a stranger's script threw: %s", s.Text)
		case s.Exception:
			j.add(words.FindingException, true, detail, "uncaught: %s", s.Text)
		case s.Warning:
		default:
			j.add(words.FindingConsole, false, detail, "the page logged an error: %s", s.Text)
		}
	}
}

// failure judges a request that got no useful answer. Without a script or a
// style of its own a page is another; without a picture it is the same page.
func (j *judgement) failure(r Request) {
	code := r.Type == "Script" || r.Type == "Stylesheet"
	name := strings.ToLower(r.Type)
	switch {
	case r.Type == "Fetch" || r.Type == "XHR":
		j.add(words.FindingRequest, false, nil, "data was not to be had: %s: %s", r.URL, outcome(r))
	case r.Status == 0 || r.Status >= 400:
		j.add(words.FindingAssetMissing, code && !r.Stranger, nil, "%s was not to be had: %s: %s", name, r.URL, outcome(r))
	default:
		j.add(words.FindingAssetType, code && !r.Stranger, nil, "%s came as %s: %s", name, cmp.Or(r.MIME, "nothing that has a type"), r.URL)
	}
}

func outcome(r Request) string {
	if r.Status != 0 {
		return fmt.Sprintf("answered %d", r.Status)
	}
	return cmp.Or(r.Error, "no answer")
}

// content compares what was prerendered with what the application shows, and
// says what is still missing.
func (j *judgement) content(e Evidence) {
	if !e.readable() {
		return
	}
	prerendered := e.isPrerendered()
	missing := !prerendered // of a bare shell all of it may be
	if prerendered {
		lost, added := differ(e.Before.Lines, e.After.Lines)
		if len(lost) > 0 {
			missing = true
			j.add(words.FindingTextLost, true, lost, "%s of the prerendered text %s gone after the takeover: %q", lines(len(lost)), are(len(lost)), short(lost[0]))
		}
		if len(added) > 0 {
			j.add(words.FindingTextAdded, false, added, "%s %s not prerendered: %q", lines(len(added)), were(len(added)), short(added[0]))
		}
		lost, added = differ(unique(e.Before.Links), unique(e.After.Links))
		if len(lost) > 0 {
			missing = true
			j.add(words.FindingLinksLost, true, lost, "%d prerendered links are gone after the takeover: %s", len(lost), lost[0])
		}
		if len(added) > 0 {
			j.add(words.FindingLinksAdded, false, added, "%d links were not prerendered: %s", len(added), added[0])
		}
	}
	switch {
	case e.Takeover.Left && prerendered:
		missing = true
		j.add(words.FindingNoTakeover, true, nil, "what was prerendered is still there: the application put nothing of its own in its place")
	case !e.Takeover.Seen:
		missing = true
		j.add(words.FindingNoTakeover, true, nil, "the application never touched the page: a visitor sees it, and nothing on it works")
	}
	if len(e.Pending) > 0 {
		var urls []string
		for _, r := range e.Pending {
			urls = append(urls, strings.ToLower(r.Type)+" "+r.URL)
		}
		// What is never answered and never missed is a long poll.
		j.add(words.FindingTimeout, missing, urls, "never arrived: %s", e.Pending[0].URL)
	}
}

// life judges how the page behaved while it took over.
func (j *judgement) life(e Evidence, shift float64) {
	switch {
	case e.Documents > maxDocuments:
		j.add(words.FindingRestless, true, nil, "the page loaded itself again and again: %d documents", e.Documents)
	case e.Crashed:
		j.add(words.FindingTimeout, true, nil, "the page's process ended: it ran out of memory, or crashed")
	case e.Wedged:
		j.add(words.FindingTimeout, true, nil, "the page's thread did not answer: a script runs without an end")
	case e.Load == 0:
		j.add(words.FindingTimeout, true, nil, "the page never finished loading")
	}
	if e.Busy >= busyFrames {
		j.add(words.FindingRestless, true, nil, "the page goes on changing: in %d frames of its last two seconds", e.Busy)
	}
	if gap := flash(e); gap > 0 {
		j.add(words.FindingFlash, gap >= flashBreaks, nil, "most of the prerendered text vanished for %d ms before it came back", gap.Milliseconds())
	}
	if shift > shiftWarns {
		var moved []string
		for _, s := range e.Shifts {
			moved = append(moved, fmt.Sprintf("%.3f after %d ms: %s", s.Value, s.At.Milliseconds(), strings.Join(s.Nodes, ", ")))
		}
		j.add(words.FindingLayoutShift, shift > shiftBreaks, moved, "the layout shifts by %.2f while the page loads (good is at most %.1f)", shift, shiftWarns)
	}
}

// flash is the longest time for which more than half of the prerendered text
// was not on the screen, from the takeover on, before it was again. Text that
// the application takes away before it was ever painted counts too: over a
// slower network it is.
func flash(e Evidence) (longest time.Duration) {
	half := (e.Before.size() + 1) / 2
	if half == 0 || e.Takeover.At == 0 || !e.isPrerendered() {
		return 0
	}
	gone := time.Duration(-1)
	for _, s := range e.Samples {
		switch {
		case s.At < e.Takeover.At:
		case s.Size < half && gone < 0:
			gone = s.At
		case s.Size >= half && gone >= 0:
			longest, gone = max(longest, s.At-gone), -1
		}
	}
	return longest
}

// cls is the cumulative layout shift as Core Web Vitals defines it: the largest
// sum of shifts less than a second apart, within five seconds.
func cls(shifts []Shift) (worst float64) {
	var sum float64
	var first, last time.Duration
	for _, s := range shifts {
		if sum > 0 && (s.At-last >= time.Second || s.At-first >= 5*time.Second) {
			sum = 0
		}
		if sum == 0 {
			first = s.At
		}
		sum, last = sum+s.Value, s.At
		worst = max(worst, sum)
	}
	return worst
}
