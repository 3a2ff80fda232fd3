package release

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/rewarm/rewarm/internal/words"
)

// gatedSays is one presence of a gated realm server, with its candidate.
func gatedSays(b *Book, seconds int, name string, serves, holds words.Token) {
	b.Report(at(seconds), Report{Token: serves, Source: words.SourcePresence, Reporter: name, Gated: true, Holds: holds})
	if holds != "" {
		b.Report(at(seconds), Report{Token: holds, Source: words.SourcePresence, Reporter: name, Candidate: true, DeploymentID: "d " + string(holds)})
	}
}

// gatedPair is two realm servers that serve a, known for long enough.
func gatedPair() *Book {
	b := Open(State{}, nil)
	for s := 0; s <= 10; s += 5 {
		gatedSays(b, s, "r1", "a", "")
		gatedSays(b, s, "r2", "a", "")
	}
	return b
}

func TestTheFirstReleaseOfAFleetNeedsNoPromotion(t *testing.T) {
	b := Open(State{}, nil)
	gatedSays(b, 0, "r1", "a", "b")
	current(t, b, 1, "a")
}

func TestCandidateWaitsForEveryLiveGatedServer(t *testing.T) {
	b := gatedPair()
	gatedSays(b, 11, "r1", "a", "b")
	c, ok := b.Candidate(at(11))
	if !ok || c.Token != "b" || c.Ready() || !strings.HasSuffix(c.Waits(), "do not have it: r2") {
		t.Fatalf("%+v: %s", c, c.Waits())
	}
	if o := b.Pass(at(11), "b"); o.New != nil {
		t.Errorf("promoted though r2 does not have it: %+v", o)
	}
	gatedSays(b, 12, "r2", "a", "b")
	if c, _ = b.Candidate(at(12)); !c.Ready() || !c.Since.Equal(at(11)) || c.DeploymentID != "d b" {
		t.Fatalf("%+v", c)
	}
	if o := b.Pass(at(12), "b"); o.New == nil || o.New.Source != words.SourceDeployment || o.New.DeploymentID != "d b" || !b.Changed() {
		t.Fatalf("%+v", o)
	}
	current(t, b, 2, "b")
	if c, ok := b.Candidate(at(12)); ok {
		t.Errorf("what was promoted is a candidate still: %+v", c)
	}
}

func TestASilentServerIsNotWaitedFor(t *testing.T) {
	b := gatedPair() // r2 was last heard at 10
	for s := 11; s <= 26; s += 5 {
		gatedSays(b, s, "r1", "a", "b")
	}
	if c, _ := b.Candidate(at(26)); !c.Ready() {
		t.Errorf("%+v: %s", c, c.Waits())
	}
}

// After the loss of what was known of reporters, one that speaks first is not
// taken for the only one.
func TestWhoeverIsLiveHasTheTimeToBeHeard(t *testing.T) {
	b := gatedPair()
	b = Open(b.State(), nil)
	gatedSays(b, 20, "r1", "a", "b")
	if o := b.Pass(at(20), "b"); o.New != nil {
		t.Fatalf("promoted before r2 could be heard: %+v", o)
	}
	gatedSays(b, 24, "r2", "a", "")
	gatedSays(b, 25, "r1", "a", "b")
	gatedSays(b, 30, "r1", "a", "b")
	if c, _ := b.Candidate(at(30)); c.Ready() || len(c.Missing) != 1 {
		t.Errorf("%+v", c)
	}
}

func TestNothingButAnOrderBringsARefusedCandidateBack(t *testing.T) {
	b := gatedPair()
	hold := func(s int, token words.Token) { gatedSays(b, s, "r1", "a", token); gatedSays(b, s, "r2", "a", token) }
	hold(11, "b")
	if o := b.Refuse(at(11), Refusal{Token: "b", Detail: "broken", Checks: []words.Verdict{{URL: "u"}}}); o.Refused == nil {
		t.Fatal("not refused")
	}
	raw, _ := json.Marshal(b.State())
	var stored State
	if err := json.Unmarshal(raw, &stored); err != nil {
		t.Fatal(err)
	}
	b = Open(stored, b.Reporters(at(11)))
	for s := 12; s < 100; s += 5 {
		hold(s, "b")
		if b.Tick(at(s)).New != nil || b.Pass(at(s), "b").New != nil {
			t.Fatalf("promoted at %d s", s)
		}
	}
	if c, _ := b.Candidate(at(97)); c.Refusal == nil || c.Refusal.Detail != "broken" || len(c.Refusal.Checks) != 1 {
		t.Errorf("%+v", c)
	}
	hold(100, "c")
	if c, _ := b.Candidate(at(100)); c.Token != "c" || !c.Ready() {
		t.Errorf("a newer one: %+v", c)
	}
	hold(101, "b")
	if c, _ := b.Candidate(at(101)); c.Token != "b" || c.Refusal == nil {
		t.Errorf("the refused one again: %+v", c)
	}
	if o := b.Recheck(at(101)); o.New != nil {
		t.Errorf("%+v", o)
	}
	if c, _ := b.Candidate(at(101)); !c.Ready() {
		t.Errorf("after restart: %+v", c)
	}
	b.Refuse(at(101), Refusal{Token: "b", Detail: "broken"})
	if o := b.Resume(at(101), "", true); o.New == nil || o.New.Source != words.SourceOperator {
		t.Errorf("resumed: %+v", o)
	}
	current(t, b, 2, "b")
}

