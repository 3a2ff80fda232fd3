package realm

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/words"
)

// keptReleases is how many releases' files stay reachable: tabs, crawlers and
// warm pages of the last ones still ask for their chunks.
const keptReleases = 3

// file is one file of a release: its content's address and size in bytes.
type file struct {
	Sum  string `json:"sha256"`
	Size int64  `json:"size"`
}

// tag is the file's ETag, without quotes.
func (f file) tag() string { return f.Sum[:32] }

// manifest is a release on disk.
type manifest struct {
	V          int             `json:"v"`
	Token      words.Token     `json:"token"`
	AcceptedAt time.Time       `json:"acceptedAt"`
	Files      map[string]file `json:"files"`
	// Dirs are the release's directories; nil: those of Files.
	Dirs []string `json:"dirs,omitempty"`
}

// depot is the data directory:
//
//	blobs/<sha256>                  contents, each once
//	releases/<token>/manifest.json  path -> content
//	order.json                      tokens, newest first
//	incoming/<n>                    contents being received
//
// Every file is written under another name and renamed, so a crash leaves
// either the old or the new one.
type depot struct {
	root     *os.Root
	received atomic.Uint64 // names of incoming contents
}

func openDepot(dir string) (*depot, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "realm server: data directory %s cannot be made; choose another with --data", dir)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "realm server: data directory %s cannot be opened; choose another with --data", dir)
	}
	d := &depot{root: root}
	err = errors.Join(root.RemoveAll("incoming"), root.MkdirAll("incoming", 0o755), root.MkdirAll("blobs", 0o755), root.MkdirAll("releases", 0o755), d.write("writable", nil), root.Remove("writable"))
	if err != nil {
		return nil, errors.Join(fault.Wrap(fault.Invalid, err, "realm server: data directory %s is not writable; choose another with --data", dir), root.Close())
	}
	return d, nil
}

func (d *depot) close() error { return d.root.Close() }

func (d *depot) write(name string, content []byte) error {
	temporary := name + ".tmp"
	if err := d.root.WriteFile(temporary, content, 0o644); err != nil {
		return err
	}
	return d.root.Rename(temporary, name)
}

func blobName(sum string) string { return "blobs/" + sum }

// open opens a content for reading.
func (d *depot) open(f file) (*os.File, error) { return d.root.Open(blobName(f.Sum)) }

func (d *depot) read(f file) ([]byte, error) { return d.root.ReadFile(blobName(f.Sum)) }

// incoming is a content that is in the depot and has no name yet. It is settled
// or dropped by who received it.
type incoming struct {
	file
	temporary string
}

// receive writes the content that copier gives, of the sum and size that
// copier returns. Any number of contents may be received at a time.
func (d *depot) receive(copier func(w io.Writer) (sum string, size int64, err error)) (incoming, error) {
	in := incoming{temporary: "incoming/" + strconv.FormatUint(d.received.Add(1), 10)}
	out, err := d.root.OpenFile(in.temporary, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return incoming{}, err
	}
	in.Sum, in.Size, err = copier(out)
	if err = errors.Join(err, out.Close()); err != nil {
		d.drop(in)
		return incoming{}, err
	}
	return in, nil
}

// settle names a content by its sum. From then on [depot.prune] removes it
// unless a kept release names it.
func (d *depot) settle(in incoming) (file, error) {
	if info, err := d.root.Stat(blobName(in.Sum)); err == nil && info.Size() == in.Size {
		d.drop(in) // there already
		return in.file, nil
	}
	return in.file, d.root.Rename(in.temporary, blobName(in.Sum))
}

// drop removes a content that is not wanted; what stays is removed by the next
// [openDepot].
func (d *depot) drop(in incoming) { _ = d.root.Remove(in.temporary) }

// put is receive and settle.
func (d *depot) put(copier func(w io.Writer) (sum string, size int64, err error)) (file, error) {
	in, err := d.receive(copier)
	if err != nil {
		return file{}, err
	}
	return d.settle(in)
}

// commit writes a release's manifest and the order, newest first.
func (d *depot) commit(r *release, order []words.Token) error {
	m := manifest{V: 1, Token: r.token, AcceptedAt: r.since, Files: r.files, Dirs: slices.Sorted(maps.Keys(r.dirs))}
	encoded, err := json.Marshal(m)
	if err != nil {
		return err
	}
	dir := "releases/" + string(m.Token)
	if err := d.root.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := d.write(dir+"/manifest.json", encoded); err != nil {
		return err
	}
	if encoded, err = json.Marshal(order); err != nil {
		return err
	}
	return d.write("order.json", encoded)
}

// load reads the kept releases, newest first. One that is damaged is left out
// and explained.
func (d *depot) load() (kept []*release, problems []error) {
	encoded, err := d.root.ReadFile("order.json")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var order []words.Token
	if err == nil {
		err = json.Unmarshal(encoded, &order)
	}
	if err != nil {
		return nil, []error{fmt.Errorf("read order.json: %w", err)}
	}
	for _, token := range order {
		r, err := d.loadRelease(token)
		if err != nil {
			problems = append(problems, fmt.Errorf("release %s: %w", token, err))
			continue
		}
		kept = append(kept, r)
	}
	return kept[:min(len(kept), keptReleases)], problems
}

func (d *depot) loadRelease(token words.Token) (*release, error) {
	if _, err := words.ParseToken(string(token)); err != nil || path.Base(string(token)) != string(token) {
		return nil, errors.New("not a token")
	}
	encoded, err := d.root.ReadFile("releases/" + string(token) + "/manifest.json")
	if err != nil {
		return nil, err
	}
	var m manifest
	if err := json.Unmarshal(encoded, &m); err != nil {
		return nil, err
	}
	for name, f := range m.Files {
		if sum, err := hex.DecodeString(f.Sum); err != nil || len(sum) != sha256.Size {
			return nil, fmt.Errorf("file %s has no sum", name)
		}
		if info, err := d.root.Stat(blobName(f.Sum)); err != nil || info.Size() != f.Size {
			return nil, fmt.Errorf("file %s is missing or damaged", name)
		}
	}
	shell, err := d.read(m.Files[indexName])
	if err != nil {
		return nil, err
	}
	if words.TokenOf(shell) != token {
		return nil, errors.New("its shell is damaged")
	}
	if m.Dirs == nil {
		m.Dirs = dirsOf(maps.Keys(m.Files))
	}
	return newRelease(collected{shell: shell, files: m.Files, dirs: m.Dirs}, m.AcceptedAt), nil
}

// prune removes every release and content that kept does not name. What cannot
// be removed now is removed the next time.
func (d *depot) prune(kept []*release) error {
	tokens, sums := map[string]bool{}, map[string]bool{}
	for _, r := range kept {
		tokens[string(r.token)] = true
		for _, f := range r.files {
			sums[f.Sum] = true
		}
	}
	return errors.Join(d.sweep("releases", tokens), d.sweep("blobs", sums))
}

func (d *depot) sweep(dir string, keep map[string]bool) error {
	entries, err := fs.ReadDir(d.root.FS(), dir)
	if err != nil {
		return err
	}
	var failed []error
	for _, entry := range entries {
		if !keep[entry.Name()] {
			failed = append(failed, d.root.RemoveAll(filepath.Join(dir, entry.Name())))
		}
	}
	return errors.Join(failed...)
}
