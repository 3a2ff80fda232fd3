package cli

import (
	"testing"

	"github.com/rewarm/rewarm/internal/wire"
)

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
