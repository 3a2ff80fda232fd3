package worker

import (
	"context"

	"github.com/rewarm/rewarm/internal/index"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// watch follows the rollout until ctx ends. It asks rather than be told: no
// release is missed because a hook, a report or a connection was lost.
func (w *Worker) watch(ctx context.Context) {
	known := map[string]index.Run{}
	silent := false
	for {
		err := w.look(ctx, known)
		if err != nil && ctx.Err() == nil && !silent {
			w.log.Warn("nothing is indexed until the manager and the store answer", "error", err)
		}
		silent = err != nil
		if !pause(ctx, w.o.Poll) {
			return
		}
	}
}

// look takes in the current release, and begins the runs that are due. known
// are the realms' last runs, so that the store is asked only when one may be.
func (w *Worker) look(ctx context.Context, known map[string]index.Run) error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	rollout, err := w.o.Manager.Rollout(ctx)
	if err != nil || !rollout.CanaryPassed {
		w.setCurrent(nil)
		return err
	}
	current := words.Release{Sequence: rollout.Release.Sequence, Token: rollout.Release.Token}
	w.setCurrent(&current)
	releases, err := w.o.Manager.Releases(ctx)
	if err != nil {
		return err
	}
	w.setRealms(releases)
	for _, realm := range realmsOn(releases, current.Token) {
		if err := w.begin(ctx, realm, current, known); err != nil {
			return err
		}
	}
	return nil
}

// realmsOn are the realms that serve a token: only there can its pages be made.
func realmsOn(releases wire.Releases, token words.Token) (realms []string) {
	seen := map[string]bool{}
	for _, reporter := range releases.Reporters {
		for _, realm := range reporter.Realms {
			if reporter.Token == token && !seen[realm] {
				seen[realm] = true
				realms = append(realms, realm)
			}
		}
	}
	return realms
}

// setRealms takes in all realms that are reported, on whatever release: one that
// is away for a moment keeps its pages.
func (w *Worker) setRealms(releases wire.Releases) {
	all := releases.Realms()
	w.realms.Store(&all)
}

// owner is the realm that serves a page of a realm: that one, or one below it.
func (w *Worker) owner(realm, page string) string {
	if all := w.realms.Load(); all != nil {
		return index.Owner(realm, page, *all)
	}
	return realm
}

// begin begins a realm's run if one is due and nobody else has begun it.
func (w *Worker) begin(ctx context.Context, realm string, current words.Release, known map[string]index.Run) error {
	now := w.o.Now()
	if _, due := index.Due(now, known[realm], current, w.o.Every); !due {
		return nil
	}
	last, _, err := w.o.Store.Run(ctx, realm)
	if err != nil {
		return err
	}
	class, due := index.Due(now, last, current, w.o.Every)
	if !due {
		known[realm] = last
		return nil
	}
	run, begun, err := w.o.Store.BeginRun(ctx, realm, class, current, now)
	if err != nil {
		return err
	}
	if known[realm] = run; begun {
		w.log.Info("realm is indexed", "realm", realm, "run", run.ID, "class", run.Class.String(), "sequence", run.Sequence, "token", run.Token)
	}
	return nil
}

func (w *Worker) setCurrent(current *words.Release) {
	before := w.current.Swap(current)
	if before == nil && current == nil || before != nil && current != nil && *before == *current {
		return
	}
	select {
	case w.changed <- struct{}{}:
	default:
	}
}
