package realm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
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
	"github.com/rewarm/rewarm/internal/words"
)

// Bounds of a release: beyond them the directory is almost surely not a build.
const (
	maxReleaseBytes = 2 << 30
	maxReleaseFiles = 100_000
	maxShellBytes   = 8 << 20
)

// outcome is what came of reading the host.
type outcome struct {
	current, previous words.Token
	accepted          bool
	reason            string
}

// refusal is why a host directory is not taken; its text goes to who deployed.
type refusal struct{ text string }

func (r *refusal) Error() string { return r.text }

func refuse(format string, args ...any) error { return &refusal{fmt.Sprintf(format, args...)} }

// accept reads the host, and switches to what it has if it is whole. A refusal
// is an outcome; an error means that nothing could be decided.
func (s *Server) accept(ctx context.Context) (outcome, error) {
	select {
	case s.accepting <- struct{}{}:
	case <-ctx.Done():
		return outcome{}, ctx.Err()
	}
	defer func() { <-s.accepting }()

	before := s.releases.Load()
	o := outcome{}
	if r := before.current(); r != nil {
		o.current, o.previous = r.token, r.token
	}
	r, err := s.take(before)
	if refused, ok := errors.AsType[*refusal](err); ok {
		s.metrics.releases.WithLabelValues("refused").Inc()
		s.o.Log.Warn("release refused", "reason", refused.text, "token", o.current)
		s.hostNote.Store(&refused.text)
		o.reason = refused.text
		s.prune(before)
		return o, nil
	}
	if err != nil {
		return o, fmt.Errorf("accept the host's release: %w", err)
	}
	after := before.with(r)
	s.releases.Store(after)
	s.hostNote.Store(nil)
	if o.previous != r.token {
		s.renders.forget()
	}
	s.metrics.releases.WithLabelValues("accepted").Inc()
	s.o.Log.Info("release accepted", "token", r.token, "previous", o.previous, "files", len(r.files), "scripts", shell.Scripts(r.shell))
	if shell.Scripts(r.shell) == 0 {
		s.o.Log.Warn("the shell has no script: it is served as a static page", "token", r.token)
	}
	s.prune(after) // after the switch: nothing served names the old files any more
	o.current, o.accepted = r.token, true
	return o, nil
}

// prune removes the files that no release in set names, those of a refused
// copy among them.
func (s *Server) prune(set *releaseSet) {
	if set == nil {
		return
	}
	if err := s.depot.prune(set.kept); err != nil {
		s.o.Log.Warn("old files not removed yet", "error", err)
	}
}

// take copies the host into the depot and checks the copy.
func (s *Server) take(before *releaseSet) (*release, error) {
	host, done, err := s.openHost()
	if err != nil {
		return nil, err
	}
	defer done()
	listed, err := walk(host)
	if err != nil {
		return nil, err
	}
	files, err := s.copyAll(host, listed)
	if err != nil {
		return nil, err
	}
	index, ok := files[indexName]
	if !ok {
		return nil, refuse("there is no index.html in it")
	}
	if index.Size > maxShellBytes {
		return nil, refuse("index.html has %d bytes, more than %d", index.Size, maxShellBytes)
	}
	bytes, err := s.depot.read(index)
	if err != nil {
		return nil, err
	}
	if strings.TrimSpace(string(bytes)) == "" {
		return nil, refuse("index.html is empty")
	}
	named := shell.Assets(bytes, s.realmURL)
	for _, name := range named {
		if _, ok := files[name]; !ok && !s.proxied("/"+name) {
			return nil, refuse("index.html names /%s, which is not there: the copy is not complete, or the build is broken", name)
		}
	}
	if err := untorn(host, listed, files, append(named, indexName)); err != nil {
		return nil, err
	}
	r := newRelease(bytes, files, s.o.Now())
	if current := before.current(); current != nil && current.token == r.token {
		r.since = current.since // the token did not change, so neither does its time
	}
	m := manifest{V: 1, Token: r.token, AcceptedAt: r.since, Files: files}
	return r, s.depot.commit(m, before.with(r).tokens())
}

// openHost opens the host anew: a deploy may have replaced the directory
// itself. Nothing outside of it can be reached through it.
func (s *Server) openHost() (fs.FS, func(), error) {
	if s.o.Host == "" {
		return s.o.HostFS, func() {}, nil
	}
	root, err := os.OpenRoot(s.o.Host)
	if err != nil {
		return nil, nil, refuse("the host directory %s cannot be opened: %v", s.o.Host, err)
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

func (s *Server) copyAll(host fs.FS, listed map[string]stamp) (map[string]file, error) {
	files := make(map[string]file, len(listed))
	for _, name := range slices.Sorted(maps.Keys(listed)) {
		f, err := s.depot.put(func(w io.Writer) (string, int64, error) { return digest(host, name, listed[name].size, w) })
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
			continue // another server's, by a proxy rule
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
