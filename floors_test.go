package rewarm_test

import (
	"fmt"
	"go/ast"
	"slices"
	"strings"
	"testing"
)

const modulePath = "github.com/rewarm/rewarm"

// floors says where each package stands. A package imports only floors below
// its own, never one on its own floor: so what decides knows nothing of what
// acts, roles meet over HTTP and not in memory, and any package can be
// understood, and tested, with what lies under it alone.
//
// A new package gets a row here, on the lowest floor that holds what it needs.
var floors = []struct {
	name     string
	pure     bool
	packages []string
}{
	{"words", true, []string{"internal/words", "internal/fault", "internal/skew"}},
	{"decisions", true, []string{
		"internal/shell", "internal/release", "internal/routing", "internal/rollout",
		"internal/admit", "internal/pool", "internal/settle", "internal/wire", "internal/coding", "internal/takeover",
		"internal/index",
	}},
	{"adapters", false, []string{
		"internal/bus", "internal/chrome", "internal/egress", "internal/machine", "internal/web", "internal/observe",
		"examples",
	}},
	{"compounds", false, []string{"internal/ledger", "internal/page", "internal/client"}},
	{"roles", false, []string{
		"internal/manager", "internal/prerender", "internal/realm",
		"internal/worker", "internal/dashboard",
	}},
	{"wiring", false, []string{"internal/config", "internal/app"}},
	{"front", false, []string{"internal/cli", "examples/deploy"}},
	// Nothing may import these; they may import anything.
	{"top", false, []string{".", "cmd/rewarm", "e2e", "bench"}},
}

// impure are the imports that a pure package may not have, with what is below
// them. net/url is not below net here: it only parses.
var impure = map[string]string{
	"os":        "it acts on the machine",
	"net":       "it acts on the network",
	"net/http":  "it acts on the network",
	"sync":      "state is an argument here, so nothing is shared",
	"log/slog":  "a decision is returned, and logged by who carries it out",
	"math/rand": "chance is an argument here, so that a schedule can be replayed",
}

// clocks are the functions of package time that read the clock or wait for it.
var clocks = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTicker", "NewTimer"}

func floorOf(dir string) (number int, ok bool) {
	for i, floor := range floors {
		if slices.Contains(floor.packages, dir) {
			return i, true
		}
	}
	return 0, false
}

func TestFloorsEveryPackageHasOneAndSaysWhatItIsFor(t *testing.T) {
	found := packages(t)
	for _, dir := range sortedDirs(found) {
		if _, ok := floorOf(dir); !ok {
			t.Errorf("%s stands on no floor: give it a row in floors_test.go, on the lowest floor that holds what it needs", dir)
		}
		files := found[dir]
		if !slices.ContainsFunc(files, func(f file) bool { return !f.test && f.ast.Doc != nil }) &&
			slices.ContainsFunc(files, func(f file) bool { return !f.test }) {
			t.Errorf("%s has no package comment: say what it is for, and what it leaves to others, above a package clause", dir)
		}
	}
}

func TestFloorsImportsGoDownwards(t *testing.T) { hold(t, importsGoDownwards) }

func importsGoDownwards(f file) (broken []string) {
	own, ok := floorOf(f.dir)
	if f.test || !ok {
		return nil
	}
	for path := range f.imports() {
		dir, ours := strings.CutPrefix(path, modulePath+"/")
		if !ours {
			continue
		}
		if other, ok := floorOf(dir); ok && other >= own {
			broken = append(broken, fmt.Sprintf("%s, on floor %d (%s), imports %s, on floor %d (%s): imports go downwards only; "+
				"take what you need as an argument, or move what both need below both",
				f.name, own, floors[own].name, dir, other, floors[other].name))
		}
	}
	return broken
}

func TestFloorsDecisionsArePure(t *testing.T) { hold(t, decisionsArePure) }

func decisionsArePure(f file) (broken []string) {
	own, ok := floorOf(f.dir)
	if f.test || !ok || !floors[own].pure {
		return nil
	}
	where := fmt.Sprintf("on the pure floor %d (%s)", own, floors[own].name)
	for path := range f.imports() {
		if why := whyImpure(path); why != "" {
			broken = append(broken, fmt.Sprintf("%s, %s, imports %s: %s", f.name, where, path, why))
		}
	}
	for _, name := range clocks {
		for _, use := range f.uses("time", name) {
			broken = append(broken, fmt.Sprintf("%s: time.%s %s: time is an argument here, or no test could replay a schedule",
				f.position(use), name, where))
		}
	}
	return broken
}

func whyImpure(path string) string {
	for bad, why := range impure {
		if path == bad || bad != "net" && strings.HasPrefix(path, bad+"/") {
			return why
		}
	}
	return ""
}

func TestFloorsNoInit(t *testing.T) { hold(t, noInit) }

// noInit: what an init function fills is state that a test cannot have twice.
func noInit(f file) (broken []string) {
	for _, decl := range f.ast.Decls {
		if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
			broken = append(broken, f.position(fn)+": init runs before anyone can pass it anything; make a constructor of it")
		}
	}
	return broken
}
