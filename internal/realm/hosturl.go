package realm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/shell"
	"github.com/rewarm/rewarm/internal/words"
)

// Bounds of collecting a release from a host URL.
const (
	collectBudget  = 2 * time.Minute
	prefetchBudget = 30 * time.Second
	maxPrefetched  = 500
	maxScanned     = 4 << 20 // bytes of a script in which names are looked for
	fetchers       = 8
	shellFetches   = 3 // at most, for two in a row that agree
)

// hostURL is a host that is a URL: what the shell names is copied at once, what
// the scripts name as far as it is found, the rest when it is asked for.
type hostURL struct {
	origin   *origin
	depot    *depot
	realmURL string
	settle   time.Duration // between two fetches of the shell
	proxied  func(path string) bool
}

func (h *hostURL) collect(ctx context.Context, kept *releaseSet) (collected, error) {
	bounded, cancel := context.WithTimeoutCause(ctx, collectBudget, fmt.Errorf("not complete within %s", collectBudget))
	defer cancel()
	c, err := h.gather(bounded, kept)
	if ctx.Err() != nil {
		return collected{}, ctx.Err() // says nothing of the host
	}
	return c, err
}

func (h *hostURL) gather(ctx context.Context, kept *releaseSet) (collected, error) {
	index, err := h.agreed(ctx)
	if err != nil {
		return collected{}, err
	}
	named := h.named(index)
	in := &intake{host: h, kept: kept, files: map[string]file{}}
	if err := in.addShell(index); err != nil {
		return collected{}, err
	}
	if err := in.addNamed(ctx, named); err != nil {
		return collected{}, err
	}
	in.addKnown(ctx, kept.byToken(words.TokenOf(index)))
	in.prefetch(ctx, named)
	return collected{shell: index, files: in.files, named: named, dirs: dirsOf(slices.Values(named))}, nil
}

// named are the files that the shell names on this realm or on the host's own
// origin; a shell built for its CDN has the latter.
func (h *hostURL) named(index []byte) []string {
	names := append(shell.Assets(index, h.realmURL), shell.Assets(index, h.origin.base.String())...)
	slices.Sort(names)
	names = slices.Compact(names)
	return slices.DeleteFunc(names, func(name string) bool { return h.proxied("/" + name) })
}

// agreed is the shell once two fetches in a row, on connections of their own,
// give the same bytes: behind a load balancer or a CDN a deploy is here and not
// there for a while, and what flips must not be taken for a release.
func (h *hostURL) agreed(ctx context.Context) ([]byte, error) {
	var last []byte
	for i := range shellFetches {
		if i > 0 {
			if err := wait(ctx, h.settle); err != nil {
				return nil, err
			}
		}
		now, err := h.origin.fetchShell(ctx)
		switch {
		case err != nil:
			return nil, h.unfetched(err)
		case i > 0 && bytes.Equal(now, last):
			return now, nil
		}
		last = now
	}
	return nil, refuse("%s gives different shells in turn: the deploy is not everywhere yet", h.origin.index)
}

func (h *hostURL) unfetched(err error) error {
	return refuse("%s cannot be fetched: %v", h.origin.index, err)
}

// wait waits for d, or returns why ctx ended.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// intake gathers the files of one release.
type intake struct {
	host *hostURL
	kept *releaseSet

	mu    sync.Mutex
	files map[string]file
	total int64 // bytes
}

func (in *intake) addShell(index []byte) error {
	f, err := in.host.depot.put(func(w io.Writer) (string, int64, error) {
		sum := sha256.Sum256(index)
		n, err := w.Write(index)
		return hex.EncodeToString(sum[:]), int64(n), err
	})
	if err != nil {
		return fault.Wrap(fault.Internal, err, "copy the shell into the data directory")
	}
	in.files[indexName] = f
	return nil
}

// addNamed fetches what the shell names. What is absent is left to the check
// that every source's releases pass; a host that fails is not judged by it.
func (in *intake) addNamed(ctx context.Context, names []string) error {
	for i, err := range in.fetchAll(ctx, names) {
		if err != nil && !errors.Is(err, errAbsent) {
			return refuse("index.html names /%s, which cannot be fetched: %v", names[i], err)
		}
	}
	return nil
}

