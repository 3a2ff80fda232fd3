package release

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rewarm/rewarm/internal/words"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// at is start plus seconds.
func at(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }

func say(reporter string, token words.Token, source words.Source) Report {
	return Report{Token: token, Source: source, Reporter: reporter}
}

func current(t *testing.T, b *Book, sequence uint64, token words.Token) {
	t.Helper()
	r, ok := b.Current()
	if !ok || r.Sequence != sequence || r.Token != token {
		t.Fatalf("current is %d %q (%v), want %d %q", r.Sequence, r.Token, ok, sequence, token)
	}
}

func TestFirstReportMakesTheFirstRelease(t *testing.T) {
	b := Open(State{}, nil)
	if _, ok := b.Current(); ok {
		t.Fatal("a release before any report")
	}
	o := b.Report(at(0), Report{Token: "a", Source: words.SourceDeployment, Reporter: "r1", DeploymentID: "d7"})
	want := words.Release{Sequence: 1, Token: "a", Since: at(0), Source: words.SourceDeployment, Reporter: "r1", DeploymentID: "d7"}
	if o.New == nil || *o.New != want || o.Name() != "new" {
		t.Fatalf("got %+v", o)
	}
	current(t, b, 1, "a")
}

func TestTheCurrentTokenChangesNothing(t *testing.T) {
	b := Open(State{}, nil)
	for i, source := range []words.Source{words.SourceBoot, words.SourcePresence, words.SourceDeployment, words.SourceOperator, words.SourceUnsaid} {
		o := b.Report(at(i), say("r1", "a", source))
		if i > 0 && (o.New != nil || o.Behind || o.Name() != "same") {
			t.Errorf("source %q: %+v", source, o)
		}
	}
	current(t, b, 1, "a")
}

func TestUnknownTokenOfAnOlderReplicaIsBehind(t *testing.T) {
	for _, source := range []words.Source{words.SourceBoot, words.SourcePresence, words.SourceDeployment, words.SourceOperator, words.SourceUnsaid} {
		b := Open(State{}, nil)
		b.Report(at(0), Report{Token: "new", Source: words.SourceBoot, Reporter: "r1", Since: at(-10)})
		o := b.Report(at(1), Report{Token: "old", Source: source, Reporter: "r2", Since: at(-3600)})
		behind := source == words.SourceBoot || source == words.SourcePresence
		if o.Behind != behind || (o.New == nil) != behind {
			t.Errorf("source %q: %+v", source, o)
		}
		if behind {
			// Once nobody live serves the current token, the old one is all there is.
			if o := b.Report(at(1+15), Report{Token: "old", Source: source, Reporter: "r2", Since: at(-3600)}); o.New == nil || o.Behind {
				t.Errorf("source %q, alone: %+v", source, o)
			}
			current(t, b, 2, "old")
		}
	}
}

func TestUnknownTokenWithoutAnEarlierSinceIsNew(t *testing.T) {
	for _, since := range []time.Time{{}, at(-10), at(5)} {
		b := Open(State{}, nil)
		b.Report(at(0), Report{Token: "a", Source: words.SourceBoot, Reporter: "r1", Since: at(-10)})
		if o := b.Report(at(1), Report{Token: "b", Source: words.SourceBoot, Reporter: "r2", Since: since}); o.New == nil {
			t.Errorf("since %v: %+v", since, o)
		}
	}
}

func TestSupersededTokenFromADeploymentIsARollback(t *testing.T) {
	for _, source := range []words.Source{words.SourceDeployment, words.SourceOperator, words.SourceUnsaid} {
		b := Open(State{}, nil)
		b.Report(at(0), say("r1", "a", words.SourceDeployment))
		b.Report(at(1), say("r1", "b", words.SourceDeployment))
		if o := b.Report(at(2), say("r1", "a", source)); o.New == nil || !o.Rollback || o.Behind || o.Name() != "rollback" {
			t.Errorf("source %q: %+v", source, o)
		}
		current(t, b, 3, "a")
	}
}

