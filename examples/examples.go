// Package examples holds the hosts that Rewarm can be tried on, embedded in
// the binary so that `rewarm up` shows something without any file beside it.
//
// A host is a directory of built files, here an [fs.FS]. Every example exists
// in several releases that differ in what matters to a prerender fleet: their
// shells, the names of their chunks, and their text. Each shell, each
// application script and each lazily loaded chunk names its release in what it
// shows, so [ReleasesIn] can tell from a page's HTML alone which releases it
// was made of, and a mix cannot hide.
package examples

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"regexp"
	"slices"
)

// Releases are the releases that every example has, oldest first.
func Releases() []string { return []string{"v1", "v2"} }

// ReleasesIn returns the releases that a rendered page of an example names,
// sorted, each once. A page that was made of one release names exactly one; a
// page that names two was put together from two bundles.
func ReleasesIn(html string) []string {
	found := map[string]bool{}
	for _, match := range releaseMark.FindAllStringSubmatch(html, -1) {
		found[match[1]+match[2]] = true
	}
	return slices.Sorted(maps.Keys(found))
}

// releaseMark is what the examples' sources show: an element whose whole text
// is "release X", and the shell's <meta name="release">.
var releaseMark = regexp.MustCompile(`>\s*release ([a-z0-9.-]+)\s*<|<meta name="release" content="([a-z0-9.-]+)"`)

// releaseName keeps a release's name harmless wherever the sources put it:
// in HTML, JavaScript, CSS comments and file names.
var releaseName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,31}$`)

func checkRelease(release string) error {
	if !releaseName.MatchString(release) {
		return fmt.Errorf("example release %q: want 1 to 32 of a-z, 0-9, dot and dash", release)
	}
	return nil
}

// memory returns the files as a read-only file system. An archive that is read
// in memory is one, directories and all; it is the smallest in the standard
// library that is not made for tests.
func memory(files map[string][]byte) (fs.FS, error) {
	var buffer bytes.Buffer
	archive := zip.NewWriter(&buffer)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		header := &zip.FileHeader{Name: name, Method: zip.Store}
		header.SetMode(0o644)
		w, err := archive.CreateHeader(header)
		if err == nil {
			_, err = w.Write(files[name])
		}
		if err != nil {
			return nil, fmt.Errorf("pack %s: %w", name, err)
		}
	}
	if err := archive.Close(); err != nil {
		return nil, fmt.Errorf("pack example: %w", err)
	}
	return zip.NewReader(bytes.NewReader(buffer.Bytes()), int64(buffer.Len()))
}
