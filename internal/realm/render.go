package realm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"time"

	"github.com/rewarm/rewarm/internal/client"
	"github.com/rewarm/rewarm/internal/ledger"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// Bounds of background rendering: a crowd of misses, or of made-up paths, must
// neither fill the memory nor keep the fleet from its work.
const (
	renderWorkers = 2
	maxQueued     = 100
	maxLeft       = 1000 // on their way to the workers
	// visitorPriority puts what a visitor came for before what is indexed.
	visitorPriority = 10
	// refusedHold is how long a page that the fleet refused is not asked for
	// again; a refusal says nothing of the page, so it is short.
	refusedHold = time.Second
	// claimMargin is how much longer than a render a claim lives: the winner's
	// snapshot is in the store before another may win.
	claimMargin = 5 * time.Second
	storeWait   = time.Second
	// maxWaiting is how many visitors may wait for renders at a time.
	maxWaiting = 1000
	// elsewhereAgain is how often the store is asked for what another realm
	// server renders.
	elsewhereAgain = 100 * time.Millisecond
)

// errWaited ends a visitor's wait for a render.
var errWaited = errors.New("no render in the time that a visitor waits")

// rendered is what came of a job.
type rendered struct {
	outcome   string        // in the metrics
	hold      time.Duration // how long the page is not to be asked for again
	elsewhere bool          // another realm server renders it
}

func (s *site) renderLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case j := <-s.renders.jobs:
			o := s.render(ctx, j.url)
			s.metrics.renders.WithLabelValues(s.realm.URL, o.outcome).Inc()
			s.renders.done(j, o, s.o.Now())
		}
	}
}

// render renders one page for the whole fleet. What it asks with is the URL and
// nothing of a visitor: the page is everyone's.
func (s *site) render(ctx context.Context, url string) rendered {
	ctx, cancel := context.WithTimeoutCause(ctx, s.o.RenderBudget, errors.New("render budget"))
	defer cancel()
	pin := s.releases.Load().current().token
	claim := claimKey(s.realm.URL, pin, url)
	won, err := s.o.Store.Claim(ctx, claim, s.o.RenderBudget+claimMargin)
	if err != nil {
		s.o.Log.Warn("render not claimed", "url", url, "error", err)
		return rendered{outcome: "store_failed", hold: refusedHold}
	}
	if !won {
		return rendered{outcome: "claimed_elsewhere", hold: refusedHold, elsewhere: true}
	}
	if s.stored(ctx, pin, url) {
		s.unclaim(ctx, claim)
		s.pages.drop(pageKey{pin, s, url}) // it may be an older one
		return rendered{outcome: "already_there"}
	}
	// Asked, not heard: what this server hears may be late.
	purges, err := s.o.Store.Purges(ctx, s.realm.URL)
	if err != nil {
		s.unclaim(ctx, claim)
		s.o.Log.Warn("page not rendered: purges not read", "url", url, "error", err)
		return rendered{outcome: "store_failed", hold: refusedHold}
	}
	kind := string(words.AffinityRealm)
	answer, err := s.o.Manager.Visit(ctx,
		wire.VisitRequest{URL: url, Realm: s.realm.URL, AffinityType: &kind, AffinityValue: &s.realm.URL, Fields: wire.Fields{wire.FieldHTML}},
		client.Call{Pin: pin, Budget: s.o.RenderBudget, Priority: visitorPriority})
	if err != nil {
		// Says nothing of the page: a worker tries it again, for no visitor may come.
		s.unclaim(ctx, claim)
		s.leave(url, pin)
		s.o.Log.Warn("render refused", "url", url, "token", pin, "error", err)
		return rendered{outcome: "refused", hold: refusedHold}
	}
	if !storable(answer) {
		// Left claimed: a page that does not settle is not asked for by every visitor.
		s.o.Log.Warn("render not stored", "url", url, "status", answer.Result.Status, "token", answer.Token, "error", answer.Result.Error)
		return rendered{outcome: "not_stored", hold: s.o.RenderBudget}
	}
	if wire.Private(answer.Result.Headers) {
		// Left claimed too, and held for as long as a page would be fresh.
		s.o.Log.Info("render not stored: the page says that it is not for everyone", "url", url, "token", answer.Token)
		return rendered{outcome: "private", hold: s.realm.MaxAge}
	}
	snapshot := words.Snapshot{
		Realm: s.realm.URL, Token: answer.Token, URL: url, RenderedAt: s.o.Now(),
		Status: answer.Result.Status, HTTPStatus: answer.Result.HTTPStatus,
		Headers: answer.Result.Headers, HTML: answer.Result.HTML,
	}
	if err := s.o.Store.PutUnpurged(ctx, snapshot, purges); err != nil {
		if errors.Is(err, ledger.ErrPurged) {
			s.unclaim(ctx, claim)
			return rendered{outcome: "purged_meanwhile"}
		}
		s.o.Log.Warn("snapshot not stored", "url", url, "token", answer.Token, "error", err)
		return rendered{outcome: "not_stored", hold: s.o.RenderBudget}
	}
	s.unclaim(ctx, claim)
	s.pages.drop(pageKey{answer.Token, s, url})
	s.o.Log.Info("render stored", "url", url, "token", answer.Token, "status", snapshot.Status, "httpStatus", snapshot.HTTPStatus, "bytes", len(snapshot.HTML))
	return rendered{outcome: "stored"}
}

// stored reports whether another realm server has rendered the page while it
// was queued here: a claim keeps out only who asks at the same time.
func (s *site) stored(ctx context.Context, token words.Token, url string) bool {
	snapshot, found, err := s.o.Store.Snapshot(ctx, s.realm.URL, token, url)
	return err == nil && found && s.usable(snapshot) && s.age(snapshot) < s.realm.MaxAge
}

// storable is the protocol's table: ready, and for a while what the page
// itself said is an error; only with the token of the document it was made in.
func storable(a client.VisitAnswer) bool {
	if a.Token == "" {
		return false
	}
	r := a.Result
	return r.Status == words.StatusReady ||
		r.Status == words.StatusError && r.Error != nil && r.Error.Kind == words.PageErrorPage
}

// unclaim must happen even when the render's budget is spent; a claim that
// stays ends by itself.
func (s *site) unclaim(ctx context.Context, key string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeWait)
	defer cancel()
	if err := s.o.Store.Unclaim(ctx, key); err != nil {
		s.o.Log.Warn("render claim kept until it ends", "error", err)
	}
}

func claimKey(realm string, token words.Token, url string) string {
	sum := sha256.Sum256([]byte(realm + "\n" + string(token) + "\n" + url))
	return "render." + hex.EncodeToString(sum[:])
}