func TestResumeAfterAPauseLeavesTheCandidateToItsCheck(t *testing.T) {
	b := gatedPair()
	gatedSays(b, 11, "r1", "a", "b")
	if o := b.Resume(at(11), "", true); o.New != nil {
		t.Errorf("%+v", o)
	}
	if o := b.Resume(at(11), "", false); o.New == nil {
		t.Error("an operator does not wait for r2")
	}
}

// A replica that starts with the files of a release of before is an old one, as
// without gated promotion; a deploy of them is a way back.
func TestASupersededReleaseIsACandidateOnlyIfItWasDeployed(t *testing.T) {
	b := gatedPair()
	gatedSays(b, 11, "r1", "a", "b")
	gatedSays(b, 11, "r2", "a", "b")
	b.Pass(at(11), "b")
	gatedSays(b, 12, "r1", "b", "")
	gatedSays(b, 12, "r2", "b", "a")
	if c, ok := b.Candidate(at(12)); ok {
		t.Fatalf("an old replica has a candidate: %+v", c)
	}
	if o := b.Resume(at(12), "", false); o.New != nil {
		t.Errorf("%+v", o)
	}
	deploy := Report{Token: "a", Source: words.SourceDeployment, Reporter: "r2", Candidate: true}
	b.Report(at(13), deploy)
	if c, ok := b.Candidate(at(13)); !ok || c.Token != "a" || len(c.Missing) != 1 {
		t.Errorf("deployed: %+v", c)
	}
	gatedSays(b, 14, "r2", "b", "a") // its presence takes nothing back
	gatedSays(b, 14, "r1", "b", "a")
	if o := b.Pass(at(14), "a"); o.New == nil || !o.Rollback {
		t.Errorf("%+v", o)
	}
}

func TestACandidateThatIsHeldNoMoreIsNone(t *testing.T) {
	b := gatedPair()
	gatedSays(b, 11, "r1", "a", "b")
	gatedSays(b, 11, "r2", "a", "b")
	gatedSays(b, 12, "r1", "a", "") // its host went back
	if o := b.Pass(at(12), "b"); o.New != nil {
		t.Errorf("promoted though r1 holds it no more: %+v", o)
	}
	gatedSays(b, 12, "r2", "a", "")
	if c, ok := b.Candidate(at(12)); ok {
		t.Errorf("%+v", c)
	}
}

func TestUndoDropsTheCandidateFirst(t *testing.T) {
	b := gatedPair()
	hold := func(s int, serves, holds words.Token) {
		gatedSays(b, s, "r1", serves, holds)
		gatedSays(b, s, "r2", serves, holds)
	}
	hold(11, "a", "b")
	b.Pass(at(11), "b")
	hold(12, "b", "c")
	if o := b.Undo(at(12), ""); o.Refused == nil || !o.Refused.Dropped || o.New != nil {
		t.Fatalf("of a pending candidate: %+v", o)
	}
	if o := b.Resume(at(12), "", false); o.New != nil {
		t.Errorf("a dropped one was resumed: %+v", o)
	}
	if b.Recheck(at(12)); b.Pass(at(12), "c").New != nil {
		t.Error("a dropped one was checked again")
	}
	if o := b.Undo(at(13), ""); o.New != nil || !strings.Contains(o.Unchanged, "release c was undone already; the current one is undone by its name: `rewarm rollout undo --release b`") {
		t.Fatalf("once more: %+v", o)
	}
	if o := b.Undo(at(13), "b"); o.New == nil || o.New.Token != "a" || !o.Rollback {
		t.Fatalf("of the current release: %+v", o)
	}
	// The host directory still has c, and the servers come from b.
	for s := 14; s < 60; s += 5 {
		hold(s, "a", "c")
		if b.Tick(at(s)).New != nil || b.Pass(at(s), "c").New != nil {
			t.Fatalf("promoted at %d s", s)
		}
	}
	for _, named := range []words.Token{"", "a", "b"} {
		if o := b.Undo(at(60), named); o.New != nil {
			t.Errorf("%q: it went back to what was undone: %+v", named, o)
		}
	}
	current(t, b, 3, "a")
	if o := b.Report(at(61), say("ops", "b", words.SourceOperator)); o.New == nil {
		t.Error("an operator's report overrules that it was undone")
	}
	if _, refused := b.refusal("b"); refused {
		t.Error("it is current and refused")
	}
}

