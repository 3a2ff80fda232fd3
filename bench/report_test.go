package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"
)

// BenchmarkFigures measures everything once and writes the report: its own
// rounds are what is repeated, so it is run with -benchtime 1x.
func BenchmarkFigures(b *testing.B) {
	r := newReport()
	rewarm := binary(b)
	for b.Loop() {
		// Each part in its own benchmark: what it started is gone before the next.
		b.Run("render", func(b *testing.B) {
			measureRenders(b, startFleet(b, rewarm, vanilla(), 4), startFleet(b, rewarm, react(), 4), r)
		})
		b.Run("overload", func(b *testing.B) { measureOverload(b, startFleet(b, rewarm, vanilla(), 4), r) })
		b.Run("recycle", func(b *testing.B) { measureRecycle(b, startFleet(b, rewarm, vanilla(), 4), r) })
		b.Run("manager", func(b *testing.B) { measureManager(b, rewarm, r) })
		b.Run("realm", func(b *testing.B) { measureRealm(b, startFleet(b, rewarm, vanilla(), 1), r) })
		b.Run("index", func(b *testing.B) { measureIndex(b, rewarm, r) })
	}
	// Now: the run has installed what was missing.
	r.ask("Node", "node", "--version")
	r.ask("nginx", "nginx", "-v")
	r.ask("Linux", "uname", "-r")
	text := r.markdown()
	fmt.Print("\n", text)
	name := filepath.Join("results", time.Now().UTC().Format(time.DateOnly)+"-"+machineKind()+".md")
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		b.Fatal(err)
	}
	for _, bar := range r.bars {
		if !bar.met() {
			b.Errorf("missed: %s", bar)
		}
	}
}

// report is what a run found.
type report struct {
	began    time.Time
	load     string // the machine's load average then
	tables   []*table
	notes    []string
	versions []string
	bars     []bar
}

func newReport() *report {
	r := &report{began: time.Now(), load: loadAverage()}
	r.version("Go", strings.TrimPrefix(runtime.Version(), "go"))
	r.ask("rewarm", "git", "rev-parse", "--short", "HEAD")
	r.version("prerender", prerenderVersion)
	r.version("puppeteer-core", puppeteerVersion)
	return r
}

// ask asks a program for a version; one that is not there has none.
func (r *report) ask(name, command string, args ...string) {
	if out, err := exec.Command(command, args...).CombinedOutput(); err == nil {
		r.version(name, strings.TrimPrefix(strings.TrimSpace(string(out)), "nginx version: nginx/"))
	}
}

func (r *report) version(name, version string) { r.versions = append(r.versions, name+" "+version) }

func (r *report) note(format string, args ...any) {
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
}

// skip names a peer that could not be had.
func (r *report) skip(name string, err error) {
	r.note("SKIPPED: %s: %.300s", name, strings.Join(strings.Fields(err.Error()), " "))
}

type table struct {
	title string
	rows  [][]string // the first is the head
}

func (r *report) table(title string, head ...string) *table {
	t := &table{title: title, rows: [][]string{head}}
	r.tables = append(r.tables, t)
	return t
}

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "## %s\n\n", t.title)
	for i, row := range t.rows {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(row, " | "))
		if i == 0 {
			b.WriteString("|" + strings.Repeat("---|", len(row)) + "\n")
		}
	}
	return b.String() + "\n"
}

// spread is a median with minimum and maximum.
func spread(of []float64) string {
	return fmt.Sprintf("%.0f (%.0f to %.0f)", median(of), quantile(of, 0), quantile(of, 1))
}

// fineSpread is spread for what is of the order of one.
func fineSpread(of []float64) string {
	return fmt.Sprintf("%.2f (%.2f to %.2f)", median(of), quantile(of, 0), quantile(of, 1))
}

// bound is on which side of a bar is good.
type bound string

const (
	atLeast bound = "at least"
	atMost  bound = "at most"
)

// bar is what a figure should be.
type bar struct {
	what     string
	got, bar float64
	side     bound
}

func (r *report) bar(what string, got, want float64, side bound) {
	r.bars = append(r.bars, bar{what, got, want, side})
}

func (b bar) met() bool {
	if b.side == atLeast {
		return b.got >= b.bar
	}
	return b.got <= b.bar
}

func (b bar) String() string {
	return fmt.Sprintf("%s: %.2f, want %s %g", b.what, b.got, b.side, b.bar)
}

func (r *report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Figures of %s, %s\n\n", r.began.UTC().Format("2006-01-02 15:04 UTC"), machineKind())
	fmt.Fprintf(&b, "%s; load average at the start %s, at the end %s; took %s.\n", machine(), r.load, loadAverage(), time.Since(r.began).Round(time.Second))
	fmt.Fprintf(&b, "%s.\n\nMedians of %d rounds, in turn, with minimum and maximum; p99 over all rounds. Ratios in one run count.\n\n",
		strings.Join(r.versions, ", "), rounds)
	bars := &table{title: "Bars", rows: [][]string{{"", "measured", "bar", ""}}}
	for _, bar := range r.bars {
		met := "met"
		if !bar.met() {
			met = "**missed**"
		}
		bars.row(bar.what, fmt.Sprintf("%.2f", bar.got), fmt.Sprintf("%s %g", bar.side, bar.bar), met)
	}
	b.WriteString(bars.markdown())
	for _, t := range r.tables {
		b.WriteString(t.markdown())
	}
	for _, note := range r.notes {
		fmt.Fprintf(&b, "- %s\n", note)
	}
	return b.String()
}

// machineKind names machines that can be compared.
func machineKind() string {
	return fmt.Sprintf("%s-%s-%dcpu", runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
}

func machine() string {
	read := func(name, pattern string) string {
		raw, _ := os.ReadFile(name)
		if found := regexp.MustCompile(pattern).FindSubmatch(raw); found != nil {
			return strings.TrimSpace(string(found[1]))
		}
		return "unknown"
	}
	return fmt.Sprintf("%d x %s, %s of memory", runtime.NumCPU(), read("/proc/cpuinfo", `model name\s*:(.*)`), read("/proc/meminfo", `MemTotal:(.*)`))
}

func loadAverage() string {
	raw, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Fields(string(raw))[0]
}
