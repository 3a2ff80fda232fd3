package realm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/shell"
)

// directory is a host that is a directory of built files.
type directory struct {
	dir      string // "" takes embedded
	embedded fs.FS
	realmURL string
	depot    *depot
}

func (d *directory) collect(_ context.Context, _ *releaseSet) (collected, error) {
	host, done, err := d.open()
	if err != nil {
		return collected{}, err
	}
	defer done()
	listed, err := walk(host)
	if err != nil {
		return collected{}, err
	}
	files, err := d.copyAll(host, listed)
	if err != nil {
		return collected{}, err
	}
	index, ok := files[indexName]
	if !ok {
		return collected{}, refuse("there is no index.html in it")
	}
	if index.Size > maxShellBytes {
		return collected{}, refuse("index.html has %d bytes, more than %d", index.Size, maxShellBytes)
	}
	bytes, err := d.depot.read(index)
	if err != nil {
		return collected{}, err
	}
	named := shell.Assets(bytes, d.realmURL)
	c := collected{shell: bytes, files: files, named: named, dirs: dirsOf(maps.Keys(files))}
	return c, untorn(host, listed, files, append([]string{indexName}, named...))
}

// open opens the host anew: a deploy may have replaced the directory itself.
// Nothing outside of it can be reached through it.
func (d *directory) open() (fs.FS, func(), error) {
	if d.dir == "" {
		return d.embedded, func() {}, nil
	}
	root, err := os.OpenRoot(d.dir)
	if err != nil {
		return nil, nil, refuse("the host directory %s cannot be opened: %v", d.dir, err)
	}
	return root.FS(), func() { _ = root.Close() }, nil
}

// stamp is how a file looked before it was copied.
type stamp struct {
	size     int64
	modified time.Time
}

// walk lists the host's files. Hidden files are no part of a release (.git, .env),
// .well-known is.
func walk(host fs.FS) (map[string]stamp, error) {
	found := map[string]stamp{}
	var total int64
	err := fs.WalkDir(host, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return refuse("%s cannot be read: %v", name, err)
		}
		if base := path.Base(name); name != "." && strings.HasPrefix(base, ".") && base != ".well-known" {
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if entry.IsDir() {
			return nil
		}
		info, err := fs.Stat(host, name) // follows links, but never out of the host
		switch {
		case err != nil && entry.Type()&fs.ModeSymlink != 0:
			return refuse("%s is a link that leads out of the host directory or nowhere", name)
		case err != nil:
			return refuse("%s cannot be read: %v", name, err)
		case !info.Mode().IsRegular():
			return refuse("%s is no regular file", name)
		}
		found[name] = stamp{info.Size(), info.ModTime()}
		total += info.Size()
		if len(found) > maxReleaseFiles || total > maxReleaseBytes {
			return refuse("it has more than %d files or %d bytes: is it the directory of built files?", maxReleaseFiles, int64(maxReleaseBytes))
		}
		return nil
	})
	return found, err
}

func (d *directory) copyAll(host fs.FS, listed map[string]stamp) (map[string]file, error) {
	files := make(map[string]file, len(listed))
	for _, name := range slices.Sorted(maps.Keys(listed)) {
		f, err := d.depot.put(func(w io.Writer) (string, int64, error) { return digest(host, name, listed[name].size, w) })
		if refused, ok := errors.AsType[*refusal](err); ok {
			return nil, refused
		}
		if err != nil {
			return nil, fault.Wrap(fault.Internal, err, "copy %s into the data directory", name)
		}
		files[name] = f
	}
	return files, nil
}

// digest copies a file to w and returns its sum and size. A file that is longer
// than it was listed is being written.
func digest(host fs.FS, name string, size int64, w io.Writer) (string, int64, error) {
	in, err := host.Open(name)
	if err != nil {
		return "", 0, refuse("%s went away while it was copied", name)
	}
	defer in.Close()
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(w, sum), io.LimitReader(in, size+1))
	if err != nil {
		return "", 0, err
	}
	if n != size {
		return "", 0, refuse("%s changed while it was copied", name)
	}
	return hex.EncodeToString(sum.Sum(nil)), n, nil
}

// untorn checks that the host is still what was copied: the same files of the
// same sizes and times, and the critical ones read again.
func untorn(host fs.FS, listed map[string]stamp, files map[string]file, critical []string) error {
	now, err := walk(host)
	if err != nil {
		return err
	}
	if !maps.EqualFunc(listed, now, func(a, b stamp) bool { return a.size == b.size && a.modified.Equal(b.modified) }) {
		return refuse("files changed while they were copied: deploy again when all are in place")
	}
	for _, name := range critical {
		f, ok := files[name]
		if !ok {
			continue // absent, or another server's by a proxy rule
		}
		sum, _, err := digest(host, name, f.Size, io.Discard)
		if err != nil {
			return err
		}
		if sum != f.Sum {
			return refuse("%s changed while it was copied: deploy again when all files are in place", name)
		}
	}
	return nil
}
