package wire

import (
	"encoding/json"

	"github.com/rewarm/rewarm/internal/words"
)

// ScreenshotResult is the attributes of a screenshot's answer. Width and Height
// are the picture's own, in pixels; Base64 is empty when there is no picture.
type ScreenshotResult struct {
	Status      words.Status     `json:"status"`
	Base64      []byte           `json:"base64"`
	Width       int              `json:"width"`
	Height      int              `json:"height"`
	ContentType string           `json:"contentType"`
	Error       *words.PageError `json:"error,omitempty"`
	Meta        ResultMeta       `json:"meta"`
}

// ModuleResult is the attributes of a module's answer. Result is null when the
// page gave none; Deps is the result's own "deps", as far as it is a list of
// strings.
type ModuleResult struct {
	Status words.Status     `json:"status"`
	Result json.RawMessage  `json:"result"`
	Deps   []string         `json:"deps"`
	Error  *words.PageError `json:"error,omitempty"`
	Meta   ResultMeta       `json:"meta"`
}

// CommandResult is the attributes of a command's answer. CardResultString is
// the result as text, which is what Boxel's clients read.
type CommandResult struct {
	Status           words.Status     `json:"status"`
	Result           json.RawMessage  `json:"result"`
	CardResultString *string          `json:"cardResultString,omitempty"`
	Error            *words.PageError `json:"error,omitempty"`
	Meta             ResultMeta       `json:"meta"`
}

// DepsOf are the strings of a module result's "deps"; none when it has no such
// list.
func DepsOf(result json.RawMessage) []string {
	var module struct {
		Deps []any `json:"deps"`
	}
	deps := []string{}
	if json.Unmarshal(result, &module) == nil {
		for _, dep := range module.Deps {
			if text, ok := dep.(string); ok {
				deps = append(deps, text)
			}
		}
	}
	return deps
}

// CardResultString is a command's result as text: a string as it is, anything
// else as its JSON, nothing for null.
func CardResultString(result json.RawMessage) *string {
	if len(result) == 0 {
		return nil
	}
	var text *string
	if json.Unmarshal(result, &text) != nil {
		raw := string(result)
		return &raw
	}
	return text
}
