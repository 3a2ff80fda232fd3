package examples

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

const (
	shellName = "index.html"
	// nextSuffix marks a file that is being written beside the one it replaces.
	nextSuffix = ".next"
)

// WriteVanilla deploys a release of [Vanilla] into dir; see [Deploy].
func WriteVanilla(dir, release string) error {
	host, err := Vanilla(release)
	if err != nil {
		return err
	}
	return Deploy(dir, host)
}

// Deploy makes dir hold exactly the files of host, in the order of a careful
// deploy: new files first, then the shell, then the files that host does not
// have are deleted. Each file is renamed into place, and one that is the same
// already is left alone, so a reader gets a file's old bytes or its new ones,
// never half of them. dir is created when it is missing.
func Deploy(dir string, host fs.FS) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("deploy example: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("deploy example: %w", err)
	}
	keep, err := placeAll(root, host)
	if err == nil {
		err = place(root, host, shellName)
	}
	if err == nil {
		err = deleteOthers(root, keep)
	}
	if err = errors.Join(err, root.Close()); err != nil {
		return fmt.Errorf("deploy example into %s: %w", dir, err)
	}
	return nil
}

// placeAll places everything but the shell and returns all names of host.
func placeAll(root *os.Root, host fs.FS) (keep []string, err error) {
	err = fs.WalkDir(host, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		keep = append(keep, name)
		switch {
		case entry.IsDir():
			return root.MkdirAll(filepath.FromSlash(name), 0o755)
		case name == shellName:
			return nil
		}
		return place(root, host, name)
	})
	return keep, err
}

func place(root *os.Root, host fs.FS, name string) error {
	content, err := fs.ReadFile(host, name)
	if err != nil {
		return err
	}
	name = filepath.FromSlash(name)
	if old, err := root.ReadFile(name); err == nil && bytes.Equal(old, content) {
		return nil
	}
	if err := root.WriteFile(name+nextSuffix, content, 0o644); err != nil {
		return err
	}
	return root.Rename(name+nextSuffix, name)
}

// deleteOthers deletes what dir has and keep does not, also what an
// interrupted deploy left.
func deleteOthers(root *os.Root, keep []string) error {
	var others []string
	err := fs.WalkDir(root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || slices.Contains(keep, name) {
			return err
		}
		others = append(others, filepath.FromSlash(name))
		if entry.IsDir() {
			return fs.SkipDir
		}
		return nil
	})
	for _, name := range others {
		err = errors.Join(err, root.RemoveAll(name))
	}
	return err
}
