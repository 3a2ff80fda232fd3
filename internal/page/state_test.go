package page

import (
	"testing"
	"time"

	"github.com/rewarm/rewarm/internal/settle"
	"github.com/rewarm/rewarm/internal/words"
)

// A proof of quiet and what the page says next are heard by two goroutines. The
// page that says "ready" just after it was captured as quiet must not be shown
// as it was before: on a busy machine that gave the bare shell.
func TestAProofIsVoidOnceThePageHasSaidMore(t *testing.T) {
	now := time.Now()
	newState := func() (*Page, *state) {
		p := &Page{}
		s := &p.state
		s.init()
		s.begin(settle.New(settle.Options{}, now), 0)
		s.committed("", "http://a/", "", now)
		s.loaded(now)
		p.tell(told{Kind: "parsed", Order: 1}, now)
		return p, s
	}
	bare := &captured{Body: "<main></main>", Told: 1}

	t.Run("ready", func(t *testing.T) {
		p, s := newState()
		document := s.generation()
		p.tell(told{Kind: "m", Order: 2, Attr: "ready", AttrNew: true}, now)
		s.proved(bare, document, now.Add(time.Second))
		if out, over := s.look(now.Add(time.Second)); !over || out.decision.By != words.SettledByAttribute {
			t.Errorf("not settled by what it said: %+v", out)
		}
		if shot := s.takeShot(); shot != nil {
			t.Errorf("what it showed before is kept: %+v", shot)
		}
	})
	t.Run("a change", func(t *testing.T) {
		p, s := newState()
		document := s.generation()
		p.tell(told{Kind: "m", Order: 2}, now)
		s.proved(bare, document, now.Add(time.Second))
		if out, over := s.look(now.Add(time.Second)); over {
			t.Errorf("settled by a proof from before the change: %+v", out)
		}
	})
	t.Run("another document", func(t *testing.T) {
		_, s := newState()
		document := s.generation()
		s.committed("", "http://a/", "", now)
		s.loaded(now)
		s.proved(bare, document, now.Add(time.Second))
		if out, over := s.look(now.Add(time.Second)); over || s.takeShot() != nil {
			t.Errorf("settled by a proof of another document: %+v", out)
		}
	})
	t.Run("nothing more", func(t *testing.T) {
		_, s := newState()
		s.proved(bare, s.generation(), now.Add(time.Second))
		if out, over := s.look(now.Add(time.Second)); !over || out.decision.By != words.SettledByQuiet || s.takeShot() != bare {
			t.Errorf("not settled by its proof: %+v", out)
		}
	})
}
