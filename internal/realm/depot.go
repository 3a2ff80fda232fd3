package realm

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
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

// manifest is a release on disk.
type manifest struct {
	V          int             `json:"v"`
	Token      words.Token     `json:"token"`
	AcceptedAt time.Time       `json:"acceptedAt"`
	Files      map[string]file `json:"files"`
}

// depot is the data directory:
//
//	blobs/<sha256>                  contents, each once
//	releases/<token>/manifest.json  path -> content
//	order.json                      tokens, newest first
//
// Every file is written under another name and renamed, so a crash leaves
// either the old or the new one.
type depot struct{ root *os.Root }

func openDepot(dir string) (*depot, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "realm server: data directory %s cannot be made; choose another with --data", dir)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "realm server: data directory %s cannot be opened; choose another with --data", dir)
	}
	d := &depot{root}
	err = errors.Join(root.MkdirAll("blobs", 0o755), root.MkdirAll("releases", 0o755), d.write("writable", nil), root.Remove("writable"))
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

// put stores the content that copier writes and names it by the sum that
// copier returns.
func (d *depot) put(copier func(w io.Writer) (sum string, size int64, err error)) (file, error) {
	temporary := "blobs/incoming.tmp" // one release is accepted at a time
	out, err := d.root.OpenFile(temporary, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return file{}, err
	}
	sum, size, err := copier(out)
	if err = errors.Join(err, out.Close()); err != nil {
		return file{}, err
	}
	f := file{Sum: sum, Size: size}
	if info, err := d.root.Stat(blobName(sum)); err == nil && info.Size() == size {
		return f, nil // there already; the temporary file is overwritten next time
	}
	return f, d.root.Rename(temporary, blobName(sum))
}

// commit writes a release's manifest and the order, newest first, then removes
// what neither the order nor a manifest names any more.
func (d *depot) commit(m manifest, order []words.Token) error {
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
	return newRelease(shell, m.Files, m.AcceptedAt), nil
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
