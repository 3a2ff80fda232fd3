package realm

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/rewarm/rewarm/internal/ledger"
	"github.com/rewarm/rewarm/internal/words"
)

// invalidated is what this server has heard to be no longer true.
type invalidated struct {
	mu sync.Mutex
	// known: all that was stored has been heard. Before that nothing that is
	// stored may be believed.
	known   bool
	newest  uint64                 // generation
	modules map[string]heardModule // by URL
	purges  uint64                 // of pages, that were heard
	pruned  time.Time
}

// heardModule is the newest invalidation of one module.
type heardModule struct {
	generation uint64
	at         time.Time // it was heard
}

// pruneEvery is how often what no stored module can be older than is forgotten.
const pruneEvery = time.Hour

func newInvalidated() *invalidated { return &invalidated{modules: map[string]heardModule{}} }

func (i *invalidated) hear(said ledger.Invalidation, now time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.newest = max(i.newest, said.Generation)
	if said.Module == "" {
		i.purges++
		return
	}
	i.modules[said.Module] = heardModule{max(i.modules[said.Module].generation, said.Generation), now}
	if now.Sub(i.pruned) < pruneEvery {
		return
	}
	i.pruned = now
	maps.DeleteFunc(i.modules, func(_ string, m heardModule) bool { return now.Sub(m.at) > ledger.InvalidationTTL })
}

func (i *invalidated) setKnown(known bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.known = known
}

// now is the newest generation that was heard; known as in the struct.
func (i *invalidated) now() (generation uint64, known bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.newest, i.known
}

// purged counts the purges of pages that were heard.
func (i *invalidated) purged() uint64 {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.purges
}

// since reports whether a module, or anything that it was made of, was
// invalidated after its render had begun.
func (i *invalidated) since(m words.Module) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.modules[m.URL].generation > m.Generation {
		return true
	}
	for _, dep := range m.Deps {
		if i.modules[dep].generation > m.Generation {
			return true
		}
	}
	return false
}

// hearInvalidations follows what is invalidated until ctx ends.
func (s *site) hearInvalidations(ctx context.Context) {
	s.hearAgain(ctx, "invalidations", s.hearOnce)
}

// hearAgain follows what the store tells until ctx ends, from anew whenever that
// fails.
func (s *Server) hearAgain(ctx context.Context, what string, hear func(context.Context) error) {
	for ctx.Err() == nil {
		if err := hear(ctx); ctx.Err() == nil {
			s.o.Log.Debug(what+" are not heard from the store", "error", err)
		}
		_ = wait(ctx, time.Second)
	}
}

func (s *site) hearOnce(ctx context.Context) error {
	defer s.invalidated.setKnown(false)
	watch, err := s.o.Store.WatchInvalidations(ctx, s.realm.URL)
	if err != nil {
		return err
	}
	defer watch.Stop()
	for {
		said, known, err := watch.Next(ctx)
		switch {
		case err != nil:
			return err
		case known:
			s.invalidated.setKnown(true)
		default:
			s.invalidated.hear(said, s.o.Now())
			if said.Pages != (ledger.Selection{}) { // else it is of no page, and visitors would wait for the walk
				s.pages.dropAll(func(key pageKey) bool { return key.site == s && said.Pages.Has(key.url) })
			}
		}
	}
}