func TestAPresenceUnderGatedPromotionMovesNothing(t *testing.T) {
	b := gatedPair()
	for s := 11; s < 60; s += 5 {
		for _, served := range []words.Token{"z", "a"} { // unknown, then known
			b.Report(at(s), Report{Token: served, Source: words.SourceDeployment, Reporter: "r1", Gated: true})
		}
	}
	current(t, b, 1, "a")
	// One that serves what nobody promoted, for it has no other, holds it.
	gatedSays(b, 60, "r1", "z", "")
	if c, ok := b.Candidate(at(60)); !ok || c.Token != "z" || !strings.Contains(strings.Join(c.Have, " "), "r1") {
		t.Errorf("%+v", c)
	}
}

func TestEvidenceIsBounded(t *testing.T) {
	b := gatedPair()
	for i := range 3 * MaxRefused {
		token := words.Token("t" + string(rune('a'+i)))
		gatedSays(b, 11+i, "r1", "a", token)
		b.Refuse(at(11+i), Refusal{Token: token, Detail: strings.Repeat("x", 1<<20), Checks: []words.Verdict{{URL: strings.Repeat("u", 1<<10)}}})
	}
	state := b.State()
	raw, err := json.Marshal(state)
	if err != nil || len(state.Refused) != MaxRefused || len(raw) > 64<<10 || len(state.Refused[0].Checks) != 1 || state.Refused[1].Checks != nil {
		t.Errorf("%d refusals, %d bytes, %v", len(state.Refused), len(raw), err)
	}
	gatedSays(b, 90, "r1", "a", "huge")
	b.Refuse(at(90), Refusal{Token: "huge", Checks: []words.Verdict{{URL: strings.Repeat("u", MaxEvidence)}}})
	if r, _ := b.refusal("huge"); r.Checks != nil {
		t.Error("evidence beyond the bound was kept")
	}
}

// An operator who stops the realm servers because of a release, and undoes it
// then, does not get it back when they return.
func TestWhatIsUndoneWhileNoServerIsLiveStaysUndone(t *testing.T) {
	for name, gone := range map[string]int{"of late": 40, "and forgotten": 600} {
		t.Run(name, func(t *testing.T) {
			b := gatedPair()
			hold := func(s int, serves, holds words.Token) {
				gatedSays(b, s, "r1", serves, holds)
				gatedSays(b, s, "r2", serves, holds)
			}
			hold(11, "a", "b")
			b.Pass(at(11), "b")
			hold(22, "b", "")
			b = Open(b.State(), b.Reporters(at(gone)))
			if o := b.Undo(at(gone), ""); o.New == nil || o.New.Token != "a" {
				t.Fatalf("%+v", o)
			}
			for s := gone + 1; s < gone+60; s += 5 {
				hold(s, "a", "b")
				if o := b.Pass(at(s), "b"); o.New != nil {
					t.Fatalf("promoted again after %d s", s-gone)
				}
			}
		})
	}
}

// A realm server that lacks a release goes on serving what is undone.
func TestUndoGoesBackToWhatEveryServerHas(t *testing.T) {
	says := func(b *Book, s int, name string, kept ...words.Token) {
		b.Report(at(s), Report{Token: "c", Source: words.SourcePresence, Reporter: name, Gated: true, Kept: kept})
	}
	begin := func() *Book {
		b := gatedPair()
		for s, token := range []words.Token{"b", "c"} {
			b.Report(at(11+s), say("ops", token, words.SourceOperator))
		}
		says(b, 13, "r1", "c", "b", "a")
		return b
	}
	t.Run("not to what one lacks", func(t *testing.T) {
		b := begin()
		says(b, 13, "r2", "c", "a")
		if o := b.Undo(at(13), ""); o.New == nil || o.New.Token != "a" {
			t.Errorf("%+v", o)
		}
	})
	t.Run("not at all when every one is lacked", func(t *testing.T) {
		b := begin()
		says(b, 13, "r2", "c")
		if o := b.Undo(at(13), ""); o.New != nil || !strings.HasPrefix(o.Declined, "release b is no longer on r2; ") {
			t.Errorf("%+v", o)
		}
		if o := b.Undo(at(13+60), ""); o.New == nil || o.New.Token != "b" {
			t.Errorf("r2 is gone: %+v", o)
		}
	})
	t.Run("one that does not say is no hindrance", func(t *testing.T) {
		b := begin()
		says(b, 13, "r2")
		if o := b.Undo(at(13), ""); o.New == nil || o.New.Token != "b" {
			t.Errorf("%+v", o)
		}
	})
}

