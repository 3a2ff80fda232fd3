package prerender

import (
	"context"
	"os"
	"time"

	"github.com/rewarm/rewarm/internal/machine"
	"github.com/rewarm/rewarm/internal/pool"
)

const (
	// tendEvery is how often the pages are measured: an application that leaks a
	// megabyte with each render is found before it has a gigabyte.
	tendEvery = 5 * time.Second
	// measureTimeout bounds one measurement: a page whose thread is busy answers
	// when it has time, and is asked again the next time.
	measureTimeout = time.Second
	// pressedBelow is the share of idle processor time under which another page
	// would only slow down the others: of two cores, a fifth of one.
	pressedBelow = 0.1
)

// tend measures pages, browser and machine until ctx ends, so that what grows
// is replaced and the pool's size fits. No render waits for it.
func (s *Server) tend(ctx context.Context) {
	root := os.DirFS("/")
	before := machine.ReadProcessors(root)
	for wait(ctx, tendEvery); ctx.Err() == nil; wait(ctx, tendEvery) {
		s.weigh(ctx)
		after := machine.ReadProcessors(root)
		load := pool.Load{Pressed: after.Idle(before) < pressedBelow, Memory: s.slot.memory(root)}
		before = after
		s.keeper.tell(func(p *pool.Pool, now time.Time) []pool.Action { return p.Loaded(now, load) })
	}
}

// weigh measures the pages that rendered since the last time.
func (s *Server) weigh(ctx context.Context) {
	for id, used := range s.keeper.used() {
		bounded, cancel := context.WithTimeout(ctx, measureTimeout)
		bytes, err := used.Memory(bounded)
		cancel()
		if err == nil { // else it is busy or gone, which others find out
			s.keeper.tell(func(p *pool.Pool, now time.Time) []pool.Action { return p.Weigh(now, id, bytes) })
		}
	}
}
