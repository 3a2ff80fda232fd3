package release

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rewarm/rewarm/internal/words"
)

// maxStored is less than a message of the store may have.
const maxStored = 1 << 20

// FuzzBook restores a book from what a store may hold, and goes on with it.
func FuzzBook(f *testing.F) {
	f.Add([]byte(`{"v":1,"sequence":7,"history":[{"sequence":7,"token":"b","since":"2026-01-02T03:04:05Z","source":"boot"},{"sequence":3,"token":"a"}]}`),
		[]byte(`[{"name":"r1","token":"b","on":"2026-01-02T03:04:05Z","lastSeenAt":"2026-01-02T03:04:05Z","realms":["http://a"]}]`), "a", "deployment", "r1", "d1")
	f.Add([]byte(`{"v":9,"sequence":1,"history":[{"sequence":9,"token":"b"},{"sequence":5,"token":"b"}]}`), []byte(`[{}]`), "b", "presence", "", "")
	f.Add([]byte(`{"history":null}`), []byte(`null`), "c", "", "r\xff\n", strings.Repeat("\x01", 2000))
	f.Fuzz(func(t *testing.T, stored, reported []byte, token, source, reporter, deployment string) {
		var state State
		var reporters []Reporter
		if json.Unmarshal(stored, &state) != nil || json.Unmarshal(reported, &reporters) != nil {
			return
		}
		hash, err := words.ParseToken(token)
		if err != nil || len(source) > len(words.SourceDeployment) {
			return
		}
		b := Open(state, reporters)
		before := b.State()
		if diff := cmp.Diff(before, Open(before, nil).State()); diff != "" {
			t.Errorf("restored twice it is another: %s", diff)
		}
		if before.Sequence == math.MaxUint64 {
			return // there is none after it, and no fleet comes near
		}
		sane(t, b)
		old, had := b.Current()
		outcome := b.Report(at(0), Report{Token: hash, Source: words.Source(source), Reporter: reporter, DeploymentID: deployment})
		sane(t, b)
		made, _ := b.Current()
		switch {
		case outcome.New != nil && (*outcome.New != made || made.Sequence <= before.Sequence):
			t.Errorf("after %+v came %+v, and %+v is current", before, *outcome.New, made)
		case outcome.New == nil && (!had || made != old):
			t.Errorf("%q changed %+v to %+v", outcome.Name(), old, made)
		case words.Source(source) == words.SourceOperator && made.Token != hash:
			t.Errorf("an operator's %q is not current, but %+v", hash, made)
		}
		b.Tick(at(100))
		sane(t, b)
		gated := Report{Token: made.Token, Source: words.SourcePresence, Reporter: reporter, Gated: true, Holds: hash}
		b.Report(at(101), gated)
		gated.Candidate, gated.Token, gated.DeploymentID = true, words.Token(strings.Repeat("c", 32)), deployment
		b.Report(at(101), gated)
		for _, order := range []func() Outcome{
			func() Outcome { return b.Refuse(at(102), Refusal{Token: gated.Token, Detail: deployment}) },
			func() Outcome { return b.Recheck(at(102)) },
			func() Outcome { return b.Undo(at(102), "") },
			func() Outcome { return b.Undo(at(102), "") },
			func() Outcome { return b.Resume(at(102), "", false) },
		} {
			old, _ := b.Current()
			o := order()
			sane(t, b)
			now, _ := b.Current()
			if (o.New != nil) != (old != now) || o.New != nil && now.Sequence <= old.Sequence {
				t.Errorf("%+v led from %+v to %+v", o, old, now)
			}
			if r, refused := b.refusal(now.Token); refused && o.New != nil {
				t.Errorf("what became current is refused: %+v", r)
			}
		}
		made, _ = b.Current()
		if encoded, err := json.Marshal(made); err != nil || len(encoded) > maxStored/MaxHistory {
			t.Errorf("a release has %d bytes, %v: %d of them are not stored", len(encoded), err, MaxHistory)
		}
	})
}

// sane holds that every release of a book can be told, and the current one
// after all others.
func sane(t *testing.T, b *Book) {
	t.Helper()
	state := b.State()
	for _, r := range state.History {
		if token, err := words.ParseToken(string(r.Token)); err != nil || token != r.Token || r.Sequence == 0 || r.Sequence > state.Sequence || r.Sequence > state.History[0].Sequence {
			t.Errorf("%+v is in the history of %+v: %v", r, state, err)
		}
	}
	for _, r := range b.Reporters(at(0)) {
		if r.Behind && r.Token == state.History[0].Token {
			t.Errorf("%+v is behind itself", r)
		}
	}
}
