package config

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/realm"
	"github.com/rewarm/rewarm/internal/worker"
)

// lookEvery is the time between looks at the file. Its bytes are compared: they
// change on every file system, mounted secrets and replaced links too. A change
// is taken when the next look finds the same: an editor may be at it, and half a
// table is a table too.
const lookEvery = 500 * time.Millisecond

// Watcher reads a file again when it changes, and at once on SIGHUP. What it
// read is checked as a whole before it replaces what was there.
type Watcher struct {
	path  string
	check func(*File) error // beside what Parse checks
	log   *slog.Logger
	sites atomic.Pointer[map[string]worker.Site]
	last  *File  // that was taken; this and the next are of whoever follows
	taken string // what was found when it was taken or refused last
	found string // by the last look
}

// NewWatcher watches the file that was read from path. check may refuse what is
// read later.
func NewWatcher(path string, read *File, check func(*File) error, log *slog.Logger) *Watcher {
	w := &Watcher{path: path, check: check, log: log, taken: string(read.Raw), found: string(read.Raw)}
	w.take(read)
	return w
}

func (w *Watcher) take(f *File) {
	sites := f.Sites()
	w.last = f
	w.sites.Store(&sites)
}

// Site is what a worker does for a realm, by the file as it was taken last.
func (w *Watcher) Site(url string) worker.Site { return (*w.sites.Load())[url] }

// Follow has the realms set each time the file has changed, until ctx ends. A
// file that cannot be read, or whose realms are refused, changes nothing: set is
// told so with a nil table.
func (w *Watcher) Follow(ctx context.Context, set func(*realm.Table) error) {
	// A pipe, as a shell's <(...) gives, has its bytes once.
	if info, err := os.Stat(w.path); err == nil && !info.Mode().IsRegular() {
		w.log.Info("configuration is no file, and not read again", "file", w.path)
		<-ctx.Done()
		return
	}
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			w.look(set, false)
		case <-hangup:
			w.look(set, true)
		}
	}
}

// look takes the file if it has changed and is quiet, or if that was asked for.
func (w *Watcher) look(set func(*realm.Table) error, asked bool) {
	raw, err := load(w.path)
	now := string(raw)
	if err != nil {
		now = err.Error()
	}
	quiet := now == w.found
	w.found = now
	if !asked && (now == w.taken || !quiet) {
		return
	}
	w.taken = now
	var f *File
	if err == nil {
		f, err = Parse(w.path, raw)
	}
	if err == nil {
		err = w.check(f)
	}
	if err == nil && len(f.Realms) == 0 && len(w.last.Realms) > 0 {
		// A disk that is full leaves an empty file; it must not take every site away.
		err = fault.New(fault.Usage, "%s: has no realms any more; to serve the one of --realm-url again, restart", w.path)
	}
	if err == nil {
		err = set(f.Table())
	}
	if err != nil {
		w.log.Error("configuration file refused; what was read before it stays", "error", err)
		_ = set(nil)
		return
	}
	for _, key := range changed(w.last.Flags, f.Flags) {
		w.log.Warn("configuration changed; it is taken at the next start", "key", key)
	}
	if before, now := w.last.names(), f.names(); !slices.Equal(before, now) {
		w.log.Info("realms changed", "realms", now)
	}
	w.take(f)
}

func (f *File) names() (urls []string) {
	for _, r := range f.Table().Realms() {
		urls = append(urls, r.URL)
	}
	return urls
}

// changed are the keys whose values differ, sorted.
func changed(before, now map[string]string) (keys []string) {
	for key := range before {
		if value, ok := now[key]; !ok || value != before[key] {
			keys = append(keys, key)
		}
	}
	for key := range now {
		if _, ok := before[key]; !ok {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}
