package wire

import (
	"strings"
	"testing"
)

func TestLineage(t *testing.T) {
	for id, want := range map[string]struct {
		root  string
		depth int
	}{
		"":                        {"", 0},
		"abc":                     {"abc", 0},
		"abc--100000000":          {"abc", 1},
		"abc--a0000000f":          {"abc", 10},
		"abc--000000000":          {"abc--000000000", 0},
		"abc--1":                  {"abc--1", 0},
		"--100000000":             {"--100000000", 0},
		"a--100000000--20000000f": {"a--100000000", 2},
		strings.Repeat("a", 64):   {strings.Repeat("a", 53), 0},
	} {
		if root, depth := Lineage(id); root != want.root || depth != want.depth {
			t.Errorf("%q: %q %d, want %+v", id, root, depth, want)
		}
	}
}

// A descendant's id is an id, of the same root, one deeper, however deep.
func TestDescendantsKeepTheirRoot(t *testing.T) {
	for _, first := range []string{"a", "-", "6f1c9f0e-0000-4000-8000-000000000000", strings.Repeat("b", 64)} {
		root, _ := Lineage(first)
		id := first
		for n := 1; n < 20; n++ {
			id = Descendant(id, 0xfffffff0+uint32(n))
			gotRoot, depth := Lineage(id)
			if RequestID(id) != id || gotRoot != root || depth != min(n, 15) {
				t.Fatalf("descendant %d of %q: %q, root %q, depth %d", n, first, id, gotRoot, depth)
			}
		}
	}
}