// Two replicas with different shells report in turn for an hour.
func TestW06_AlternatingReportersDoNotMoveTheFleet(t *testing.T) {
	for _, source := range []words.Source{words.SourceBoot, words.SourcePresence} {
		for _, names := range [][2]string{{"old", "new"}, {"", ""}} {
			b := Open(State{}, nil)
			b.Report(at(0), say(names[0], "a", source))
			b.Report(at(1), say(names[1], "b", source))
			for s := 2; s < 3600; s += 5 {
				if o := b.Report(at(s), say(names[0], "a", source)); o.New != nil || !o.Behind || o.Name() != "behind" {
					t.Fatalf("old replica: %+v", o)
				}
				if o := b.Report(at(s+1), say(names[1], "b", source)); o.New != nil || o.Behind {
					t.Fatalf("new replica: %+v", o)
				}
				if o := b.Tick(at(s + 2)); o.New != nil {
					t.Fatalf("tick: %+v", o)
				}
			}
			current(t, b, 2, "b")
		}
	}
}

func TestRollbackByRedeployingTakesTwoPresenceIntervals(t *testing.T) {
	b := Open(State{}, nil)
	b.Report(at(0), say("r1", "a", words.SourceBoot))
	b.Report(at(1), say("r1", "b", words.SourceBoot))
	for s := 10; s < 20; s++ {
		if o := b.Report(at(s), say("r1", "a", words.SourcePresence)); o.New != nil || !o.Behind {
			t.Fatalf("after %d s: %+v", s-10, o)
		}
	}
	o := b.Report(at(20), say("r1", "a", words.SourcePresence))
	if o.New == nil || !o.Rollback || o.Behind || o.New.Reporter != "r1" || o.Reporter.Behind {
		t.Fatalf("after 10 s: %+v", o)
	}
	current(t, b, 3, "a")
}

// The replicas of the newer release vanish without a word.
func TestRollbackByRedeployingWaitsForTheSilentToExpire(t *testing.T) {
	b := Open(State{}, nil)
	b.Report(at(0), say("r1", "a", words.SourceBoot))
	b.Report(at(1), say("r2", "b", words.SourceBoot)) // last heard; counts as live until 16
	for s := 2; s < 26; s++ {
		if s%5 == 0 {
			b.Report(at(s), say("r1", "a", words.SourcePresence))
		}
		if o := b.Tick(at(s)); o.New != nil {
			t.Fatalf("rolled back at %d s", s)
		}
	}
	if o := b.Tick(at(26)); o.New == nil || o.New.Token != "a" {
		t.Fatalf("at 26 s: %+v", o)
	}
}

func TestNobodyLiveIsNoRollback(t *testing.T) {
	b := Open(State{}, nil)
	b.Report(at(0), say("r1", "a", words.SourceBoot))
	b.Report(at(1), say("r1", "b", words.SourceBoot))
	b.Report(at(2), say("r1", "a", words.SourcePresence))
	for s := 20; s < 100; s++ {
		if o := b.Tick(at(s)); o.New != nil {
			t.Fatalf("rolled back at %d s by a reporter that is gone", s)
		}
	}
}

// Reporters are kept in memory by the store. Without them, one presence of an
// old replica must not decide before the others were heard.
func TestLostReportersDoNotRollBack(t *testing.T) {
	b := Open(State{}, nil)
	b.Report(at(0), say("old", "a", words.SourceBoot))
	b.Report(at(1), say("new", "b", words.SourceBoot))
	b = Open(b.State(), nil)
	for s := 5; s < 60; s += 5 {
		if o := b.Report(at(s), say("old", "a", words.SourcePresence)); o.New != nil {
			t.Fatalf("at %d s: %+v", s, o)
		}
		if o := b.Report(at(s+4), say("new", "b", words.SourcePresence)); o.New != nil {
			t.Fatalf("at %d s: %+v", s, o)
		}
	}
}

