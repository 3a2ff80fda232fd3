package e2e

import (
	"net/http"
	"strings"
	"testing"

	"github.com/rewarm/rewarm/internal/app"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// breakTakeover is a script that breaks visitors' pages, and theirs alone: no
// render can show it.
const breakTakeover = `<script>if (!window.__rewarm) addEventListener('load', () => setTimeout(() => { throw new Error('taken over badly') }))</script>`

// TestCanaryStopsAReleaseThatBreaksAtTakeover: its renders are fine, so only who
// looks as a visitor does can tell. The rollout pauses and says why; undo brings
// the release before back, and a good one passes.
func TestCanaryStopsAReleaseThatBreaksAtTakeover(t *testing.T) {
	f := startFleet(t, func(o *app.UpOptions) { o.CanaryURLs = []string{"/", "/products"} })
	good := f.token()
	if r := f.rollout(); r.Canary == nil || !r.Canary.Passed || len(r.Canary.Checks) != 2 {
		t.Fatalf("the first release was not checked: %+v", r.Canary)
	}
	f.write("r1")
	f.breakTakeover()
	if answer := f.postDeployment(); !answer.Accepted {
		t.Fatalf("%+v", answer)
	}
	bad := f.token()
	f.note("r1", bad)
	var paused wire.Rollout
	f.until("the rollout pauses", func() bool { paused = f.rollout(); return paused.Phase == wire.RolloutPaused })
	if paused.Release.Token != bad || !strings.Contains(paused.Detail, "taken over badly") || paused.CanaryPassed {
		t.Errorf("%+v", paused)
	}
	answer, err := f.visit(t.Context(), "/about", words.ModeDefault)
	if err != nil || answer.Status != http.StatusCreated || answer.Data.Attributes.Status != words.StatusReady {
		t.Errorf("renders go on: %d %v %.300s", answer.Status, err, answer.Body)
	}
	// The files of the release before are put back; its hook is the undo.
	f.completeOn(f.deploy("r0"))
	if f.token() != good {
		t.Errorf("back on %s, want %s", f.token(), good)
	}
	f.completeOn(f.deploy("r2"))
}
