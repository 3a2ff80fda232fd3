package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rewarm/rewarm/examples"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// deploysUnderLoad and callers are the size of the proof.
const (
	deploysUnderLoad = 20
	callers          = 4
)

var routes = []string{"/", "/about", "/products", "/products/1", "/nowhere"}

// TestDeployUnderLoad is what Rewarm is for: while callers render all the time,
// releases are deployed one after another, each with a new shell and the old
// files gone from the host directory. Every answer is judged by its text.
func TestDeployUnderLoad(t *testing.T) {
	for _, mode := range []words.Mode{words.ModeTransition, words.ModeNavigate} {
		t.Run(string(mode), func(t *testing.T) { deployUnderLoad(t, mode) })
	}
}

// load is what the callers saw.
type load struct {
	f       *fleet
	mode    words.Mode
	answers atomic.Int64
	// mayRefuse allows 503 with Retry-After: Chrome is being killed.
	mayRefuse bool
	refused   atomic.Int64
	// cuts grows whenever connections to the realm are cut; nil: never. What is
	// rendered meanwhile may be broken, and has to say so.
	cuts   *atomic.Int64
	broken atomic.Int64
	// older counts, for each number of deploys at the time of asking, the ready
	// answers of pages that were warm before the last of them.
	mu    sync.Mutex
	older map[int]int
}

func deployUnderLoad(t *testing.T, mode words.Mode) {
	f := startFleet(t, nil)
	pid := f.browserPID()
	l := &load{f: f, mode: mode, older: map[int]int{}}
	ctx, stop := context.WithTimeout(t.Context(), 8*time.Minute)
	defer stop()
	var running sync.WaitGroup
	for caller := range callers {
		running.Go(func() { l.call(ctx, caller) })
	}
	for n := 1; n <= deploysUnderLoad && !t.Failed(); n++ {
		before := l.answers.Load()
		f.until("callers get answers", func() bool { return t.Failed() || l.answers.Load() >= before+callers })
		f.completeOn(f.deploy(fmt.Sprintf("r%d", n)))
	}
	before := l.answers.Load()
	f.until("callers get answers after the last deploy", func() bool { return t.Failed() || l.answers.Load() >= before+callers })
	stop()
	running.Wait()

	if now := f.browserPID(); now != pid {
		t.Errorf("chrome %d was replaced by %d", pid, now)
	}
	if mode == words.ModeTransition {
		for n := 2; n <= deploysUnderLoad+1; n++ {
			if l.older[n] == 0 {
				t.Errorf("after deploy %d no render came from a page that was warm before it: the test proves nothing", n-1)
			}
		}
	}
	if breaches := f.metric(`rewarm_prerender_invariant_violations_total{invariant="never_stale"}`); breaches != 0 {
		t.Errorf("%v breaches of never_stale were caught", breaches)
	}
	judgeStore(t, f)
	t.Logf("%s: %d answers over %d deploys", mode, l.answers.Load(), deploysUnderLoad)
}

// call renders until ctx ends and judges every answer.
func (l *load) call(ctx context.Context, caller int) {
	for n := caller; ctx.Err() == nil; n++ {
		path := routes[n%len(routes)]
		deploys, cuts := l.f.deploys(), l.cut()
		bounded, cancel := context.WithTimeoutCause(ctx, eventually, errors.New("no answer"))
		answer, err := l.f.visit(bounded, path, l.mode)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if err == nil && answer.Status == 201 && answer.Data.Attributes.Status == words.StatusError && l.cut() != cuts {
			l.broken.Add(1)
			continue
		}
		if err == nil && answer.Status == 503 && answer.RetryAfter != "" && l.mayRefuse {
			l.refused.Add(1)
			continue
		}
		if err != nil || answer.Status != 201 || answer.Data.Attributes.Status != words.StatusReady {
			l.f.t.Errorf("%s failed: %d %v %.600s", path, answer.Status, err, answer.Body)
			return
		}
		l.judge(path, answer, deploys)
		l.answers.Add(1)
		// A visitor's page is served meanwhile, and judged the same way.
		l.f.judgePage(path)
	}
}

func (l *load) cut() int64 {
	if l.cuts == nil {
		return 0
	}
	return l.cuts.Load()
}

// judge looks at one answer. deploys is how many releases had been accepted
// before it was asked for.
func (l *load) judge(path string, answer visitAnswer, deploys int) {
	t := l.f.t
	named := examples.ReleasesIn(answer.Data.Attributes.HTML)
	if len(named) != 1 {
		t.Errorf("%s: the text names %v", path, named)
		return
	}
	if answer.Meta.HostShell.Rendered != answer.Token {
		t.Errorf("%s: header %s, meta %s", path, answer.Token, answer.Meta.HostShell.Rendered)
	}
	place := l.f.indexOf(named[0])
	if name := l.f.nameOf(answer.Token); name != "" && name != named[0] {
		t.Errorf("%s: the token is that of %s, the text names %s", path, name, named[0])
	}
	if answer.Meta.HostShell.Fresh && place >= 0 && place < deploys-1 {
		t.Errorf("%s: %s is called fresh after %d deploys", path, named[0], deploys-1)
	}
	if place >= 0 && place < deploys-1 {
		l.mu.Lock()
		l.older[deploys]++
		l.mu.Unlock()
	}
}

// judgePage looks at what a visitor gets: prerendered or not, all of it must be
// of the release that its header names.
func (f *fleet) judgePage(path string) {
	header, body := f.get(path)
	named := examples.ReleasesIn(body)
	name := f.nameOf(words.Token(header.Get(wire.HeaderDocumentShell)))
	if name != "" && (len(named) != 1 || named[0] != name) {
		f.t.Errorf("visitor of %s: the shell is that of %s, the text names %v (%s)", path, name, named, header.Get(wire.HeaderSnapshot))
	}
}

// judgeStore reads everything that was stored: each snapshot's text must name
// the release that it is stored under.
func judgeStore(t *testing.T, f *fleet) {
	f.mu.Lock()
	tokens := make([]words.Token, 0, len(f.tokens))
	for token := range f.tokens {
		tokens = append(tokens, token)
	}
	f.mu.Unlock()
	slices.Sort(tokens)
	stored := 0
	for _, token := range tokens {
		for _, path := range routes {
			for _, realm := range []string{f.up.RealmURL(), f.up.RealmURL() + "/"} {
				snapshot, ok, err := f.store.Snapshot(t.Context(), realm, token, f.up.RealmURL()+path)
				if err != nil {
					t.Fatal(err)
				}
				if !ok {
					continue
				}
				stored++
				if named := examples.ReleasesIn(snapshot.HTML); len(named) != 1 || named[0] != f.nameOf(token) {
					t.Errorf("stored under %s: %s, whose text names %v", f.nameOf(token), path, named)
				}
			}
		}
	}
	if stored == 0 {
		t.Error("nothing was stored: the store was not tested")
	}
}
