package page

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/rewarm/rewarm/internal/words"
)

// corpusPages is how many pages of the corpus are open at a time. Each keeps a
// renderer busy; with more than cores, budgets would measure the machine.
const corpusPages = 2

// corpusBudget is what a page has that names no budget: it ends only pages
// that come out wrong.
const corpusBudget = 20 * time.Second

// expectation is the header of a page of the corpus: lines of "key: value",
// and lines that begin with # and say why. Keys that may stand more than once
// are lists.
type expectation struct {
	status   words.Status
	by       words.SettledBy     // of a page that is ready
	kind     words.PageErrorKind // of one that is not
	message  string              // is in the error's message
	http     int
	title    string
	url      string // ends the final URL
	html     string // "empty": there must be none
	token    string // "none": the document is not ours
	waitFor  string // the visit's selector
	shell    string // the header Content-Type of the shell
	budget   time.Duration
	reusable bool     // afterwards; ready pages are, others not, unless it says so
	again    bool     // render it twice: what it leaves behind must not matter
	has, not []string // in the HTML
	failed   []string // "status type url", in a failed request
	console  []string // in a line of the console
	header   []string // "Name: value"
	escaped  bool     // files are written with \xHH, \r and \\
}

// parse reads the header; an unknown key is an error, or a typo would expect
// nothing.
func (e *expectation) parse(header string) error {
	e.http, e.budget, e.shell = 200, corpusBudget, "text/html; charset=utf-8"
	reusable := ""
	for line := range strings.Lines(header) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		var err error
		switch key {
		case "want":
			status, by, _ := strings.Cut(value, " ")
			if e.status = words.Status(status); e.status == words.StatusReady {
				e.by = words.SettledBy(by)
			} else {
				e.kind = words.PageErrorKind(by)
			}
		case "message":
			e.message = value
		case "http":
			e.http, err = strconv.Atoi(value)
		case "title":
			e.title = value
		case "url":
			e.url = value
		case "html":
			e.html = value
		case "token":
			e.token = value
		case "wait for":
			e.waitFor = value
		case "shell":
			e.shell = value
		case "budget":
			e.budget, err = time.ParseDuration(value)
		case "reusable":
			reusable = value
		case "again":
			e.again, err = strconv.ParseBool(value)
		case "has":
			e.has = append(e.has, value)
		case "not":
			e.not = append(e.not, value)
		case "failed":
			e.failed = append(e.failed, value)
		case "console":
			e.console = append(e.console, value)
		case "header":
			e.header = append(e.header, value)
		case "escaped":
			e.escaped, err = strconv.ParseBool(value)
		default:
			return fmt.Errorf("unknown key %q", key)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	e.reusable = e.status == words.StatusReady
	if reusable != "" {
		e.reusable = reusable == "true"
	}
	if e.status == "" {
		return fmt.Errorf("no line \"want: status by\"")
	}
	return nil
}

// differs says what is not as expected; p is the page afterwards.
func (e *expectation) differs(c words.Capture, p *Page) (all []string) {
	add := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	kind, message := words.PageErrorKind(""), ""
	if c.Error != nil {
		kind, message = c.Error.Kind, c.Error.Message
	}
	if c.Status != e.status || kind != e.kind || e.by != "" && c.SettledBy != e.by {
		add("%s by %q, error %q; want %s by %q, error %q", c.Status, c.SettledBy, kind, e.status, e.by, e.kind)
	}
	if !strings.Contains(message, e.message) {
		add("message %q; want %q in it", message, e.message)
	}
	if c.HTTPStatus != e.http {
		add("status code %d; want %d", c.HTTPStatus, e.http)
	}
	if e.title != "" && c.Title != e.title {
		add("title %q; want %q", c.Title, e.title)
	}
	if !strings.HasSuffix(c.FinalURL, e.url) {
		add("final URL %q; want %q at its end", c.FinalURL, e.url)
	}
	if (e.html == "empty") != (c.HTML == "") && (e.html != "" || e.status == words.StatusReady) {
		add("HTML of %d bytes; want it %s", len(c.HTML), e.html)
	}
	if own := c.Token == p.Token(); own == (e.token == "none") && e.status == words.StatusReady {
		add("token %q; want %s", c.Token, e.token)
	}
	if p.Reusable() != e.reusable {
		add("reusable: %t; want %t", p.Reusable(), e.reusable)
	}
	for _, text := range e.has {
		if !strings.Contains(c.HTML, text) {
			add("%q is not in the HTML", text)
		}
	}
	for _, text := range e.not {
		if strings.Contains(c.HTML, text) {
			add("%q is in the HTML", text)
		}
	}
	for _, want := range e.failed {
		if got := fmt.Sprint(c.FailedRequests); !strings.Contains(failures(c), want) {
			add("failed requests %s; want %q", got, want)
		}
	}
	for _, want := range e.console {
		if got := fmt.Sprint(c.Console); !strings.Contains(got, want) {
			add("console %.300s; want %q", got, want)
		}
	}
	for _, line := range e.header {
		name, value, _ := strings.Cut(line, ": ")
		if c.Headers[name] != value {
			add("header %s: %q; want %q", name, c.Headers[name], value)
		}
	}
	return all
}

func failures(c words.Capture) string {
	var b strings.Builder
	for _, f := range c.FailedRequests {
		fmt.Fprintf(&b, "%d %s %s %s\n", f.Status, f.Type, f.URL, f.Error)
	}
	return b.String()
}

// TestCorpus renders every page of testdata/corpus, one habit of the web each,
// and holds its outcome against what its header expects.
func TestCorpus(t *testing.T) {
	names, err := fs.Glob(os.DirFS("testdata/corpus"), "*.txtar")
	if err != nil || len(names) < 60 {
		t.Fatalf("%d pages, %v", len(names), err)
	}
	server := newCorpusServer(t)
	room := make(chan struct{}, corpusPages)
	for _, file := range names {
		name := strings.TrimSuffix(file, ".txtar")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			room <- struct{}{}
			defer func() { <-room }()
			server.try(t, name)
		})
	}
}