func TestAFleetThatIsGatedNoMoreRefusesNothingOnUndo(t *testing.T) {
	b := gatedPair()
	b.Report(at(400), say("r3", "b", words.SourceBoot))
	if o := b.Undo(at(401), ""); o.New == nil || len(b.State().Refused) != 0 {
		t.Errorf("%+v, %+v", o, b.State().Refused)
	}
	for _, again := range []words.Token{"", "b"} {
		if o := b.Undo(at(402), again); o.New != nil || o.Unchanged == "" {
			t.Errorf("again, of %q: %+v", again, o)
		}
	}
	if o := b.Undo(at(403), "a"); o.New == nil || o.New.Token != "b" {
		t.Errorf("of what it led to: %+v", o)
	}
}

// Candidate is asked for at every report: its work must not grow with the
// square of the servers, all of which hold the same.
func BenchmarkCandidateOfAThousandServers(b *testing.B) {
	book := Open(State{}, nil)
	for i := range 1000 {
		gatedSays(book, 0, fmt.Sprintf("r%d", i), "a", "b")
	}
	for b.Loop() {
		if _, ok := book.Candidate(at(1)); !ok {
			b.Fatal("none")
		}
	}
}

func TestACandidateWithOtherFilesIsAnotherOne(t *testing.T) {
	b := gatedPair()
	candidate := func(s int, name string, since int) {
		b.Report(at(s), Report{Token: "b", Source: words.SourcePresence, Reporter: name, Candidate: true, Since: at(since)})
	}
	candidate(11, "r1", 7)
	candidate(12, "r2", 8)
	checked, _ := b.Candidate(at(12))
	candidate(15, "r1", 7)
	if !b.Still(at(15), checked) {
		t.Error("a presence made another of it")
	}
	candidate(16, "r1", 9) // its host has other files
	if b.Still(at(16), checked) {
		t.Error("a verdict on the files of before holds")
	}
	if now, _ := b.Candidate(at(16)); !b.Still(at(16), now) || !now.Since.Equal(at(12)) {
		t.Errorf("%+v", now)
	}
}

// What an operator read is older than the order. Nothing is promoted that was
// never checked and that the order need not mean.
func TestAnOrderMeansTheReleaseThatItNames(t *testing.T) {
	b := gatedPair()
	both := func(s int, token words.Token) { gatedSays(b, s, "r1", "a", token); gatedSays(b, s, "r2", "a", token) }
	declines := func(what string, o Outcome) {
		t.Helper()
		if o.New != nil || o.Refused != nil || o.Declined == "" {
			t.Errorf("%s: %+v", what, o)
		}
	}
	both(11, "b")
	declines("resume of what is being checked", b.Resume(at(11), "", false))
	b.Refuse(at(11), Refusal{Token: "b", Detail: "broken"})
	gatedSays(b, 12, "r1", "a", "c") // c begins to arrive
	declines("resume of c instead of b", b.Resume(at(12), "", false))
	declines("resume of b", b.Resume(at(12), "b", false))
	declines("undo of b", b.Undo(at(12), "b"))
	gatedSays(b, 13, "r2", "a", "") // and b is held no more
	declines("resume of c, b being refused of late", b.Resume(at(13), "", false))
	if o := b.Resume(at(13), "c", false); o.New == nil || o.New.Token != "c" {
		t.Errorf("of c by its name: %+v", o)
	}
	gatedSays(b, 14, "r1", "c", "d")
	gatedSays(b, 14, "r2", "c", "d")
	if o := b.Undo(at(14), "c"); o.New == nil || o.New.Token != "a" {
		t.Errorf("undo of what is current, though d is next: %+v", o)
	}
	if o := b.Undo(at(14), "c"); o.New != nil || o.Refused != nil || o.Unchanged == "" {
		t.Errorf("undo of it again: %+v", o)
	}
	if o := b.Undo(at(14), "d"); o.Refused == nil || o.Refused.Token != "d" {
		t.Errorf("undo of the candidate: %+v", o)
	}
	declines("resume of what was dropped", b.Resume(at(14), "d", false))
}
