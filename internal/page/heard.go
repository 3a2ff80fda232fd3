package page

import (
	"fmt"
	"strings"
	"time"

	"github.com/chromedp/cdproto/cdp/jsonv2"
	"github.com/chromedp/cdproto/runtime"

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
	}
	s.machine.RequestStarted(id, a.kind, now)
}

func (s *state) ended(id string, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.requests, id)
	if s.machine != nil {
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

// threw notes an uncaught exception or an unhandled rejection. The first one
// is the page's error; those that follow are often its consequences.
func (s *state) threw(d *runtime.ExceptionDetails) {
	if d == nil {
		return
	}
	text, stack := d.Text, ""
	if d.Exception != nil {
		switch {
		case d.Exception.Description != "":
			stack = d.Exception.Description
			text, _, _ = strings.Cut(stack, "\n")
		case len(d.Exception.Value) > 0:
			text += " " + plain(d.Exception.Value)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.thrown == nil {
		s.thrown = &words.PageError{Kind: words.PageErrorPage, Title: cut(d.Text), Message: cut(text), Stack: cut(stack)}
	}
	s.line("exception", text)
}

func (s *state) logged(e *runtime.EventConsoleAPICalled) {
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
		default:
			b.WriteString(string(a.UnserializableValue) + string(a.Type))
		}
		if b.Len() > maxText {
			break
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.line(string(e.Type), b.String())
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
