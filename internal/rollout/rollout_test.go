package rollout

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rewarm/rewarm/internal/words"
)

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func release(n uint64, token words.Token) words.Release {
	return words.Release{Sequence: n, Token: token, Since: t0}
}

func pages(n int, tokens ...words.Token) map[words.Token]int {
	m := map[words.Token]int{}
	for _, t := range tokens {
		m[t] = n
	}
	return m
}

func fleet(n int, token words.Token) []Server {
	var out []Server
	for i := range n {
		out = append(out, Server{URL: fmt.Sprintf("http://s%02d", i), Pages: pages(2, token)})
	}
	return out
}

func permitted(p Plan) (n int) {
	for _, s := range p.Servers {
		if s.Permitted {
			n++
		}
	}
	return n
}

func TestNoRelease(t *testing.T) {
	var r Rollout
	if p := r.Next(Input{Now: t0, Servers: fleet(2, "a")}); p.Phase != None || permitted(p) != 0 {
		t.Errorf("got %+v", p)
	}
}

func TestW19_OneCanaryThenWavesOfAQuarter(t *testing.T) {
	var r Rollout
	servers := fleet(8, "old")
	in := Input{Now: t0, Release: release(2, "new"), Servers: servers}
	p := r.Next(in)
	if p.Phase != Canary || permitted(p) != 1 || p.CanaryPassed {
		t.Fatalf("first wave: %+v", p)
	}
	servers[0].Pages = pages(1, "old", "new")
	if p = r.Next(in); permitted(p) != 1 {
		t.Fatalf("a canary half way lets nobody follow: %+v", p)
	}
	servers[0].Pages = pages(2, "new")
	if p = r.Next(in); p.Phase != Rolling || permitted(p) != 3 || !p.CanaryPassed {
		t.Fatalf("second wave: %+v", p)
	}
	servers[1].Pages = pages(2, "new")
	if p = r.Next(in); permitted(p) != 4 {
		t.Fatalf("one moved, one may follow: %+v", p)
	}
	for i := range servers {
		servers[i].Pages = pages(2, "new")
	}
	in.Now = t0.Add(time.Minute)
	p = r.Next(in)
	if p.Phase != Complete || !p.FinishedAt.Equal(in.Now) || !p.StartedAt.Equal(t0) {
		t.Fatalf("end: %+v", p)
	}
	in.Now = t0.Add(time.Hour)
	if p = r.Next(in); !p.FinishedAt.Equal(t0.Add(time.Minute)) {
		t.Errorf("the end moved: %v", p.FinishedAt)
	}
}

// Nobody follows the canary before the verdict on its pages, nor after one that
// says they break, until an operator overrules it.
func TestTheFleetWaitsForTheCanarysVerdict(t *testing.T) {
	var r Rollout
	servers := fleet(4, "old")
	in := Input{Now: t0, Release: release(2, "new"), Servers: servers, Canary: Check{Wanted: true}}
	if p := r.Next(in); p.Phase != Canary || permitted(p) != 1 || p.Canary != "" {
		t.Fatalf("first: %+v", p)
	}
	servers[0].Pages = pages(2, "new")
	if p := r.Next(in); p.Phase != Canary || permitted(p) != 1 || p.CanaryPassed || p.Canary != servers[0].URL {
		t.Fatalf("before the verdict: %+v", p)
	}
	in.Canary.Broken = "/ breaks"
	if p := r.Next(in); p.Phase != Paused || permitted(p) != 1 || p.CanaryPassed || !strings.Contains(p.Detail, "/ breaks") {
		t.Fatalf("broken: %+v", p)
	}
	in.Canary = Check{Wanted: true, Passed: true}
	if p := r.Next(in); p.Phase != Rolling || permitted(p) != 2 || !p.CanaryPassed {
		t.Fatalf("overruled: %+v", p)
	}
	in.Release, in.Canary = release(3, "newer"), Check{Wanted: true}
	if p := r.Next(in); p.Phase != Canary || p.CanaryPassed || p.Canary != "" {
		t.Fatalf("the next release has a verdict of its own: %+v", p)
	}
}