// try renders one page of the corpus. One that may be used again must answer.
func (s *corpusServer) try(t *testing.T, name string) {
	archive, err := txtar.ParseFile(path.Join("testdata/corpus", name+".txtar"))
	if err != nil {
		t.Fatal(err)
	}
	var want expectation
	if err := want.parse(string(archive.Comment)); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	files := map[string][]byte{}
	for _, f := range archive.Files {
		data := bytes.ReplaceAll(f.Data, []byte("$STRANGER"), []byte(s.url(name+".stranger")))
		if want.escaped {
			data = unescape(data)
		}
		files["/"+f.Name] = data
	}
	shell := files["/index.html"]
	s.put(name, files)
	p := openWith(t, OpenOptions{
		Shell:  words.Shell{Token: words.TokenOf(shell), Bytes: shell, Header: map[string]string{"Content-Type": want.shell}},
		Realms: []string{s.url(name) + "/"},
	})
	for _, turn := range []string{"first", "second"} {
		visit := words.Visit{URL: s.url(name) + "/page"}
		visit.Options.TimeoutMs, visit.Options.WaitFor = int(want.budget.Milliseconds()), want.waitFor
		c, err := p.Render(t.Context(), visit)
		if err != nil {
			t.Fatalf("%s time: %v", turn, err)
		}
		for _, text := range want.differs(c, p) {
			t.Errorf("%s time: %s", turn, text)
		}
		if t.Failed() {
			t.Logf("%s; failed requests: %s; console: %.500v", brief(c), failures(c), c.Console)
		}
		if !p.Reusable() || t.Failed() {
			return
		}
		if err := p.Probe(limited(t, testLimit)); err != nil {
			t.Fatal(err)
		}
		if !want.again {
			return
		}
	}
}

var escapes = regexp.MustCompile(`\\(x[0-9a-f]{2}|r|\\)`)

func unescape(data []byte) []byte {
	return escapes.ReplaceAllFunc(data, func(found []byte) []byte {
		switch found[1] {
		case 'r':
			return []byte{'\r'}
		case 'x':
			n, _ := strconv.ParseUint(string(found[2:]), 16, 8) // the pattern lets nothing else through
			return []byte{byte(n)}
		}
		return []byte{'\\'}
	})
}
