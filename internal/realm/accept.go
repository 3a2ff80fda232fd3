package realm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/rewarm/rewarm/internal/shell"
	"github.com/rewarm/rewarm/internal/words"
)

// Bounds of a release: beyond them the directory is almost surely not a build.
const (
	maxReleaseBytes = 2 << 30
	maxReleaseFiles = 100_000
	maxShellBytes   = 8 << 20
)

// source is where releases come from: a directory of built files or the URL of
// one.
type source interface {
	// collect copies what the host has now into the depot. A [refusal] says why
	// it is not one whole release; kept are the releases served until now. Only
	// one call is made at a time.
	collect(ctx context.Context, kept *releaseSet) (collected, error)
}

// collected is a release as it was found at its host.
type collected struct {
	shell []byte
	files map[string]file
	named []string // scripts and styles that the shell names
	dirs  []string // first path segments that are directories
}

// outcome is what came of reading the host.
type outcome struct {
	current, previous words.Token
	candidate         words.Token // what was accepted, if it is held back; else ""
	accepted          bool
	reason            string
}

// refusal is why a host is not taken; its text goes to who deployed.
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
	r, err := s.take(ctx, before)
	if refused, ok := errors.AsType[*refusal](err); ok {
		o.reason = refused.text
		s.refused(o)
		return o, nil
	}
	var held bool
	var differing []string
	if err == nil {
		held, differing, err = s.switchTo(r)
	}
	if err != nil {
		return o, fmt.Errorf("accept the host's release: %w", err)
	}
	s.hostNote.Store(nil)
	s.demands.forget()
	s.borrowed.demands.forget()
	if len(differing) > 0 {
		s.unseen(&o, differing)
		return o, nil
	}
	s.hostUnseen.Store(nil)
	if held {
		s.noteHeld(ctx, r, before)
		o.candidate, o.accepted = r.token, true
		return o, nil
	}
	if o.previous != r.token {
		s.switched()
	}
	s.metrics.releases.WithLabelValues("accepted").Inc()
	level := slog.LevelInfo
	if o.previous == r.token {
		level = slog.LevelDebug // re-read and found the same: no news
	}
	s.o.Log.Log(ctx, level, "release accepted", "token", r.token, "previous", o.previous, "files", len(r.files), "scripts", shell.Scripts(r.shell))
	if shell.Scripts(r.shell) == 0 {
		s.o.Log.Warn("the shell has no script: it is served as a static page", "token", r.token)
	}
	o.current, o.accepted = r.token, true
	return o, nil
}

// switched begins anew what belongs to the release that was current.
func (s *Server) switched() {
	s.demands.forget()
	s.beginRelease()
}

// refused notes why the host is not what is served, and logs it once: a host
// that is polled gives the same reason again and again.
func (s *Server) refused(o outcome) {
	s.metrics.releases.WithLabelValues("refused").Inc()
	if note := s.hostNote.Swap(&o.reason); note == nil || *note != o.reason || s.origin == nil {
		s.o.Log.Warn("release refused", "reason", o.reason, "token", o.current)
	}
	s.switching.Lock()
	defer s.switching.Unlock()
	s.prune(s.releases.Load())
}

// prune removes the files that no release in set names, those of a refused
// copy among them. It needs switching: a file that is being kept has a content
// before a release names it.
func (s *Server) prune(set *releaseSet) {
	if set == nil {
		return
	}
	if err := s.depot.prune(append([]*release{s.borrowed.all()}, set.all...)); err != nil {
		s.o.Log.Warn("old files not removed yet", "error", err)
	}
}

// take collects what the host has and checks that it is whole.
func (s *Server) take(ctx context.Context, before *releaseSet) (*release, error) {
	c, err := s.source.collect(ctx, before)
	if err != nil {
		return nil, err
	}
	if strings.TrimSpace(string(c.shell)) == "" {
		return nil, refuse("index.html is empty")
	}
	for _, name := range c.named {
		if _, ok := c.files[name]; !ok && !s.proxied("/"+name) {
			return nil, refuse("index.html names /%s, which is not there: the copy is not complete, or the build is broken", name)
		}
	}
	return newRelease(c, s.o.Now()), nil
}

// switchTo makes r current, on disk first; or holds it back until its promotion.
// differing are its files that are served as they were promoted all the same.
func (s *Server) switchTo(r *release) (held bool, differing []string, err error) {
	s.switching.Lock()
	defer s.switching.Unlock()
	if !s.mayServe(r.token) {
		s.hold(r)
		return true, nil, nil
	}
	before := s.releases.Load()
	if current := before.current(); current != nil && current.token == r.token {
		r.since = current.since // the token did not change, so neither does its time
		switch {
		case s.gated():
			differing = r.differing(current)
			r = current.plus(r.files)
		case s.origin != nil:
			r = r.plus(current.files) // what was asked for while this was collected
		}
	}
	after := before.with(r).holding(r)
	if err := s.serveFrom(r, after); err != nil {
		return false, nil, err
	}
	s.prune(after) // after the switch: nothing served names the old files any more
	return false, differing, nil
}

// serveFrom switches to a set in which r is current. It needs switching.
func (s *Server) serveFrom(r *release, after *releaseSet) error {
	if err := s.depot.commit(r, after.tokens()); err != nil {
		return err
	}
	s.releases.Store(after)
	return nil
}
