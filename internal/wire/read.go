package wire

import (
	"encoding/json"
	"errors"
	"unicode/utf8"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/rewarm/rewarm/internal/fault"
)

// Attributes are the members of a JSON object by their exact names, undecoded:
// what is not known passes through untouched, whatever its type.
type Attributes map[string]json.RawMessage

// Read decodes a request's body into v. Every role reads requests with it, and
// so all understand the same: of a manager that took "url" and a server that
// took "URL", or another one of two, the first would judge what the second does
// not do. Names count as they are spelled, unknown ones are ignored, at any
// depth a name that is there twice is refused, and so are bytes that are not
// UTF-8. Half of a surrogate pair, as JavaScript writes a text that was cut, is
// U+FFFD. An error is [fault.Invalid] and says what to do.
func Read(body []byte, v any) error {
	if !utf8.Valid(body) {
		return fault.New(fault.Invalid, "Invalid JSON body: it is not UTF-8; send it as UTF-8")
	}
	err := Decode(body, v)
	if err == nil {
		return nil
	}
	if twice, ok := errors.AsType[*jsontext.SyntacticError](err); ok && errors.Is(err, jsontext.ErrDuplicateName) {
		return fault.Wrap(fault.Invalid, err, "Invalid JSON body: %.200q is there twice; send each name once", string(twice.JSONPointer))
	}
	return fault.Wrap(fault.Invalid, err, "Invalid JSON body")
}

// ReadAttributes reads the data.attributes of a request's body as [Read] does.
// They are empty when they, or what they are in, are absent or of another type:
// the checks of what has to be there answer that.
func ReadAttributes(body []byte) (Attributes, error) {
	var doc struct {
		Data struct {
			Attributes Attributes `json:"attributes"`
		} `json:"data"`
	}
	if Read(body, &doc) == nil {
		return doc.Data.Attributes, nil
	}
	var whatever json.RawMessage
	return nil, Read(body, &whatever)
}

// Value decodes one value of what was read; ok is false when it is absent, null
// or of another type.
func Value[T any](raw json.RawMessage) (v T, ok bool) {
	if len(raw) == 0 || string(raw) == "null" {
		return v, false
	}
	if err := Decode(raw, &v); err != nil {
		var zero T
		return zero, false
	}
	return v, true
}

// Decode decodes what a peer or a page says, without the errors of [Read]: names
// count as they are spelled, bytes that are not UTF-8 are U+FFFD.
func Decode(raw []byte, v any) error {
	return jsonv2.Unmarshal(raw, v, jsontext.AllowInvalidUTF8(true))
}
