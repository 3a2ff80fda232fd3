package page

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/rewarm/rewarm/internal/words"
)

// Kind is what a task wants of the page.
type Kind int

// The kinds of task.
const (
	Document   Kind = iota // the captured document
	Screenshot             // a picture of what a visitor would see
	PDF                    // the page as it would be printed
	Module                 // the JSON that the application extracted for the URL
	Command                // that the application runs one of its commands, once
)

// Task is one thing to do on a page.
type Task struct {
	Visit words.Visit
	Kind  Kind
	// Command is the name of the function in window.prerenderCommands, and Input
	// its argument as JSON; empty passes undefined. The visit's URL is where the
	// application is started if the page does not hold it.
	Command string
	Input   json.RawMessage
	// Sign is how long the page may take to give a sign of life, which is asked
	// for before anything else: one that does not is not reusable, and Do gives
	// up on it. The task begins at once all the same, so it must be one that may
	// be done again. 0 asks for none.
	Sign time.Duration
}

// Result is what came of a task. The capture says how it went; it holds a
// document for the kind Document only.
type Result struct {
	words.Capture
	// Data is the picture or the PDF; nil when the page had nothing to show.
	Data        []byte
	ContentType string
	Width       int // of a picture, in its own pixels
	Height      int
	// JSON is the module's or the command's result; nil when there is none.
	JSON   json.RawMessage
	Report RenderReport // where the time went
}

// ErrUnknown is wrapped by the error of a command that was started and whose
// outcome nobody knows. It must not be started again.
var ErrUnknown = errors.New("command outcome unknown")

// pictureReserve is what is kept of a budget for taking a picture when it ends,
// which waits for a frame and for the encoder.
const pictureReserve = 3 * time.Second

func (k Kind) reserve(budget time.Duration) time.Duration {
	switch k {
	case Screenshot, PDF:
		return min(budget/4, pictureReserve)
	case Command:
		return 0 // there is nothing to capture
	}
	return reserve(budget)
}

// wanted is the kind as the page's instrumentation knows it.
func (k Kind) wanted() string {
	switch k {
	case Document:
		return "document"
	case Module:
		return "module"
	}
	return ""
}

// result makes the task's result of what was seen.
func (r *render) result(got *captured, out outcome) Result {
	result := Result{Capture: r.outcome(got, out)}
	if got != nil {
		r.left = got.Residue
	}
	if r.task.Kind != Module || got == nil || result.Status == words.StatusUnusable {
		return result
	}
	broken := func(message string) {
		if result.Status == words.StatusReady {
			result.Status = words.StatusError
			result.Error = &words.PageError{Kind: words.PageErrorPage, Title: "No module result", Message: message}
			result.SettledBy = words.SettledByAttribute // it is the page's own word: it may be asked again
		}
	}
	switch {
	case got.Module.Fault != "":
		broken("the module result " + got.Module.Fault)
	case got.Module.JSON == "" || !json.Valid([]byte(got.Module.JSON)):
		broken("the page set no window.prerenderData and has no [data-prerender-module] pre")
	default:
		result.JSON = json.RawMessage(got.Module.JSON)
	}
	return result
}
