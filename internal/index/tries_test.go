package index

import "testing"

func TestARenderThatAnotherWorkerLeftOpenCountsAsFailed(t *testing.T) {
	for _, test := range []struct {
		before, want Tries
		alone, over  bool
	}{
		{Tries{}, Tries{By: "w"}, false, false},
		{Tries{Renders: 2}, Tries{Renders: 2, By: "w"}, false, false},
		{Tries{By: "other"}, Tries{Renders: 1, Lost: 1, By: "w"}, true, false},
		{Tries{By: "w"}, Tries{By: "w"}, false, false},
		{Tries{Renders: 1, Lost: 1}, Tries{Renders: 1, Lost: 1, By: "w"}, true, false},
		{Tries{Renders: MaxRenders - 2, Lost: 1, By: "other"}, Tries{Renders: MaxRenders - 1, Lost: 2, By: "w"}, true, false},
		{Tries{Renders: MaxRenders - 1, By: "other"}, Tries{Renders: MaxRenders, Lost: 1, By: "w"}, true, true},
	} {
		got := test.before.Begin("w")
		if got != test.want || got.Alone() != test.alone || got.Over() != test.over {
			t.Errorf("%+v: %+v, alone %t, over %t", test.before, got, got.Alone(), got.Over())
		}
	}
}

func TestARenderThatEndsIsCountedOnce(t *testing.T) {
	for _, test := range []struct {
		before Tries
		failed bool
		want   Tries
	}{
		{Tries{By: "w"}, false, Tries{}},
		{Tries{By: "w"}, true, Tries{Renders: 1}},
		{Tries{Renders: 2, Lost: 1, By: "w"}, true, Tries{Renders: 3, Lost: 1}},
		{Tries{}, true, Tries{Renders: 1}},
		{Tries{By: "other"}, false, Tries{By: "other"}}, // it is that one's to end
	} {
		if got := test.before.End("w", test.failed); got != test.want {
			t.Errorf("%+v, failed %t: %+v", test.before, test.failed, got)
		}
	}
}

// However the lost renders mix with those that fail, the first one, of which
// nothing is recorded, is the only one beyond the bound.
func TestNoPageIsRenderedForEver(t *testing.T) {
	for lost := range 1 << MaxRenders {
		var tries Tries
		renders := 1 // lost unseen
		for n := range 2 * MaxRenders {
			if tries = tries.Begin(string(rune('a' + n))); tries.Over() {
				break
			}
			if renders++; lost&(1<<(n%MaxRenders)) == 0 {
				if tries = tries.End(tries.By, true); tries.Over() {
					break
				}
			}
		}
		if renders != MaxRenders+1 {
			t.Errorf("losses %b: %d renders", lost, renders)
		}
	}
}