// A fleet of one is not complete before the verdict either; a canary that is
// gone leaves the check to another.
func TestAFleetOfOneIsNotCompleteBeforeTheVerdict(t *testing.T) {
	var r Rollout
	in := Input{Now: t0, Release: release(2, "new"), Servers: fleet(2, "new"), Canary: Check{Wanted: true}}
	p := r.Next(in)
	if p.Phase != Canary || !p.FinishedAt.IsZero() || p.Canary == "" {
		t.Fatalf("before the verdict: %+v", p)
	}
	gone := p.Canary
	in.Servers = slices.DeleteFunc(in.Servers, func(s Server) bool { return s.URL == gone })
	if p = r.Next(in); p.Canary == "" || p.Canary == gone {
		t.Fatalf("the canary is gone: %+v", p)
	}
	in.Canary.Broken = "/ breaks"
	if p = r.Next(in); p.Phase != Paused {
		t.Fatalf("broken: %+v", p)
	}
	in.Canary = Check{Wanted: true, Passed: true}
	if p = r.Next(in); p.Phase != Complete || p.FinishedAt.IsZero() {
		t.Fatalf("passed: %+v", p)
	}
}

func TestPhases(t *testing.T) {
	failed := Server{URL: "http://a", Pages: pages(1, "old"), Phase: words.PhaseFailed, Detail: "the shell's script is gone", Desired: "new"}
	waiting := Server{URL: "http://a", Pages: pages(1, "old"), Phase: words.PhaseWaiting, Detail: "the host serves old", Desired: "new"}
	unheard := Server{URL: "http://a", Pages: pages(1, "old"), Phase: words.PhaseWaiting}
	moved := Server{URL: "http://b", Pages: pages(1, "new")}
	empty := Server{URL: "http://c"}
	leaving := Server{URL: "http://d", Pages: pages(1, "old"), Draining: true}
	for name, c := range map[string]struct {
		servers      []Server
		paused, away bool
		phase        Phase
		detail       string
	}{
		"nobody is live":                {nil, false, false, Waiting, "no prerender server is live"},
		"only one that leaves":          {[]Server{leaving}, false, false, Waiting, "no prerender server is live"},
		"all moved":                     {[]Server{moved}, false, false, Complete, "1 of 1"},
		"one leaving does not hold up":  {[]Server{moved, leaving}, false, false, Complete, "1 of 1"},
		"no pages is not complete":      {[]Server{moved, empty}, false, false, Rolling, "1 of 2"},
		"canary cannot":                 {[]Server{failed}, false, false, Failed, "script is gone"},
		"the host is behind":            {[]Server{waiting, moved}, false, false, Waiting, "the host serves old"},
		"not heard of its permission":   {[]Server{unheard}, false, false, Canary, "canary"},
		"paused":                        {[]Server{unheard, moved}, true, false, Paused, "nothing of the new release is stored"},
		"paused after the end":          {[]Server{moved}, true, false, Complete, "paused: the next release will wait"},
		"store away":                    {[]Server{unheard, moved}, false, true, Waiting, "the store is away"},
		"one of two that move can move": {[]Server{failed, {URL: "http://e", Desired: "new", Pages: pages(1, "old")}}, false, false, Canary, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var r Rollout
			p := r.Next(Input{Now: t0, Release: release(2, "new"), Servers: c.servers, Paused: c.paused, StoreAway: c.away})
			if p.Phase != c.phase || !strings.Contains(p.Detail, c.detail) {
				t.Errorf("got %s %q, want %s %q", p.Phase, p.Detail, c.phase, c.detail)
			}
		})
	}
}

