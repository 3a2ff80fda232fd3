package realm

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"time"

	"github.com/rewarm/rewarm/internal/client"
	"github.com/rewarm/rewarm/internal/words"
)

// Promotion is when a release that was taken from the host is served.
type Promotion string

// The ways of promotion. A gated realm server reports a new release as a
// candidate, and serves the one before until the manager has promoted another
// that is held here.
const (
	PromoteImmediate Promotion = "immediate"
	PromoteGated     Promotion = "gated"
)

func (s *Server) gated() bool { return s.o.Promotion == PromoteGated }

// promoted is the release that the manager says is current; sequence 0: it has
// not said so yet.
type promoted struct {
	sequence uint64
	token    words.Token
	missed   bool // it is not held here, and the log says so
	asked    bool // a report was answered, or had the time to be
	// lower is since when only lower sequences were heard; zero: not.
	lower time.Time
}

// deployment is which deploy brought the host's newest release.
type deployment struct {
	token words.Token
	id    string
}

// mayServe reports whether a release of the host may be served without waiting
// for its promotion: it is what is served, there is nothing else to serve, or it
// was promoted before this server had it. It needs switching.
func (s *Server) mayServe(token words.Token) bool {
	current := s.releases.Load().current()
	return !s.gated() || current == nil || current.token == token || s.promoted.token == token
}

// unpromoted is why visitors are not to be sent here, "" if they are: what is
// served is not what the manager says is promoted. A manager that is away keeps
// nobody out.
func (s *Server) unpromoted() string {
	if !s.gated() {
		return ""
	}
	s.switching.Lock()
	defer s.switching.Unlock()
	served := s.releases.Load().current().token
	switch {
	case s.promoted.sequence == 0 && !s.promoted.asked:
		return "the manager was not asked yet which release is current"
	case s.promoted.sequence > 0 && s.promoted.token != served:
		return fmt.Sprintf("it serves %s, which waits for its promotion or was undone: %s is promoted, and is not here (%s)", served, s.promoted.token, toGetIt)
	}
	return ""
}

// toGetIt is what brings the promoted release to a server that lacks it.
const toGetIt = "put its files in place and call /_post-deployment, or promote one that is here with `rewarm release report --hash`"

// asked notes that the manager had its time to say what is current.
func (s *Server) asked() {
	s.switching.Lock()
	defer s.switching.Unlock()
	s.promoted.asked = true
}

// lowerFor is how many presence intervals a lower sequence is all that is heard
// before it is believed: managers that lag catch up sooner.
const lowerFor = 3

// believes reports whether what a manager says is current is to be followed. One
// that lags names an earlier sequence, for a while; when nothing else is heard,
// the store was lost and counts anew. It needs switching.
func (s *Server) believes(said client.Orders) bool {
	now := s.o.Now()
	switch {
	case said.Sequence >= s.promoted.sequence:
		s.promoted.lower = time.Time{}
		return true
	case s.promoted.lower.IsZero():
		s.promoted.lower = now
		return false
	case now.Sub(s.promoted.lower) < lowerFor*s.o.PresenceInterval:
		return false
	}
	s.o.Log.Warn("the managers count releases anew: was their store lost?", "sequence", said.Sequence, "token", said.Token, "before", s.promoted.sequence)
	s.promoted.sequence = 0
	return true
}

// hear takes in which release is current.
func (s *Server) hear(ctx context.Context, said client.Orders) error {
	if !s.gated() || said.Sequence == 0 {
		return nil
	}
	r, previous, err := s.follow(said)
	if err != nil || r == nil {
		return err
	}
	s.metrics.releases.WithLabelValues("promoted").Inc()
	s.o.Log.InfoContext(ctx, "release promoted: it is served now", "token", r.token, "sequence", said.Sequence, "previous", previous)
	s.switched()
	select {
	case s.reports <- hookReport{source: words.SourcePresence}: // all see that it is served
	default:
	}
	return nil
}