// addKnown takes what was asked for of this release before: again if its
// content may have changed, else as it is; as it is too if the host has it no more.
func (in *intake) addKnown(ctx context.Context, known *release) {
	if known == nil {
		return
	}
	var again []string
	for name := range known.files {
		if _, ok := in.files[name]; !ok && !hashed(name) {
			again = append(again, name)
		}
	}
	in.fetchAll(ctx, again)
	for name, f := range known.files {
		if _, ok := in.files[name]; !ok {
			in.files[name] = f
		}
	}
}

// prefetch takes what the scripts name, breadth first, as far as it is found
// within the bounds. It is best effort: a page that asks for the rest gets it.
func (in *intake) prefetch(ctx context.Context, names []string) {
	ctx, cancel := context.WithTimeout(ctx, prefetchBudget)
	defer cancel()
	tried := map[string]bool{}
	for left := maxPrefetched; len(names) > 0 && left > 0; left -= len(names) {
		var found []string
		for _, name := range names {
			for _, candidate := range in.namedBy(name) {
				if !tried[candidate] && len(found) < left && !in.host.proxied("/"+candidate) {
					tried[candidate] = true
					found = append(found, candidate)
				}
			}
		}
		in.fetchAll(ctx, found)
		names = found
	}
}

// assetLiteral is a string that looks like a file of the build.
var assetLiteral = regexp.MustCompile("[\"'`]((?:\\.{0,2}/)*[\\w@~+-][\\w@~+./-]{0,250}\\.(?:js|mjs|css|json|wasm))[\"'`]")

// namedBy are the files that a script might name. Bundlers write names relative
// to the script and relative to the build; which one it is shows when it is there.
func (in *intake) namedBy(script string) []string {
	f, ok := in.files[script]
	if extension := path.Ext(script); !ok || f.Size > maxScanned || extension != ".js" && extension != ".mjs" {
		return nil
	}
	content, err := in.host.depot.read(f)
	if err != nil {
		return nil
	}
	return namesIn(script, content)
}

// namesIn are the names in a script's content, as they would be below the root.
func namesIn(script string, content []byte) []string {
	var names []string
	for _, match := range assetLiteral.FindAllSubmatch(content, maxPrefetched) {
		literal := string(match[1])
		if strings.Contains(literal, "//") {
			continue
		}
		relative := strings.TrimPrefix(path.Join("/", path.Dir(script), literal), "/")
		switch {
		case strings.HasPrefix(literal, "/"):
			names = append(names, strings.TrimPrefix(path.Clean(literal), "/"))
		case strings.HasPrefix(literal, "."):
			names = append(names, relative)
		default:
			names = append(names, strings.TrimPrefix(path.Join("/", literal), "/"), relative)
		}
	}
	return names
}

// fetchAll takes the files that are not there yet, a few at a time, and returns
// for each why it was not taken.
func (in *intake) fetchAll(ctx context.Context, names []string) []error {
	errs := make([]error, len(names))
	next := make(chan int)
	var fetching sync.WaitGroup
	for range min(fetchers, len(names)) {
		fetching.Go(func() {
			for i := range next {
				errs[i] = in.fetch(ctx, names[i])
			}
		})
	}
	for i := range names {
		next <- i
	}
	close(next)
	fetching.Wait()
	return errs
}

func (in *intake) fetch(ctx context.Context, name string) error {
	in.mu.Lock()
	_, there := in.files[name]
	full := len(in.files) >= maxReleaseFiles || in.total > maxReleaseBytes
	in.mu.Unlock()
	switch {
	case there:
		return nil
	case full:
		return fmt.Errorf("the release has more than %d files or %d bytes", maxReleaseFiles, int64(maxReleaseBytes))
	}
	f, immutable, ok := in.kept.find(name)
	if !ok || !immutable {
		var err error
		if f, err = in.host.depot.put(func(w io.Writer) (string, int64, error) { return in.host.origin.fetchAsset(ctx, name, w) }); err != nil {
			return err
		}
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.files[name] = f
	in.total += f.Size
	return nil
}
