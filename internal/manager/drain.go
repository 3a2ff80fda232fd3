package manager

import (
	"context"
	"time"

	"github.com/rewarm/rewarm/internal/fault"
)

// cutOffGrace is what is left for answers being written when the drain is over.
const cutOffGrace = 500 * time.Millisecond

func errDraining() error { return fault.New(fault.Draining, "Prerender manager draining") }

// drain waits for ctx to end and then for running work. It goes on refusing
// with 410 for at least DrainMin though nothing runs: callers and load
// balancers must hear of it before the port closes.
func (m *Manager) drain(ctx, serving context.Context) {
	select {
	case <-ctx.Done():
	case <-serving.Done():
		return // the listener failed
	}
	m.draining.Store(true)
	close(m.drained)
	m.log.Info("draining", "running", m.working.Load())
	atLeast := time.After(m.options.DrainMin)
	atMost := time.After(m.options.DrainGrace)
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	past := false
	for {
		if past && m.working.Load() == 0 {
			return
		}
		select {
		case <-serving.Done():
			return
		case <-atMost:
			m.log.Warn("grace ended, cutting off", "running", m.working.Load())
			return
		case <-atLeast:
			past = true
		case <-poll.C:
		}
	}
}
