package page

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/rewarm/rewarm/internal/chrome"
	"github.com/rewarm/rewarm/internal/words"
)

// captureLimit bounds a captured document, in UTF-16 units where the page
// measures and in bytes where we do.
const captureLimit = 16 << 20

// captured is what the page's instrumentation gives for a capture.
type captured struct {
	Unquiet bool     `json:"unquiet"`
	Big     int      `json:"big"`
	Fault   string   `json:"-"` // what kept the instrumentation from capturing
	Pre     string   `json:"pre"`
	Head    string   `json:"head"`
	Mid     string   `json:"mid"`
	Body    string   `json:"body"`
	Post    string   `json:"post"`
	URL     string   `json:"url"`
	Title   string   `json:"title"`
	Code    string   `json:"code"`
	Headers []string `json:"headers"`
	Attr    string   `json:"attr"`
	Err     *string  `json:"err"`
	Empty   bool     `json:"empty"`
	Links   []string `json:"links"`
	Residue left     `json:"residue"`
	Told    int64    `json:"told"` // how much the page had said by then
	Module  struct {
		JSON  string `json:"json"`
		Fault string `json:"fault"`
	} `json:"module"`
}

// realmList is the page's realms as a JavaScript array.
func (p *Page) realmList() string {
	list, _ := json.Marshal(p.realms) // strings always marshal
	return string(list)
}

// finish captures. again means that the page went on to another document:
// settling goes on.
func (r *render) finish(ctx context.Context, out outcome) (result Result, again bool, err error) {
	p := r.page
	if out.navigation != "" {
		return r.result(nil, out), false, nil
	}
	if shot := p.state.takeShot(); shot != nil && !out.timedOut {
		result = r.result(shot, out)
		again, err = r.picture(ctx, &result)
		return result, again, err
	}
	got, err := p.capture(ctx, 0, r.task.Kind.wanted())
	switch {
	case err == nil:
		// What was heard before the answer has been handled: does it still hold?
		if !out.timedOut {
			if now, over := p.state.look(time.Now()); !over || now.navigation != "" || now.rejected {
				return result, true, nil
			}
		}
		result = r.result(got, out)
		again, err = r.picture(ctx, &result)
		return result, again && !out.timedOut, err
	case isRemote(err) && !out.timedOut:
		return result, true, nil // a new document came in between
	case isRemote(err):
		return r.result(nil, out), false, nil
	case errors.Is(err, chrome.ErrGone):
		return result, false, err
	}
	out, err = late(ctx, err)
	return r.result(nil, out), false, err
}

// capture asks the page for what is wanted: at once, or with a proof that it is
// quiet. It is nil when the page holds no document of ours.
func (p *Page) capture(ctx context.Context, quiet time.Duration, wanted string) (*captured, error) {
	expression := fmt.Sprintf("window.__rewarm&&__rewarm.io?__rewarm.io.capture(%d,%s,%d,%s):null",
		quiet.Milliseconds(), p.realmList(), captureLimit, quote(wanted))
	var answer evaluated[*captured]
	err := p.evaluate(ctx, expression, &answer)
	if e := answer.ExceptionDetails; e != nil && wanted == Module.wanted() {
		return &captured{Fault: exceptionText(e)}, err
	} else if e != nil {
		return p.captureApart(ctx, wanted)
	}
	return answer.Result.Value, err
}

// prove asks for a capture with a proof of quiet. A page that has none now, for
// it moves or another document came in between, is asked again later.
func (p *Page) prove(ctx context.Context, quiet time.Duration, wanted string) error {
	document := p.state.generation()
	got, err := p.capture(ctx, quiet, wanted)
	if err != nil && !isRemote(err) {
		return err
	}
	if err != nil || got != nil && got.Unquiet {
		got = nil
	}
	p.state.proved(got, document, time.Now())
	return nil
}

