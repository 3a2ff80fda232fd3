package app

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"time"
)

// Bounds of the watched directory (design, "The life of a deploy", 1): a build
// writes many files; half a second of quiet is when it is taken.
const (
	watchEvery = 250 * time.Millisecond
	quietTicks = 2
)

// watcher calls changed when the files of a directory have changed and are
// quiet again. It looks at names, sizes and times only: what is taken is read
// and checked by the realm server. Polling sees changes on every file system,
// network mounts and replaced directories too.
type watcher struct {
	dir     string
	changed func(ctx context.Context) error
	log     *slog.Logger
}

// Run watches until ctx ends.
func (w *watcher) Run(ctx context.Context) error {
	taken := w.look()
	last, quiet := taken, 0
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := w.look()
		if now != last {
			last, quiet = now, 0
			continue
		}
		if quiet++; now == taken || quiet < quietTicks {
			continue
		}
		taken = now // a refused release is not tried again until something changes
		if err := w.changed(ctx); err != nil {
			w.log.Warn("host directory changed; the release is not taken", "dir", w.dir, "error", err)
		}
	}
}

// look is a digest of the directory's files; an unreadable one digests to its error.
func (w *watcher) look() [sha256.Size]byte {
	sum := sha256.New()
	err := filepath.WalkDir(w.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err == nil && !entry.IsDir() {
			_, err = fmt.Fprintln(sum, path, info.Size(), info.ModTime().UnixNano())
		}
		return err
	})
	if err != nil {
		_, _ = fmt.Fprintln(sum, err)
	}
	return [sha256.Size]byte(sum.Sum(nil))
}
