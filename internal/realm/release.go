package realm

import (
	"iter"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/rewarm/rewarm/internal/words"
)

// indexName is the host shell's file.
const indexName = "index.html"

// release is one accepted deploy: its shell in memory, its files by content.
// It never changes.
type release struct {
	token words.Token
	shell []byte
	bare  *body // the shell as visitors get it
	since time.Time
	files map[string]file
	dirs  map[string]bool // first path segments that are directories; not changed either
	named map[string]bool // files that the shell names
}

func newRelease(c collected, since time.Time) *release {
	token := words.TokenOf(c.shell)
	r := &release{token: token, shell: c.shell, bare: htmlBody(token, string(token), c.shell, nil), since: since, files: c.files, dirs: map[string]bool{}, named: map[string]bool{}}
	for _, name := range c.named {
		r.named[name] = true
	}
	for _, dir := range c.dirs {
		r.dirs[dir] = true
	}
	return r
}

// plus is the release with more files; those that it has stay as they are. Its
// directories stay too: which paths are the application's must not depend on
// what was asked for.
func (r *release) plus(more map[string]file) *release {
	next := *r
	next.files = maps.Clone(more)
	maps.Copy(next.files, r.files)
	return &next
}

// differing are the names under which other has another content, sorted.
func (r *release) differing(other *release) (names []string) {
	for name, f := range r.files {
		if there, ok := other.files[name]; ok && there.Sum != f.Sum {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// bytes is the size of all files.
func (r *release) bytes() int64 {
	var total int64
	for _, f := range r.files {
		total += f.Size
	}
	return total
}

// dirsOf are the first segments of the paths that have more than one.
func dirsOf(names iter.Seq[string]) []string {
	dirs := map[string]bool{}
	for name := range names {
		if dir, _, nested := strings.Cut(name, "/"); nested {
			dirs[dir] = true
		}
	}
	return slices.Sorted(maps.Keys(dirs))
}

// releaseSet is what is served: the current release first, then the retained
// ones, newest first. It never changes; a switch replaces it.
type releaseSet struct {
	kept []*release
	// newest is what the host was last found to have; nil until it was read.
	newest *release
	all    []*release // whose files are here: kept, and the one that is held
}

func newReleaseSet(kept []*release, newest *release) *releaseSet {
	s := &releaseSet{kept: kept, newest: newest, all: kept}
	if held := s.held(); held != nil {
		s.all = append(slices.Clone(kept), held)
	}
	return s
}

// held is the host's newest release while another is served; nil for none.
func (s *releaseSet) held() *release {
	if s == nil || s.newest == nil || s.newest.token == s.kept[0].token {
		return nil
	}
	return s.newest
}

// found is the token of what the host was last found to have.
func (s *releaseSet) found() words.Token {
	if held := s.held(); held != nil {
		return held.token
	}
	return s.current().token
}

// holding is the set with another newest release of the host.
func (s *releaseSet) holding(r *release) *releaseSet { return newReleaseSet(s.kept, r) }

func (s *releaseSet) current() *release {
	if s == nil || len(s.kept) == 0 {
		return nil
	}
	return s.kept[0]
}

// with is the set after r became current.
func (s *releaseSet) with(r *release) *releaseSet {
	kept := []*release{r}
	if s == nil {
		return newReleaseSet(kept, r)
	}
	for _, old := range s.kept {
		if old.token != r.token && len(kept) < keptReleases {
			kept = append(kept, old)
		}
	}
	return newReleaseSet(kept, s.newest)
}

func (s *releaseSet) tokens() []words.Token {
	var tokens []words.Token
	for _, r := range s.kept {
		tokens = append(tokens, r.token)
	}
	return tokens
}

func (s *releaseSet) byToken(token words.Token) *release {
	if s == nil {
		return nil
	}
	for _, r := range s.all {
		if r.token == token {
			return r
		}
	}
	return nil
}

// find is the file at a path, of the newest release that has it; of one that is
// held back only what nobody can come upon. immutable tells that its name carries
// a hash of its content and that no other release has another content under
// that name.
func (s *releaseSet) find(name string) (f file, immutable, ok bool) {
	if s == nil {
		return file{}, false, false
	}
	immutable = true
	held := s.held()
	for _, r := range s.all {
		got, has := r.files[name]
		switch {
		case !has || r == held && !ok && !r.early(name):
		case !ok:
			f, ok = got, true
		case got.Sum != f.Sum:
			immutable = false
		}
	}
	return f, ok && immutable && hashed(name), ok // asked last: most paths are no file's
}

// isDir reports whether any kept release has a directory of that name.
func (s *releaseSet) isDir(segment string) bool {
	for _, r := range s.kept {
		if r.dirs[segment] {
			return true
		}
	}
	return false
}

// early reports whether a file is served before its release is: the release's own
// pages need it then, and no visitor finds it by a name that is known beforehand,
// such as robots.txt or a service worker's.
func (r *release) early(name string) bool {
	return knownExtension(path.Ext(name)) && (strings.Contains(name, "/") || hashed(name) || r.named[name])
}

var (
	hexHash    = regexp.MustCompile(`[-._][0-9a-f]{8,64}$`)
	base64Hash = regexp.MustCompile(`[-._][0-9A-Za-z_-]{8,24}$`)
)

// hashed reports whether a file's name carries a hash of its content. A wrong
// yes would keep an old file in browsers for a year, a wrong no costs a 304, so
// it says no to words, dates and sizes.
func hashed(name string) bool {
	stem := path.Base(name)
	for ext := path.Ext(stem); ext != "" && knownExtension(ext); ext = path.Ext(stem) {
		stem = strings.TrimSuffix(stem, ext)
	}
	if match := hexHash.FindString(stem); match != "" {
		return strings.ContainsAny(match, "0123456789") && strings.ContainsAny(match, "abcdef")
	}
	if match := base64Hash.FindString(stem); match != "" {
		tail := match[max(0, len(match)-8):]
		return strings.ContainsAny(tail, "0123456789") && strings.ContainsAny(tail, "ABCDEFGHIJKLMNOPQRSTUVWXYZ")
	}
	return false
}

// contentTypes are those of built applications; the system's own table differs
// from machine to machine.
func contentType(name string) string {
	switch strings.ToLower(path.Ext(name)) {
	case ".html", ".htm":
		return "text/html; charset=utf-8"
	case ".js", ".mjs", ".cjs":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".json", ".map":
		return "application/json; charset=utf-8"
	case ".webmanifest":
		return "application/manifest+json"
	case ".svg":
		return "image/svg+xml"
	case ".wasm":
		return "application/wasm"
	case ".txt", ".md":
		return "text/plain; charset=utf-8"
	case ".xml":
		return "application/xml"
	case ".png", ".gif", ".webp", ".avif", ".bmp":
		return "image/" + strings.ToLower(path.Ext(name))[1:]
	case ".jpg", ".jpeg":
		return "image/jpeg"
	case ".ico":
		return "image/x-icon"
	case ".woff", ".woff2", ".ttf", ".otf":
		return "font/" + strings.ToLower(path.Ext(name))[1:]
	case ".eot":
		return "application/vnd.ms-fontobject"
	case ".mp4", ".webm":
		return "video/" + strings.ToLower(path.Ext(name))[1:]
	case ".mp3":
		return "audio/mpeg"
	case ".ogg", ".wav", ".flac":
		return "audio/" + strings.ToLower(path.Ext(name))[1:]
	case ".pdf":
		return "application/pdf"
	case ".zip":
		return "application/zip"
	case ".gz", ".br", ".zst":
		return "application/octet-stream"
	}
	return ""
}

// compressible reports whether files of this type become smaller when encoded:
// the others are so already.
func compressible(kind string) bool {
	if strings.HasPrefix(kind, "text/") || strings.HasPrefix(kind, "application/json") {
		return true
	}
	switch kind {
	case "application/manifest+json", "application/xml", "application/wasm", "application/vnd.ms-fontobject",
		"image/svg+xml", "image/bmp", "image/x-icon", "font/ttf", "font/otf":
		return true
	}
	return false
}

// knownExtension reports whether a path with this extension is an asset's and
// so never answered with the shell.
func knownExtension(ext string) bool {
	return contentType("x"+ext) != "" && !strings.EqualFold(ext, ".html") && !strings.EqualFold(ext, ".htm") && !strings.EqualFold(ext, ".md")
}
