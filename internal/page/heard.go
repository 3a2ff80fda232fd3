package page

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/chromedp/cdproto/cdp/jsonv2"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"

	"github.com/rewarm/rewarm/internal/settle"
	"github.com/rewarm/rewarm/internal/words"
)

func (s *state) loaded(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.machine != nil && s.begun {
		s.machine.Loaded(now)
	}
}

func (s *state) asked(id string, a asked, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.machine == nil || !s.begun {
		return // of the route that is being left
	}
	a.url = cut(a.url)
	if len(s.requests) < maxRequests {
		s.requests[id] = a
		if a.kind == string(network.ResourceTypeDocument) {
			s.frames[a.frame] = id
		}
	}
	bare, _, _ := strings.Cut(a.url, "?")
	s.machine.RequestStarted(settle.Request{ID: id, Type: a.kind, URL: bare}, now)
	if a.worker {
		s.machine.RequestEnded(id, now)
	}
}

func (s *state) ended(id string, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.requests, id)
	if s.machine != nil {
		s.machine.RequestEnded(id, now)
	}
}

// detached ends the request of a frame's document: the frame is gone, or a
// stranger's whose document lives in a process of its own, where nobody hears
// it end.
func (s *state) detached(frame string, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id := s.frames[frame]; id != "" && s.machine != nil {
		s.machine.RequestEnded(id, now)
	}
}

// fails notes a failed request; s.mu is held.
func (s *state) fails(f words.FailedRequest) {
	if len(s.failed) < maxLines {
		f.URL, f.Error = cut(f.URL), cut(f.Error)
		s.failed = append(s.failed, f)
	}
}

// thrown is an uncaught exception or an unhandled rejection.
type thrown struct {
	id    int64
	error words.PageError
}

// threw notes one. The first is the page's error; those that follow are often
// its consequences. What a stranger's script throws is a line of the console:
// a visitor does not notice when a counter breaks.
func (p *Page) threw(d *runtime.ExceptionDetails) {
	text, stack := exceptionText(d), ""
	if d.Exception != nil {
		stack = d.Exception.Description
	}
	s := &p.state
	s.mu.Lock()
	defer s.mu.Unlock()
	s.line("exception", text)
	if p.saysGone(cmp.Or(stack, text)) {
		s.sawSkew(text)
	}
	if len(s.throws) < maxLines && !ofStranger(p.assets.origins, d, stack) {
		s.throws = append(s.throws, thrown{d.ExceptionID, words.PageError{
			Kind: words.PageErrorPage, Title: cut(d.Text), Message: text, Stack: cut(stack)}})
		s.thrown = &s.throws[0].error
	}
}

// revoked takes a rejection back that the page has handled after all.
func (s *state) revoked(id int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.thrown = nil
	s.throws = slices.DeleteFunc(s.throws, func(t thrown) bool { return t.id == id })
	if len(s.throws) > 0 {
		s.thrown = &s.throws[0].error
	}
}

// ofStranger is whether an exception comes of scripts of other origins alone
// than the application's own.
func ofStranger(own map[string]bool, d *runtime.ExceptionDetails, stack string) bool {
	at := []string{d.URL}
	for trace := d.StackTrace; trace != nil; trace = trace.Parent {
		for _, frame := range trace.CallFrames {
			at = append(at, frame.URL)
		}
	}
	stranger := false
	for _, url := range at {
		from := origin(url)
		if own[from] {
			return false
		}
		stranger = stranger || from != ""
	}
	for ours := range own {
		if strings.Contains(stack, ours+"/") {
			return false // thrown again by a stranger
		}
	}
	return stranger
}

// exceptionText is what was thrown, in a line.
func exceptionText(d *runtime.ExceptionDetails) string {
	e := d.Exception
	switch {
	case e == nil:
		return cut(d.Text)
	case e.Description != "":
		text, _, _ := strings.Cut(e.Description, "\n")
		return cut(text)
	case len(e.Value) > 0:
		return cut(d.Text + " " + plain(e.Value))
	}
	return cut(d.Text + " " + cmp.Or(string(e.UnserializableValue), string(e.Type)))
}

func (p *Page) logged(e *runtime.EventConsoleAPICalled) {
	text := consoleText(e)
	s := &p.state
	s.mu.Lock()
	defer s.mu.Unlock()
	s.line(string(e.Type), text)
	if e.Type == "error" && p.saysGone(text) {
		s.sawSkew(text)
	}
}

// consoleText is what was logged, as a console shows it.
func consoleText(e *runtime.EventConsoleAPICalled) string {
	var b strings.Builder
	for i, a := range e.Args {
		if i > 0 {
			b.WriteByte(' ')
		}
		switch {
		case len(a.Value) > 0:
			b.WriteString(cut(plain(a.Value)))
		case a.Description != "":
			b.WriteString(cut(a.Description))
		case a.UnserializableValue != "": // NaN, -0, 1n
			b.WriteString(string(a.UnserializableValue))
		default:
			b.WriteString(string(a.Type))
		}
		if b.Len() > maxText {
			break
		}
	}
	return cut(b.String())
}

// plain is a JSON value as a reader wants it: a string without its quotes.
func plain(v jsonv2.Value) string {
	var text string
	if v.Kind() == '"' && jsonv2.Unmarshal(v, &text, jsonv2.AllowInvalidUTF8(true)) == nil {
		return text
	}
	return string(v)
}

func httpText(status int) string {
	if status == 0 {
		return ""
	}
	return fmt.Sprint(status)
}
