package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rewarm/rewarm/internal/app"
	"github.com/rewarm/rewarm/internal/words"
)

// chaosSeed fixes the order of events, so that a failure can be had again.
const chaosSeed = 20261123

// chaosEvents is how many events happen: a few in every run, many in a soak.
func chaosEvents() int {
	if os.Getenv("REWARM_SOAK") != "" {
		return 500
	}
	return 20
}

// TestChaos does to a fleet under load what bad days do: Chrome is killed,
// frozen and replaced, connections are cut, releases come one upon the other, go
// back, and are broken, callers leave. Whatever answer there is is right by its
// text, nobody waits for ever, and in the end the fleet is whole and of the last
// release, and nothing is left of what was killed.
func TestChaos(t *testing.T) {
	c := &chaos{random: rand.New(rand.NewPCG(chaosSeed, 1)), seen: map[int]bool{}}
	realm, prerender := freeAddr(t), freeAddr(t)
	c.toRealm, c.toPrerender = startRelay(t, realm), startRelay(t, prerender)
	f := startFleet(t, func(o *app.UpOptions) {
		o.RealmAddr, o.RealmURL = realm, c.toRealm.URL()
		o.PrerenderAddr, o.Prerender.URL = prerender, c.toPrerender.URL()
		o.Prerender.PingTimeout = 2 * time.Second
		o.Prerender.Wear.Pages = 12
	})
	f.origin = "http://" + realm // no cut is between it and its visitors
	c.fleet = f
	l := &load{f: f, mode: words.ModeDefault, older: map[int]int{}, mayRefuse: true, cuts: &c.cuts}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var running sync.WaitGroup
	for caller := range 2 {
		running.Go(func() { l.call(ctx, caller) })
	}
	running.Go(func() { l.leave(ctx) })
	for n := range chaosEvents() {
		name := c.event(n)
		t.Logf("event %d: %s", n, name)
		before := l.answers.Load()
		f.until("callers get answers after "+name, func() bool { return t.Failed() || l.answers.Load() > before })
		if t.Failed() {
			break
		}
	}
	last := f.deploy("final")
	f.completeOn(last)
	stop()
	running.Wait()
	judgeStore(t, f)
	c.judgeLeftovers()
	if breaches := f.metric(`rewarm_prerender_invariant_violations_total{invariant="never_stale"}`); breaches != 0 {
		t.Errorf("%v breaches of never_stale were caught", breaches)
	}
	t.Logf("%d answers, %d refusals, %d broken by a cut, %d browsers", l.answers.Load(), l.refused.Load(), l.broken.Load(), len(c.seen))
}

type chaos struct {
	*fleet
	random               *rand.Rand
	toRealm, toPrerender *relay
	cuts                 atomic.Int64 // of connections to the realm, so far
	seen                 map[int]bool // process ids of browsers
}

// event does one thing and returns its name.
func (c *chaos) event(n int) string {
	c.seen[c.browserPID()] = true
	switch c.random.IntN(9) {
	case 0:
		return c.signal(syscall.SIGKILL, "Chrome is killed")
	case 1:
		return c.signal(syscall.SIGSTOP, "Chrome is frozen")
	case 2:
		c.deploy(fmt.Sprintf("a%d", n))
		c.deploy(fmt.Sprintf("b%d", n))
		return "a deploy during a deploy"
	case 3:
		c.deploy("r0")
		return "a rollback"
	case 4:
		return c.breakHost()
	case 5:
		c.deploy(fmt.Sprintf("k%d", n))
		return "a deploy, and " + c.signal(syscall.SIGKILL, "Chrome is killed in the middle of it")
	case 6:
		// What a page was loading then is missing in it: its renders may say so.
		c.cuts.Add(1)
		n := c.toRealm.cut()
		c.cuts.Add(1)
		return fmt.Sprintf("%d connections to the realm are cut", n)
	case 7:
		return fmt.Sprintf("%d connections to the prerender server are cut", c.toPrerender.cut())
	default:
		c.deploy(fmt.Sprintf("d%d", n))
		return "a deploy"
	}
}

func (c *chaos) signal(sig syscall.Signal, name string) string {
	pid := c.browserPID()
	if pid <= 0 {
		return name + ", but none runs"
	}
	if err := syscall.Kill(pid, sig); err != nil {
		return name + ": " + err.Error()
	}
	return name
}

// judgeLeftovers: of every browser but the last nothing is left, neither a
// process nor a profile.
func (c *chaos) judgeLeftovers() {
	c.t.Helper()
	last := c.browserPID()
	for pid := range c.seen {
		if pid > 0 && pid != last {
			c.groupGone(pid)
		}
	}
	c.until("one profile is left", func() bool {
		profiles, err := filepath.Glob(filepath.Join(c.data, "*", "chrome-*"))
		direct, _ := filepath.Glob(filepath.Join(c.data, "chrome-*"))
		return err == nil && len(profiles)+len(direct) == 1
	})
}

// breakHost leaves half a release in the host directory: it must be refused,
// and the one before served on.
func (c *chaos) breakHost() string {
	before := c.token()
	if err := os.WriteFile(filepath.Join(c.host, "index.html"), []byte(`<script src="/not-there.js"></script>`), 0o600); err != nil {
		c.t.Fatal(err)
	}
	answer := c.postDeployment()
	if answer.Accepted || answer.Reason == "" || c.token() != before {
		c.t.Errorf("half a release was accepted: %+v", answer)
	}
	return "half a release"
}

// leave asks for renders and does not wait for them.
func (l *load) leave(ctx context.Context) {
	for n := 0; ctx.Err() == nil; n++ {
		impatient, cancel := context.WithTimeout(ctx, time.Duration(n%40)*time.Millisecond)
		_, _ = l.f.visit(impatient, routes[n%len(routes)], words.ModeDefault)
		cancel()
	}
}
