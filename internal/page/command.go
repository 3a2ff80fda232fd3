package page

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/rewarm/rewarm/internal/words"
)

// commandLimit bounds a command's result, in UTF-16 units of its JSON.
const commandLimit = 8 << 20

// commanded is the instrumentation's answer. Only ready, error and result come
// of a command that was started.
type commanded struct {
	State string `json:"s"` // elsewhere, none, ready, error, result
	Value string `json:"v"`
	Title string `json:"t"`
	Text  string `json:"x"`
	Stack string `json:"k"`
}

// command has the application run a command, once. The warm page is used as it
// stands; the application is started anew only for credentials, overrides, or
// a page that is elsewhere. An error that does not wrap ErrUnknown means that
// the command was not started.
func (r *render) command(ctx context.Context) (Result, error) {
	p := r.page
	p.report.Mode = words.ModeTransition
	ready := r.transition && p.mayTransition()
	for range 2 {
		if !ready {
			if failed, err := r.boot(ctx); err != nil || failed != nil {
				return r.commandOutcome(failed), err
			}
			ready = true
		}
		if ctx.Err() != nil {
			if _, err := late(ctx, context.Cause(ctx)); err != nil {
				return Result{}, err
			}
			return r.commandOutcome(notStarted()), nil
		}
		got, err := r.start(ctx)
		if err != nil && errors.Is(err, context.DeadlineExceeded) {
			return r.commandOutcome(&words.PageError{Kind: words.PageErrorTimeout, Title: "Command timeout",
				Message: "the command was started and had not ended when its budget did"}), nil
		}
		if err != nil {
			return Result{}, err
		}
		if got.State != "elsewhere" {
			return r.commandResult(got), nil
		}
		ready = false
	}
	return Result{}, fmt.Errorf("the application at %s went to another origin", r.visit.URL)
}

// boot starts the application at the task's URL. failed says why it is not
// there, within a budget that ended.
func (r *render) boot(ctx context.Context) (failed *words.PageError, err error) {
	p := r.page
	p.state.warming(true)
	defer p.state.warming(false)
	began := time.Now()
	out, err := r.navigate(ctx)
	if err == nil && !out.timedOut && out.navigation == "" {
		out, err = p.settle(ctx, r.soft, "")
	}
	p.report.Go = time.Since(began)
	missing, attested := p.state.warmth()
	switch {
	case err != nil:
		return nil, err
	case out.timedOut:
		return notStarted(), nil
	case out.navigation != "" || missing != "" || !attested:
		return nil, fmt.Errorf("%w: %s %s %s", ErrNotWarm, r.visit.URL, out.navigation, missing)
	}
	return nil, nil
}

func notStarted() *words.PageError {
	return &words.PageError{Kind: words.PageErrorTimeout, Title: "Command timeout",
		Message: "the application was not ready when the budget ended; the command was not started"}
}

// start evaluates the call and waits for its promise. Once it is sent every
// failure but a deadline is ErrUnknown: the page may have begun.
func (r *render) start(ctx context.Context) (commanded, error) {
	p := r.page
	if err := p.session.Err(); err != nil {
		return commanded{}, err
	}
	if err := p.session.CallAll(ctx, p.intercept()...); err != nil { // a command may load a document
		return commanded{}, err
	}
	expression := fmt.Sprintf("window.__rewarm&&__rewarm.io?__rewarm.io.command(%s,%s,%s,%d):{s:'elsewhere'}",
		quote(origin(r.visit.URL)), quote(r.task.Command), quote(string(r.task.Input)), commandLimit)
	began := time.Now()
	var answer evaluated[*commanded]
	err := p.evaluate(ctx, expression, &answer)
	p.report.Settle = time.Since(began)
	switch {
	case err == nil && answer.Result.Value != nil:
		return *answer.Result.Value, nil
	case err == nil:
		return commanded{}, fmt.Errorf("%w: the page gave no answer", ErrUnknown)
	case errors.Is(err, context.DeadlineExceeded) && !errors.Is(ctx.Err(), context.Canceled):
		return commanded{}, err
	}
	return commanded{}, fmt.Errorf("%w: %w", ErrUnknown, err)
}

func (r *render) commandOutcome(e *words.PageError) Result {
	result := Result{Capture: words.Capture{
		Status: words.StatusReady, HTTPStatus: 200, FinalURL: r.visit.URL, SettledBy: words.SettledBySignal, Token: r.page.token,
	}}
	if e == nil {
		return result
	}
	result.Error, result.Status = e, words.StatusError
	if e.Kind == words.PageErrorTimeout {
		result.Status, result.SettledBy = words.StatusUnusable, words.SettledByTimeout
	}
	return result
}

func (r *render) commandResult(got commanded) Result {
	fails := func(title, message string) Result {
		return r.commandOutcome(&words.PageError{Kind: words.PageErrorPage, Title: title, Message: message, Stack: got.Stack})
	}
	switch got.State {
	case "ready":
		result := r.commandOutcome(nil)
		result.JSON = json.RawMessage(got.Value)
		return result
	case "none":
		result := fails("No such command", fmt.Sprintf("the application has no window.prerenderCommands[%q]", cut(r.task.Command)))
		result.SettledBy = words.SettledByAttribute // its own word: the page is as good as before
		return result
	case "result":
		return fails("Command result", "the command ran; its result "+got.Text)
	}
	return fails(got.Title, got.Text)
}
