package cli

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/rewarm/rewarm/internal/wire"
)

// Most fleets have one realm, and who types a command knows which.
func TestTheOnlyRealmNeedsNoName(t *testing.T) {
	for _, test := range []struct {
		reported [][]string // by each realm server
		code     int
		says     string
	}{
		{[][]string{{"http://r"}, {"http://r"}, nil}, 0, "Realm    http://r\n"},
		{[][]string{{"http://s", "http://r"}, {"http://r"}}, 2, "the fleet has 2 realms; name one with --realm-url: http://r, http://s"},
		{nil, 1, "no realm server has reported its realms"},
	} {
		manager := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/index" {
				_ = json.NewEncoder(w).Encode(wire.IndexStatus{Realm: r.URL.Query().Get("realm")})
				return
			}
			var all wire.Releases
			for _, realms := range test.reported {
				all.Reporters = append(all.Reporters, wire.ReporterView{Realms: realms})
			}
			_ = json.NewEncoder(w).Encode(all)
		}))
		var out, said bytes.Buffer
		code := Main(t.Context(), []string{"index", "status", "--manager-url", manager.URL}, Streams{Out: &out, Err: &said})
		if code != test.code || !strings.Contains(out.String()+said.String(), test.says) {
			t.Errorf("reported %q: exit %d, %s%s", test.reported, code, &out, &said)
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