// follow makes the promoted release current if it is held here and another one
// is served; r is nil when nothing changed.
func (s *Server) follow(said client.Orders) (r *release, previous words.Token, err error) {
	s.switching.Lock()
	defer s.switching.Unlock()
	if !s.believes(said) {
		return nil, "", nil
	}
	if said.Sequence > s.promoted.sequence {
		s.promoted = promoted{sequence: said.Sequence, token: said.Token, asked: true}
	}
	before := s.releases.Load()
	previous = before.current().token
	if previous == s.promoted.token {
		return nil, "", nil
	}
	found := before.byToken(s.promoted.token)
	if found == nil {
		if !s.promoted.missed {
			s.promoted.missed = true
			s.o.Log.Warn("the promoted release is not here: another is served, and /readyz says no", "token", s.promoted.token, "sequence", s.promoted.sequence, "served", previous, "do", toGetIt)
		}
		return nil, "", nil
	}
	served := *found
	served.since = s.o.Now()
	if err := s.serveFrom(&served, before.with(&served)); err != nil {
		return nil, "", err
	}
	s.pruneIdle()
	return &served, previous, nil
}

// pruneIdle prunes unless a release is being collected: no set names its files
// yet. That accept prunes at its end. It needs switching.
func (s *Server) pruneIdle() {
	select {
	case s.accepting <- struct{}{}:
		defer func() { <-s.accepting }()
		s.prune(s.releases.Load())
	default:
	}
}

// hold keeps r beside what is served. It needs switching.
func (s *Server) hold(r *release) {
	before := s.releases.Load()
	if known := before.held(); known != nil && known.token == r.token {
		if s.origin != nil {
			r = r.plus(known.files)
		}
		if maps.Equal(known.files, r.files) {
			r.since = known.since // else a check of the files of before does not promote these
		}
	}
	after := before.holding(r)
	s.releases.Store(after)
	s.prune(after)
}

// unseen says that the host has the promoted release with other files. Its token
// is the same, so no check would tell them apart, and they are not served.
func (s *Server) unseen(o *outcome, differing []string) {
	o.reason = fmt.Sprintf("index.html is that of the promoted release, and %s is not (%d files differ): the promoted copies are served. Gated promotion tells releases apart by index.html; have every build change it",
		differing[0], len(differing))
	s.metrics.releases.WithLabelValues("refused").Inc()
	if before := s.hostUnseen.Swap(&o.reason); before == nil || *before != o.reason {
		s.o.Log.Warn("files of the host are not served", "reason", o.reason, "token", o.current)
	}
}

// noteHeld counts and logs that r is held beside what was there before.
func (s *Server) noteHeld(ctx context.Context, r *release, before *releaseSet) {
	s.metrics.releases.WithLabelValues("held").Inc()
	level := slog.LevelInfo
	if known := before.held(); known != nil && known.token == r.token {
		level = slog.LevelDebug // no news
	}
	s.o.Log.Log(ctx, level, "release held until it is promoted", "token", r.token, "served", before.current().token, "files", len(r.files))
}

// hearPromotions follows the store until ctx ends: all realm servers hear of a
// promotion at once. Without a store, or while it is away, the answers to
// reports tell.
func (s *Server) hearPromotions(ctx context.Context) {
	s.hearAgain(ctx, "promotions", s.hearPromotion)
}

func (s *Server) hearPromotion(ctx context.Context) error {
	watch, err := s.o.Store.WatchReleases(ctx)
	if err != nil {
		return err
	}
	defer watch.Stop()
	for {
		state, _, err := watch.Next(ctx)
		if err != nil {
			return err
		}
		if len(state.History) == 0 {
			continue
		}
		if err := s.hear(ctx, client.Orders{Sequence: state.History[0].Sequence, Token: state.History[0].Token}); err != nil {
			s.o.Log.Error("the promoted release cannot be served; trying again with the next report", "error", err)
		}
	}
}
