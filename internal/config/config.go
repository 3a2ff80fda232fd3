// Package config reads rewarm.yaml: a key for each flag, by command, and the
// realms. It names the line of what it refuses, and what to do about it.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/rewarm/rewarm/internal/fault"
)

const (
	// DefaultName is the file that is read from the working directory when no
	// other is named.
	DefaultName = "rewarm.yaml"
	// MaxBytes bounds the file.
	MaxBytes = 1 << 20
	// realmsKey is the section of the realms; everything else is flags.
	realmsKey = "realms"
)

// File is a configuration file that was read and is well formed.
type File struct {
	Realms []Realm // in the order of the file; none if there is no such section
	// Flags are the values of everything else, as they are written, by the names
	// of their flags: "realm-server-max-age".
	Flags map[string]string

	Raw []byte // what it was read from

	lines map[string]int // of Flags
}

// Read reads the file at path and parses it.
func Read(path string) (*File, error) {
	raw, err := load(path)
	if err != nil {
		return nil, err
	}
	return Parse(path, raw)
}

func load(path string) ([]byte, error) {
	opened, err := os.Open(path)
	if err != nil {
		return nil, fault.Wrap(fault.Usage, err, "configuration file")
	}
	defer opened.Close()
	raw, err := io.ReadAll(io.LimitReader(opened, MaxBytes+1))
	if err != nil {
		return nil, fault.Wrap(fault.Usage, err, "configuration file %s", path)
	}
	return raw, nil
}

// Parse reads a file's bytes; name is what errors call it.
func Parse(name string, raw []byte) (*File, error) {
	if len(raw) > MaxBytes {
		return nil, fault.New(fault.Usage, "%s: more than %d bytes", name, MaxBytes)
	}
	f := &File{Raw: raw, Flags: map[string]string{}, lines: map[string]int{}}
	if err := f.read(raw); err != nil {
		var at *lineError
		if errors.As(err, &at) {
			return nil, fault.New(fault.Usage, "%s:%d: %s", name, at.line, at.text)
		}
		return nil, fault.New(fault.Usage, "%s: %s", name, err)
	}
	return f, nil
}

// lineError is what is wrong with a line.
type lineError struct {
	line int
	text string
}

func (e *lineError) Error() string { return fmt.Sprintf("line %d: %s", e.line, e.text) }

func wrong(n *yaml.Node, format string, args ...any) error {
	return &lineError{n.Line, fmt.Sprintf(format, args...)}
}

func (f *File) read(raw []byte) error {
	decoder := yaml.NewDecoder(bytes.NewReader(raw))
	var doc, more yaml.Node
	switch err := decoder.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil // empty, or nothing but comments
	case err != nil:
		return errors.New(strings.TrimPrefix(err.Error(), "yaml: "))
	case decoder.Decode(&more) == nil:
		return wrong(&more, "a second document; there is one in a file")
	}
	top := doc.Content[0]
	if top.Tag == "!!null" {
		return nil
	}
	return eachKey(top, "the file", func(key, value *yaml.Node) error {
		if key.Value == realmsKey {
			return f.readRealms(value)
		}
		return f.readFlags(key.Value, key, value, 0)
	})
}

// maxDepth is how deep flags may be nested: no command's name has more words.
const maxDepth = 8

// readFlags takes in the flags below a key: sections are joined by dashes, as
// the flags' names are.
func (f *File) readFlags(path string, key, value *yaml.Node, depth int) error {
	switch value.Kind {
	case yaml.MappingNode:
		if depth >= maxDepth {
			return wrong(key, "%s: nested too deep", path)
		}
		return eachKey(value, path, func(key, value *yaml.Node) error {
			return f.readFlags(path+"-"+key.Value, key, value, depth+1)
		})
	case yaml.AliasNode:
		return wrong(key, "%s: aliases are not read here; write the value", path)
	}
	if _, twice := f.Flags[path]; twice {
		return wrong(key, "%s is there twice", path)
	}
	written, err := yaml.Marshal(value)
	if err != nil {
		return wrong(key, "%s: %v", path, err)
	}
	f.Flags[path], f.lines[path] = strings.TrimSpace(string(written)), key.Line
	return nil
}

// eachKey calls do for each key of a mapping, each of which may be there once.
func eachKey(n *yaml.Node, what string, do func(key, value *yaml.Node) error) error {
	if n.Kind != yaml.MappingNode {
		return wrong(n, "%s is to have keys, each with a value (key: value)", what)
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if key.Kind != yaml.ScalarNode || key.Tag == "!!merge" {
			return wrong(key, "%s has a key that is no plain word", what)
		}
		if line := seen[key.Value]; line != 0 {
			return wrong(key, "%s is there twice, in line %d too", key.Value, line)
		}
		seen[key.Value] = key.Line
		if err := do(key, n.Content[i+1]); err != nil {
			return err
		}
	}
	return nil
}

// CheckFlags refuses keys that no flag has: what is misspelled would be ignored
// in silence. known are the names of all flags, each with its command's before.
func (f *File) CheckFlags(name string, known map[string]bool) error {
	first, line := "", 0
	for flag, at := range f.lines {
		if !known[flag] && (line == 0 || at < line) {
			first, line = flag, at
		}
	}
	if line == 0 {
		return nil
	}
	hint := "rewarm COMMAND --help lists the flags; the key of one is below its command's name"
	for flag := range known {
		if command, ok := strings.CutSuffix(flag, "-"+first); ok {
			hint = fmt.Sprintf("the flag is a command's: put it below one, such as %s:", command)
		}
	}
	return fault.New(fault.Usage, "%s:%d: unknown key %q; %s", name, line, first, hint)
}