func TestW05_ARepeatedReportNeedsNoChangeToConverge(t *testing.T) {
	b := Open(State{}, nil)
	b.Report(at(0), say("r1", "a", words.SourceDeployment))
	// The report of b was lost: its presence says the same, as often as needed.
	if o := b.Report(at(5), say("r1", "b", words.SourcePresence)); o.New == nil {
		t.Fatalf("presence of a token never reported: %+v", o)
	}
	for s := 10; s < 100; s += 5 {
		if o := b.Report(at(s), say("r1", "b", words.SourcePresence)); o.New != nil {
			t.Fatalf("repeated: %+v", o)
		}
	}
	current(t, b, 2, "b")
}

func TestCandidateIsNoRelease(t *testing.T) {
	b := Open(State{}, nil)
	b.Report(at(0), say("r1", "a", words.SourceDeployment))
	o := b.Report(at(1), Report{Token: "b", Source: words.SourceDeployment, Reporter: "r1", Candidate: true})
	if o.New != nil || !o.Candidate || o.Name() != "candidate" {
		t.Fatalf("got %+v", o)
	}
	current(t, b, 1, "a")
}

func TestHistoryIsBoundedAndTheSequenceIsNot(t *testing.T) {
	b := Open(State{}, nil)
	for i := range 3 * MaxHistory {
		b.Report(at(i), say("r1", words.Token(fmt.Sprint("t", i)), words.SourceDeployment))
	}
	if n := len(b.State().History); n != MaxHistory {
		t.Errorf("%d releases kept", n)
	}
	current(t, b, 3*MaxHistory, words.Token(fmt.Sprint("t", 3*MaxHistory-1)))
	if b.Known("t0") || !b.Superseded(words.Token(fmt.Sprint("t", 3*MaxHistory-2))) {
		t.Error("the wrong releases were kept")
	}
	b = Open(State{Sequence: 41}, nil) // the history was lost, the sequence was not
	if o := b.Report(at(0), say("r1", "a", words.SourceBoot)); o.New == nil || o.New.Sequence != 42 {
		t.Errorf("got %+v", o)
	}
}

func TestReportersView(t *testing.T) {
	b := Open(State{}, nil)
	b.Report(at(0), Report{Token: "a", Source: words.SourceBoot, Reporter: "r1", Since: at(-5), Realms: []string{"http://x"}})
	b.Report(at(1), say("r2", "b", words.SourceBoot))
	b.Report(at(2), say("r1", "a", words.SourcePresence))
	b.Report(at(3), say("", "a", words.SourcePresence))
	b.Report(at(4), say(strings.Repeat("\u00e9", 300), "b", words.SourcePresence))
	got := b.Reporters(at(4))
	if len(got) != 4 {
		t.Fatalf("got %+v", got)
	}
	r1 := got[0]
	if r1.Name != "r1" || !r1.Behind || !r1.Since.Equal(at(-5)) || len(r1.Realms) != 1 || !r1.LastSeenAt.Equal(at(2)) || !r1.On.Equal(at(0)) {
		t.Errorf("r1: %+v", r1)
	}
	if r2 := got[1]; r2.Name != "r2" || r2.Behind {
		t.Errorf("r2: %+v", r2)
	}
	if r3 := got[2]; r3.Name != "unnamed a" || !r3.Behind {
		t.Errorf("without a name: %+v", r3)
	}
	// A name that was cut is the same after a round through JSON.
	raw, err := json.Marshal(got[3])
	var back Reporter
	if err != nil || json.Unmarshal(raw, &back) != nil || back.Name != got[3].Name || len(back.Name) > MaxReporterName {
		t.Errorf("long name: %q", got[3].Name)
	}
	if left := b.Reporters(at(4).Add(RememberFor)); len(left) != 0 {
		t.Errorf("remembered for ever: %+v", left)
	}
}