func TestHeldBackGivesNoPermission(t *testing.T) {
	for _, in := range []Input{{Paused: true}, {StoreAway: true}} {
		var r Rollout
		in.Now, in.Release, in.Servers = t0, release(2, "new"), fleet(4, "old")
		if p := r.Next(in); permitted(p) != 0 {
			t.Errorf("%+v", p)
		}
		in.Servers[1].Pages = nil // nothing to move
		if p := r.Next(in); permitted(p) != 1 || !p.Permits("http://s01") {
			t.Errorf("an empty server has nothing to move: %+v", p)
		}
		in.Paused, in.StoreAway = false, false
		in.Servers[1].Pages = pages(1, "new")
		if p := r.Next(in); permitted(p) != 2 {
			t.Errorf("resumed: %+v", p)
		}
	}
}

func TestPermissionIsSeenAgainAfterARestart(t *testing.T) {
	servers := fleet(8, "old")
	servers[3].Desired = "new" // another manager's canary, or ours before a restart
	var r Rollout
	p := r.Next(Input{Now: t0, Release: release(2, "new"), Servers: servers})
	if permitted(p) != 1 || !p.Permits("http://s03") {
		t.Errorf("a second canary was chosen: %+v", p)
	}
}

func TestNextReleaseStartsOver(t *testing.T) {
	var r Rollout
	servers := fleet(8, "old")
	servers[0].Pages = pages(1, "new")
	r.Next(Input{Now: t0, Release: release(2, "new"), Servers: servers})
	if p := r.Next(Input{Now: t0, Release: release(3, "third"), Servers: servers}); permitted(p) != 1 || p.CanaryPassed {
		t.Errorf("got %+v", p)
	}
}

// TestModel moves a random fleet through random releases: a permission is
// never given beyond the budget nor beside an unproved canary, never taken
// back while its server lives, and every fleet whose servers make progress
// arrives.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r Rollout
		servers := fleet(rapid.IntRange(1, 20).Draw(t, "servers"), "t0")
		sequence := uint64(1)
		in := Input{Now: t0}
		before := map[string]bool{}
		step := func() Plan {
			in.Release = release(sequence, words.Token(fmt.Sprintf("t%d", sequence)))
			in.Servers = servers
			p := r.Next(in)
			check(t, p, before, in)
			clear(before)
			for i, s := range p.Servers {
				before[s.URL] = s.Permitted
				if s.Permitted {
					servers[i].Desired = in.Release.Token
				}
			}
			return p
		}
		for range rapid.IntRange(1, 60).Draw(t, "events") {
			i := rapid.IntRange(0, len(servers)-1).Draw(t, "server")
			switch rapid.IntRange(0, 5).Draw(t, "event") {
			case 0:
				sequence++
				clear(before)
			case 1, 2:
				if before[servers[i].URL] {
					servers[i].Pages = pages(1, servers[i].Desired)
				}
			case 3:
				in.Paused = !in.Paused
			case 4:
				servers[i].Pages = nil // its Chrome was replaced
			case 5:
				servers[i].Phase = rapid.SampledFrom([]words.Phase{words.PhaseFailed, words.PhaseWaiting, words.PhaseFresh}).Draw(t, "phase")
			}
			step()
		}
		in.Paused = false
		for range len(servers) + 1 {
			p := step()
			for i, s := range p.Servers {
				if s.Permitted {
					servers[i].Pages = pages(2, in.Release.Token)
				}
			}
		}
		if p := step(); p.Phase != Complete {
			t.Fatalf("did not arrive: %s %s", p.Phase, p.Detail)
		}
	})
}

func check(t *rapid.T, p Plan, before map[string]bool, in Input) {
	token := in.Release.Token
	moving, given := 0, 0
	for _, s := range p.Servers {
		if before[s.URL] && !s.Permitted {
			t.Fatalf("%s lost its permission", s.URL)
		}
		if s.Permitted && s.hasOther(token) {
			moving++
			if !before[s.URL] && s.Desired != token {
				given++
			}
		}
	}
	budget := Budget(len(p.Servers))
	if !p.CanaryPassed {
		budget = 1
	}
	if given > 0 && moving > budget {
		t.Fatalf("%d move, budget %d", moving, budget)
	}
	if given > 0 && in.Paused {
		t.Fatal("a wave advanced while paused")
	}
}
