package realm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"sync"
	"time"

	"github.com/rewarm/rewarm/internal/client"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// Bounds of background rendering: a crowd of misses, or of made-up paths, must
// neither fill the memory nor keep the fleet from its work.
const (
	renderWorkers = 2
	maxQueued     = 100
	maxKeys       = 10_000
	// refusedHold is how long a page that the fleet refused is not asked for
	// again; a refusal says nothing of the page, so it is short.
	refusedHold = time.Second
	// claimMargin is how much longer than a render a claim lives: the winner's
	// snapshot is in the store before another may win.
	claimMargin = 5 * time.Second
	storeWait   = time.Second
)

// renderQueue holds what is to be rendered in the background.
type renderQueue struct {
	jobs chan string // URLs

	mu   sync.Mutex
	busy map[string]bool      // queued or being rendered
	hold map[string]time.Time // not again before
	keys map[[16]byte]bool    // what was asked for under the current token
}

func newRenderQueue() *renderQueue {
	return &renderQueue{jobs: make(chan string, maxQueued), busy: map[string]bool{}, hold: map[string]time.Time{}, keys: map[[16]byte]bool{}}
}

// forget starts a release: its keys are counted anew.
func (q *renderQueue) forget() {
	q.mu.Lock()
	defer q.mu.Unlock()
	clear(q.keys)
	clear(q.hold)
}

// add queues a URL unless it is queued already; why names what kept it out.
func (q *renderQueue) add(url string, now time.Time) (why string) {
	sum := sha256.Sum256([]byte(url))
	key := [16]byte(sum[:16])
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.busy[url] || now.Before(q.hold[url]):
		return "" // under way, or just tried
	case !q.keys[key] && len(q.keys) >= maxKeys:
		return "too_many_keys"
	}
	select {
	case q.jobs <- url:
	default:
		return "queue_full"
	}
	q.busy[url], q.keys[key] = true, true
	delete(q.hold, url)
	return ""
}

// done ends a job; the URL is not queued again before until.
func (q *renderQueue) done(url string, now, until time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.busy, url)
	if until.After(now) {
		q.hold[url] = until
	}
	if len(q.hold) > maxQueued {
		for held, end := range q.hold {
			if !end.After(now) {
				delete(q.hold, held)
			}
		}
	}
}

// wantRender asks for a page to be rendered for the next visitor.
func (s *Server) wantRender(url string) {
	if s.o.Manager == nil || s.o.Store == nil {
		return
	}
	if why := s.renders.add(url, s.o.Now()); why != "" {
		s.metrics.renders.WithLabelValues(why).Inc()
	}
}

func (s *Server) renderLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case url := <-s.renders.jobs:
			outcome, hold := s.render(ctx, url)
			now := s.o.Now()
			s.renders.done(url, now, now.Add(hold))
			s.metrics.renders.WithLabelValues(outcome).Inc()
		}
	}
}

// render renders one page for the whole fleet, and returns what came of it and
// how long the page is not to be asked for again.
func (s *Server) render(ctx context.Context, url string) (outcome string, hold time.Duration) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.o.RenderBudget, errors.New("render budget"))
	defer cancel()
	pin := s.releases.Load().current().token
	claim := claimKey(s.realmURL, pin, url)
	won, err := s.o.Store.Claim(ctx, claim, s.o.RenderBudget+claimMargin)
	if err != nil {
		s.o.Log.Warn("render not claimed", "url", url, "error", err)
		return "store_failed", refusedHold
	}
	if !won {
		return "claimed_elsewhere", refusedHold
	}
	if s.stored(ctx, pin, url) {
		s.unclaim(ctx, claim)
		return "already_there", 0
	}
	kind := string(words.AffinityRealm)
	answer, err := s.o.Manager.Visit(ctx,
		wire.VisitRequest{URL: url, Realm: s.realmURL, AffinityType: &kind, AffinityValue: &s.realmURL},
		client.Call{Pin: pin, Budget: s.o.RenderBudget})
	if err != nil {
		// Says nothing of the page: the next visitor may ask again at once.
		s.unclaim(ctx, claim)
		s.o.Log.Warn("render refused", "url", url, "token", pin, "error", err)
		return "refused", refusedHold
	}
	if !storable(answer) {
		// Left claimed: a page that does not settle is not asked for by every visitor.
		s.o.Log.Warn("render not stored", "url", url, "status", answer.Result.Status, "token", answer.Token, "error", answer.Result.Error)
		return "not_stored", s.o.RenderBudget
	}
	snapshot := words.Snapshot{
		Realm: s.realmURL, Token: answer.Token, URL: url, RenderedAt: s.o.Now(),
		Status: answer.Result.Status, HTTPStatus: answer.Result.HTTPStatus,
		Headers: answer.Result.Headers, HTML: answer.Result.HTML,
	}
	if err := s.o.Store.PutSnapshot(ctx, snapshot); err != nil {
		s.o.Log.Warn("snapshot not stored", "url", url, "token", answer.Token, "error", err)
		return "not_stored", s.o.RenderBudget
	}
	s.unclaim(ctx, claim)
	s.pages.drop(pageKey{answer.Token, url})
	s.o.Log.Info("render stored", "url", url, "token", answer.Token, "status", snapshot.Status, "httpStatus", snapshot.HTTPStatus, "bytes", len(snapshot.HTML))
	return "stored", 0
}

// stored reports whether another realm server has rendered the page while it
// was queued here: a claim keeps out only who asks at the same time.
func (s *Server) stored(ctx context.Context, token words.Token, url string) bool {
	snapshot, found, err := s.o.Store.Snapshot(ctx, s.realmURL, token, url)
	return err == nil && found && s.usable(snapshot) && s.age(snapshot) < s.o.MaxAge
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
func (s *Server) unclaim(ctx context.Context, key string) {
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
