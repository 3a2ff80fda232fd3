package e2e

import (
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// hold writes a release and has it held, and returns its token.
func (f *processes) hold(release string, change func()) words.Token {
	f.t.Helper()
	f.write(release)
	change()
	answer := f.postDeployment()
	if !answer.Accepted || answer.Candidate == "" {
		f.t.Fatalf("%s: %+v", release, answer)
	}
	f.note(release, answer.Candidate)
	return answer.Candidate
}

// kill ends roles without a word, and starts them again.
func (f *processes) kill(again func(), roles ...*process) {
	f.t.Helper()
	for _, p := range roles {
		p.signal(syscall.SIGKILL)
	}
	for _, p := range roles {
		p.wait()
	}
	again()
}

// isRefused waits until the manager says that a candidate was refused, while
// the realm server serves another.
func (f *processes) isRefused(token, serves words.Token) {
	f.t.Helper()
	f.until(f.nameOf(token)+" is refused", func() bool {
		rollout, ok := f.progress()
		return ok && rollout.Candidate != nil && rollout.Candidate.Token == token && rollout.Candidate.Phase == wire.CandidateRefused &&
			strings.Contains(rollout.Candidate.Detail, "taken over badly") && len(rollout.Candidate.Have) == 1
	})
	if now := f.token(); now != serves {
		f.t.Errorf("the realm server serves %s, want %s", f.nameOf(now), f.nameOf(serves))
	}
}

// TestGatedPromotionSurvivesKills: whoever is killed, and whenever, a candidate
// is neither lost nor served unseen, and one that was refused stays refused.
func TestGatedPromotionSurvivesKills(t *testing.T) {
	f := startProcesses(t, 1)
	f.realm.signal(syscall.SIGTERM)
	f.realm.wait()
	f.realmEnv = []string{"REWARM_PROMOTION=gated"}
	f.startRealm()
	f.until("the gated realm server is heard", func() bool {
		releases, err := f.asks().Releases(t.Context())
		return err == nil && slices.ContainsFunc(releases.Reporters, func(r wire.ReporterView) bool { return r.Promotion == wire.PromotionGated })
	})

	// The manager, with the store in it, while it has the candidate checked.
	r1 := f.hold("r1", func() {})
	f.kill(f.startManager, f.manager)
	f.completeAgain(r1)
	f.until("the realm server follows", func() bool { return f.token() == r1 })

	// Both, while a candidate is refused.
	r2 := f.hold("r2", f.breakTakeover)
	f.isRefused(r2, r1)
	f.kill(func() { f.startManager(); f.startRealm() }, f.manager, f.realm)
	f.until("the realm server answers", func() bool { return f.status(f.up.RealmURL()+"/_host-shell-hash") == http.StatusOK })
	f.isRefused(r2, r1)

	// The realm server, with a candidate that was just reported.
	r3 := f.hold("r3", func() {})
	f.kill(f.startRealm, f.realm)
	f.completeAgain(r3)
	f.until("the realm server follows", func() bool { return f.token() == r3 })

	f.judgeHistory("1 r0", "2 r1", "3 r3")
	judgeStore(t, f.fleet)
}
