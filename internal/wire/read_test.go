package wire_test

import (
	"strings"
	"testing"

	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/wire"
)

// All requests are read alike: a case is tried with every parser, inside the
// attributes that this one needs.
func TestRequestsAreReadInOneWay(t *testing.T) {
	parsers := map[string]func([]byte) (string, error){
		"attributes": func(body []byte) (string, error) {
			a, err := wire.ReadAttributes(body)
			url, _ := wire.Value[string](a["url"])
			return url, err
		},
		"visit": func(body []byte) (string, error) {
			r, err := wire.ParseVisitRequest(body)
			return r.URL, err
		},
		"takeover": func(body []byte) (string, error) {
			r, err := wire.ParseTakeoverRequest(body)
			return r.URL, err
		},
		"heartbeat": func(body []byte) (string, error) {
			h, err := wire.ParseHeartbeat(body)
			return h.URL, err
		},
		"report": func(body []byte) (string, error) {
			r, err := wire.ParseReport(body)
			return strings.Join(r.Realms, " "), err
		},
		"index": func(body []byte) (string, error) {
			var doc wire.Document[wire.IndexRequest]
			err := wire.Read(body, &doc)
			return doc.Data.Attributes.Realm, err
		},
	}
	const needed = `"url":"http://a","hash":"h","realm":"http://a","realms":["http://a"]`
	with := func(more string) string { return `{"data":{"attributes":{` + needed + more + `}}}` }
	for name, c := range map[string]struct{ body, message string }{
		"as it is":                  {with(``), ""},
		"in capitals beside":        {with(`,"URL":"http://b","Hash":"i","Realm":"http://b","REALMS":["http://b"]`), ""},
		"an envelope in capitals":   {`{"data":{"attributes":{` + needed + `},"Attributes":{"url":"http://b","realm":"http://b"}},"DATA":{"attributes":{"url":"http://b"}}}`, ""},
		"unknown members":           {`{"jsonapi":{"version":"1.1"},"data":{"type":"x","lid":1,"attributes":{` + needed + `,"card":{"a":[1,{"b":null}]}}}}`, ""},
		"half of a surrogate pair":  {with(`,"card":"cut \ud83d"`), ""},
		"one name in two objects":   {with(`,"card":{"url":1},"cards":[{"url":1},{"url":2}]`), ""},
		"a name twice":              {with(`,"url":"http://b"`), `Invalid JSON body: "/data/attributes/url" is there twice; send each name once`},
		"a name twice, the same":    {with(`,"url":"http://a"`), `Invalid JSON body: "/data/attributes/url" is there twice; send each name once`},
		"a name twice, escaped":     {with(`,"\u0075rl":"http://b"`), `Invalid JSON body: "/data/attributes/url" is there twice; send each name once`},
		"an unknown name twice":     {with(`,"card":[{"x":1,"x":2}]`), `Invalid JSON body: "/data/attributes/card/0/x" is there twice; send each name once`},
		"attributes twice":          {`{"data":{"attributes":{` + needed + `},"attributes":{}}}`, `Invalid JSON body: "/data/attributes" is there twice; send each name once`},
		"data twice":                {`{"data":{"attributes":{` + needed + `}},"data":{}}`, `Invalid JSON body: "/data" is there twice; send each name once`},
		"a long name twice":         {with(strings.Repeat(`,"`+strings.Repeat("n", 4096)+`":1`, 2)), `Invalid JSON body: "/data/attributes/` + strings.Repeat("n", 183) + `" is there twice; send each name once`},
		"a byte that is no UTF-8":   {with(`,"card":"` + "\xff" + `"`), "Invalid JSON body: it is not UTF-8; send it as UTF-8"},
		"a name that is no UTF-8":   {with(`,"` + "\xc3\x28" + `":1`), "Invalid JSON body: it is not UTF-8; send it as UTF-8"},
		"a surrogate as UTF-8":      {with(`,"card":"` + "\xed\xa0\x80" + `"`), "Invalid JSON body: it is not UTF-8; send it as UTF-8"},
		"two documents":             {with(``) + with(``), "Invalid JSON body"},
		"a comma too many":          {with(`,`), "Invalid JSON body"},
		"a mark of the byte order":  {"\ufeff" + with(``), "Invalid JSON body"},
		"nothing":                   {"", "Invalid JSON body"},
		"a character that is no \\": {with(`,"card":"\x"`), "Invalid JSON body"},
	} {
		for parser, parse := range parsers {
			url, err := parse([]byte(c.body))
			switch {
			case c.message == "" && (err != nil || url != "http://a"):
				t.Errorf("%s, %s: %q, %v", name, parser, url, err)
			case c.message != "" && (!fault.Is(err, fault.Invalid) || fault.From(err).Message != c.message):
				t.Errorf("%s, %s: %q, %v; want %s", name, parser, url, err, c.message)
			}
		}
	}
}

func TestAttributesOfAnotherTypeAreNone(t *testing.T) {
	for _, body := range []string{`null`, `7`, `[]`, `{}`, `{"data":null}`, `{"data":[{"attributes":{"url":"x"}}]}`, `{"data":{"attributes":"url"}}`, `{"data":{"attributes":null}}`} {
		if a, err := wire.ReadAttributes([]byte(body)); err != nil || len(a) != 0 {
			t.Errorf("%s: %v, %v", body, a, err)
		}
	}
	a, err := wire.ReadAttributes([]byte(`{"data":{"attributes":{"n":7,"f":1.5,"null":null,"list":["a"],"o":{"N":1}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	n, isInt := wire.Value[int](a["n"])
	_, isText := wire.Value[string](a["n"])
	_, whole := wire.Value[int](a["f"])
	_, null := wire.Value[string](a["null"])
	_, absent := wire.Value[string](a["absent"])
	list, isList := wire.Value[[]string](a["list"])
	o, isStruct := wire.Value[struct {
		N int `json:"n"`
	}](a["o"])
	if n != 7 || !isInt || isText || whole || null || absent || len(list) != 1 || !isList || o.N != 0 || !isStruct {
		t.Error(n, isInt, isText, whole, null, absent, list, isList, o, isStruct)
	}
}
