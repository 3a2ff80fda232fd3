package cli

import (
	"bytes"
	"cmp"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/rewarm/rewarm/internal/wire"
)

// Most fleets have one realm, and who types a command knows which.
func TestTheOnlyRealmNeedsNoName(t *testing.T) {
	one, two := [][]string{{"http://r"}, {"http://r"}, nil}, [][]string{{"http://s", "http://r"}, {"http://r", "http://r/in"}}
	for _, test := range []struct {
		reported [][]string // by each realm server
		args     string
		code     int
		says     string
	}{
		{one, "status", 0, "Realm    http://r\n"},
		{two, "status", 2, "the fleet has 3 realms; name one with --realm-url: http://r, http://r/in, http://s"},
		{two, "status --realm-url http://s", 0, "Realm    http://s\n"},
		{nil, "status", 1, "no realm server has reported its realms"},
		{two, "http://r/in/page", 0, "Realm    http://r/in\n"},
		{two, "http://nobody/page", 2, "name one"},
		{two, "purge --prefix http://r/index", 0, "0 pages of http://r removed"},
		{one, "purge --all", 2, "name the realm that is to be emptied"},
		{one, "purge --all --dry-run", 0, "0 pages of http://r would be removed"},
	} {
		manager := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var asked wire.Document[wire.IndexRequest]
			_ = json.NewDecoder(r.Body).Decode(&asked)
			switch {
			case r.Method == http.MethodDelete:
				_ = json.NewEncoder(w).Encode(wire.Purged{Realm: r.URL.Query().Get("realm")})
			case r.URL.Path == "/index":
				_ = json.NewEncoder(w).Encode(wire.IndexStatus{Realm: cmp.Or(asked.Data.Attributes.Realm, r.URL.Query().Get("realm"))})
			default:
				var all wire.Releases
				for _, realms := range test.reported {
					all.Reporters = append(all.Reporters, wire.ReporterView{Realms: realms})
				}
				_ = json.NewEncoder(w).Encode(all)
			}
		}))
		var out, said bytes.Buffer
		args := append([]string{"index"}, strings.Fields(test.args+" --manager-url "+manager.URL)...)
		code := Main(t.Context(), args, Streams{Out: &out, Err: &said})
		if code != test.code || !strings.Contains(out.String()+said.String(), test.says) {
			t.Errorf("%s with %q: exit %d, %s%s", test.args, test.reported, code, &out, &said)
		}
		manager.Close()
	}
}

func TestAnIndexOfNamedPagesFailsForThoseOnly(t *testing.T) {
	status := wire.IndexStatus{Realm: "http://r", Failed: 7, Failures: []wire.IndexFailure{{URL: "http://r/x"}, {URL: "http://r/a?b=1&c=2"}}}
	for _, test := range []struct {
		urls []string
		want int
	}{
		{nil, 7},
		{[]string{"http://r/good"}, 0},
		{[]string{"http://r/good", "http://R/a?c=2&b=1#part"}, 1},
		{[]string{"http://r/x", "http://r/x"}, 1},
	} {
		if got := (&indexQueue{URLs: test.urls}).givenUp(status); got != test.want {
			t.Errorf("%q: %d, want %d", test.urls, got, test.want)
		}
	}
	if got := (&indexQueue{}).givenUp(wire.IndexStatus{Failed: 3}); got != 0 {
		t.Errorf("tried again since, and fine: %d", got)
	}
}