// outcome makes the capture of what was seen; got is nil when the page gave no
// document.
func (r *render) outcome(got *captured, out outcome) words.Capture {
	s := &r.page.state
	s.mu.Lock()
	defer s.mu.Unlock()
	c := words.Capture{
		Status: words.StatusReady, HTTPStatus: 200, FinalURL: r.visit.URL, SettledBy: out.decision.By,
		Headers: map[string]string{}, Links: []string{}, Console: append([]words.ConsoleLine{}, s.console...),
		FailedRequests: append([]words.FailedRequest{}, s.failed...),
	}
	if out.timedOut {
		c.SettledBy = words.SettledByTimeout
	}
	if s.attested {
		c.Token = r.page.token
	}
	usable := got != nil && got.Big == 0 && got.Fault == "" && !s.blank && s.begun
	if usable && out.navigation == "" {
		got.fill(&c)
	}
	broken := func(status words.Status, e words.PageError) words.Capture {
		c.Status, c.Error = status, &e
		return c
	}
	switch {
	case out.navigation != "":
		return broken(words.StatusError, words.PageError{Kind: words.PageErrorNavigation, Title: "Navigation failed", Message: out.navigation})
	case s.skew != "":
		return broken(words.StatusError, words.PageError{Kind: words.PageErrorSkew, Title: "A file of the release is gone", Message: s.skew})
	case s.missing != "":
		return broken(words.StatusError, words.PageError{Kind: words.PageErrorNavigation, Title: "A file of the shell did not load", Message: s.missing})
	case got != nil && got.Big > 0 || len(c.HTML) > captureLimit:
		c.HTML, c.Head, c.Body = "", "", ""
		return broken(words.StatusUnusable, words.PageError{Kind: words.PageErrorPage, Title: "Document too large",
			Message: fmt.Sprintf("the document has over %d MiB", captureLimit>>20)})
	case got != nil && got.Fault != "" && !out.timedOut:
		return broken(words.StatusUnusable, words.PageError{Kind: words.PageErrorPage, Title: "The document cannot be read", Message: got.Fault})
	case usable && (got.Attr == "error" || got.Attr == "unusable"):
		c.SettledBy = words.SettledByAttribute
		return broken(words.StatusError, words.PageError{Kind: words.PageErrorPage, Title: "The page says " + got.Attr, Message: got.message(s.thrown)})
	case out.timedOut && usable && !got.Empty:
		return broken(words.StatusPartial, words.PageError{Kind: words.PageErrorTimeout, Title: "Render timeout", Message: "the page had not settled when its budget ended"})
	case out.timedOut || !usable:
		return broken(words.StatusUnusable, words.PageError{Kind: words.PageErrorTimeout, Title: "Render timeout", Message: "the page gave no document in time"})
	case s.thrown != nil && (c.SettledBy == words.SettledByQuiet || c.SettledBy == words.SettledBySelector):
		return broken(words.StatusError, *s.thrown)
	}
	return c
}

// fill puts the document into the capture. Head and Body share HTML's memory.
func (g *captured) fill(c *words.Capture) {
	c.HTML = g.Pre + g.Head + g.Mid + g.Body + g.Post
	at := len(g.Pre)
	c.Head = c.HTML[at : at+len(g.Head)]
	at += len(g.Head) + len(g.Mid)
	c.Body = c.HTML[at : at+len(g.Body)]
	c.FinalURL, c.Title = g.URL, g.Title
	if g.Links != nil {
		c.Links = g.Links
	}
	if code, err := strconv.Atoi(strings.TrimSpace(g.Code)); err == nil && code >= 200 && code <= 599 {
		c.HTTPStatus = code
	}
	for _, line := range g.Headers {
		name, value, ok := strings.Cut(line, ":")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if ok && isToken(name) && len(value) <= 8<<10 && !strings.ContainsFunc(value, isControl) {
			c.Headers[name] = value
		}
	}
}

// message is the page's own error text, else what it threw.
func (g *captured) message(thrown *words.PageError) string {
	switch {
	case g.Err != nil && strings.TrimSpace(*g.Err) != "":
		return strings.TrimSpace(*g.Err)
	case thrown != nil:
		return thrown.Message
	}
	return "the page gave no reason"
}

// isToken is whether a header may have this name (RFC 9110).
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }
