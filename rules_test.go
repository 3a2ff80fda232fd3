package rewarm_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"iter"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// maxLines is the longest that a Go file may be; half of them should be under
// a hundred and fifty.
const maxLines = 600

// hazardTest is the name of a test that closes a numbered hazard: W01 to W26,
// F01 to F16, then what holds.
var hazardTest = regexp.MustCompile(`^Test(W(0[1-9]|1[0-9]|2[0-6])|F(0[1-9]|1[0-6]))_[A-Z][A-Za-z0-9_]+$`)

// hazardLike is what only a test of a hazard is called.
var hazardLike = regexp.MustCompile(`^Test_?[WFwf]_?[0-9]`)

func TestRulesNoFileIsTooLong(t *testing.T) { hold(t, notTooLong) }

func notTooLong(f file) []string {
	if f.lines <= maxLines {
		return nil
	}
	return []string{fmt.Sprintf("%s has %d lines, %d at most: it holds more than one thing", f.name, f.lines, maxLines)}
}

func TestRulesHazardTestsAreNamedAfterTheirHazard(t *testing.T) { hold(t, hazardNames) }

func hazardNames(f file) (broken []string) {
	for _, decl := range f.ast.Decls {
		fn, ok := decl.(*ast.FuncDecl)
		if ok && f.test && hazardLike.MatchString(fn.Name.Name) && !hazardTest.MatchString(fn.Name.Name) {
			broken = append(broken, fmt.Sprintf("%s: %s is no hazard's test: want TestW01_WhatHolds to TestW26_..., or TestF01_... to TestF16_...",
				f.position(fn), fn.Name.Name))
		}
	}
	return broken
}

func TestRulesNothingSleeps(t *testing.T) { hold(t, nothingSleeps) }

// nothingSleeps: a sleep is a guess about someone else's speed, too short on a
// busy machine, too long on an idle one. In a synctest bubble time is fake and
// a sleep exact.
func nothingSleeps(f file) (broken []string) {
	if f.has("testing/synctest") {
		return nil
	}
	for _, use := range f.uses("time", "Sleep") {
		broken = append(broken, f.position(use)+": time.Sleep: wait for the event, or poll its condition under a bound")
	}
	return broken
}

func TestRulesNoTestSkips(t *testing.T) { hold(t, noTestSkips) }

// noTestSkips: a skipped test is green and proves nothing. (rapid's Skip
// discards one drawn case and is another thing.)
func noTestSkips(f file) (broken []string) {
	if !f.test || f.has("pgregory.net/rapid") {
		return nil
	}
	for _, name := range []string{"Skip", "Skipf", "SkipNow"} {
		for _, receiver := range []string{"t", "b", "f", "tb"} {
			for _, use := range f.selects(receiver, name) {
				broken = append(broken, fmt.Sprintf("%s: %s.%s: make the test run everywhere, or leave it out", f.position(use), receiver, name))
			}
		}
	}
	return broken
}

func TestRulesRequestsAreReadInOneWay(t *testing.T) { hold(t, requestsAreReadInOneWay) }

// requestsAreReadInOneWay: encoding/json takes "URL" for "url", and the last of
// two; of a manager and a server that read differently, one judges what the
// other does not do.
func requestsAreReadInOneWay(f file) (broken []string) {
	if f.test || f.dir != "internal/manager" && f.dir != "internal/prerender" {
		return nil
	}
	for _, name := range []string{"Unmarshal", "NewDecoder"} {
		for _, use := range f.uses("encoding/json", name) {
			broken = append(broken, f.position(use)+": json."+name+": read a request with wire.Read, wire.ReadAttributes and wire.Value")
		}
	}
	return broken
}

// A rule that nothing can break holds nothing.
func TestRulesCatchWhatBreaksThem(t *testing.T) {
	for _, test := range []struct {
		rule   func(file) []string
		name   string
		source string
	}{
		{importsGoDownwards, "internal/pool/x.go", `import "github.com/rewarm/rewarm/internal/bus"`},
		{importsGoDownwards, "internal/pool/x.go", `import "github.com/rewarm/rewarm/internal/wire"`},
		{importsGoDownwards, "internal/realm/x.go", `import m "github.com/rewarm/rewarm/internal/manager"`},
		{decisionsArePure, "internal/words/x.go", `import "net/http"`},
		{decisionsArePure, "internal/wire/x.go", `import "sync/atomic"`},
		{decisionsArePure, "internal/pool/x.go", `import "math/rand/v2"`},
		{decisionsArePure, "internal/pool/x.go", `import clock "time"; var f = clock.Now`},
		{noInit, "internal/cli/x.go", `func init() {}`},
		{nothingSleeps, "internal/bus/x_test.go", `import "time"; func f() { time.Sleep(1) }`},
		{noTestSkips, "internal/bus/x_test.go", `func f(t T) { t.Skip("no") }`},
		{requestsAreReadInOneWay, "internal/manager/x.go", `import "encoding/json"; var f = json.Unmarshal`},
		{requestsAreReadInOneWay, "internal/prerender/x.go", `import "encoding/json"; var f = json.NewDecoder`},
		{hazardNames, "internal/bus/x_test.go", `func TestW27_TooHigh(t T) {}`},
		{hazardNames, "internal/bus/x_test.go", `func TestF3_OneDigit(t T) {}`},
		{hazardNames, "internal/bus/x_test.go", `func TestW03(t T) {}`},
		{notTooLong, "internal/bus/x.go", strings.Repeat("\n", maxLines+1)},
	} {
		if broken := test.rule(parse(t, test.name, test.source)); len(broken) != 1 {
			t.Errorf("%s with %q: %d complaints, want one: %q", test.name, test.source, len(broken), broken)
		}
	}
	for _, test := range []struct {
		rule         func(file) []string
		name, source string
	}{
		{importsGoDownwards, "internal/pool/x.go", `import "github.com/rewarm/rewarm/internal/words"`},
		{importsGoDownwards, "internal/pool/x_test.go", `import "github.com/rewarm/rewarm/internal/bus"`},
		{decisionsArePure, "internal/wire/x.go", `import "net/url"; import "time"; var d = time.Second`},
		{decisionsArePure, "internal/bus/x.go", `import "os"`},
		{nothingSleeps, "internal/bus/x_test.go", `import "testing/synctest"; import "time"; func f() { time.Sleep(1) }`},
		{requestsAreReadInOneWay, "internal/prerender/x.go", `import "encoding/json"; var f = json.Marshal`},
		{requestsAreReadInOneWay, "internal/client/x.go", `import "encoding/json"; var f = json.Unmarshal`},
		{hazardNames, "internal/bus/x_test.go", `func TestW03_ServedIsReported(t T) {}; func TestWire(t T) {}`},
	} {
		if broken := test.rule(parse(t, test.name, test.source)); len(broken) != 0 {
			t.Errorf("%s with %q: %q, want no complaint", test.name, test.source, broken)
		}
	}
}

// file is one parsed Go file of the module.
type file struct {
	name  string // from the module's root
	dir   string // "." for the root
	test  bool
	lines int
	ast   *ast.File
	set   *token.FileSet
}

func (f file) position(node ast.Node) string {
	at := f.set.Position(node.Pos())
	return f.name + ":" + strconv.Itoa(at.Line)
}

// imports yields the paths that the file imports, and the names it uses them by.
func (f file) imports() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for _, spec := range f.ast.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				path = spec.Path.Value
			}
			name := path[strings.LastIndex(path, "/")+1:]
			if spec.Name != nil {
				name = spec.Name.Name
			}
			if !yield(path, name) {
				return
			}
		}
	}
}

func (f file) has(path string) bool {
	for imported := range f.imports() {
		if imported == path {
			return true
		}
	}
	return false
}

// uses finds where the file names something of a package it imports.
func (f file) uses(path, name string) []ast.Node {
	for imported, as := range f.imports() {
		if imported == path {
			return f.selects(as, name)
		}
	}
	return nil
}

// selects finds every receiver.name in the file.
func (f file) selects(receiver, name string) (found []ast.Node) {
	ast.Inspect(f.ast, func(node ast.Node) bool {
		if selector, ok := node.(*ast.SelectorExpr); ok && selector.Sel.Name == name {
			if ident, ok := selector.X.(*ast.Ident); ok && ident.Name == receiver {
				found = append(found, selector)
			}
		}
		return true
	})
	return found
}

// packages parses every Go file of the module, by directory. It reads the
// files itself rather than ask `go list`: so files behind build constraints
// are held to the rules too, and the test's cached result ends when one changes.
func packages(t *testing.T) map[string][]file {
	t.Helper()
	found := map[string][]file{}
	err := filepath.WalkDir(".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return enter(name, entry)
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		source, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		f, err := newFile(name, source)
		found[f.dir] = append(found[f.dir], f)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func newFile(name string, source []byte) (file, error) {
	name = filepath.ToSlash(name)
	f := file{name: name, dir: path.Dir(name), test: strings.HasSuffix(name, "_test.go"), set: token.NewFileSet()}
	f.lines = bytes.Count(source, []byte("\n"))
	var err error
	f.ast, err = parser.ParseFile(f.set, name, source, parser.ParseComments|parser.SkipObjectResolution)
	return f, err
}

func parse(t *testing.T, name, source string) file {
	t.Helper()
	f, err := newFile(name, []byte("package x; "+source))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// enter leaves out what the go tool leaves out, and other modules.
func enter(name string, entry fs.DirEntry) error {
	base := entry.Name()
	if name == "." {
		return nil
	}
	if base == "testdata" || base == "node_modules" || base[0] == '.' || base[0] == '_' {
		return fs.SkipDir
	}
	if _, err := os.Stat(filepath.Join(name, "go.mod")); err == nil {
		return fs.SkipDir
	}
	return nil
}

func sortedDirs(found map[string][]file) []string { return slices.Sorted(maps.Keys(found)) }

// hold applies a rule to every file of the module.
func hold(t *testing.T, rule func(file) []string) {
	t.Helper()
	found := packages(t)
	for _, dir := range sortedDirs(found) {
		for _, f := range found[dir] {
			for _, broken := range rule(f) {
				t.Error(broken)
			}
		}
	}
}
