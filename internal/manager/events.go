package manager

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// keepEvents is how often a quiet stream says that it is still there.
const keepEvents = 15 * time.Second

// events streams the rollout, whole, at every change: who follows it needs no
// history and misses nothing by reconnecting.
func (m *Manager) events(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	control := http.NewResponseController(w)
	quiet := time.NewTicker(keepEvents)
	defer quiet.Stop()
	for {
		change := m.fleet.change()
		data, err := json.Marshal(m.fleet.progress(time.Now()))
		if err != nil {
			return fmt.Errorf("encode an event: %w", err)
		}
		if _, err := fmt.Fprintf(w, "event: rollout\ndata: %s\n\n", data); err != nil {
			return nil // the follower is gone
		}
		for waiting := true; waiting; {
			if control.Flush() != nil {
				return nil
			}
			select {
			case <-change:
				waiting = false
			case <-quiet.C:
				if _, err := fmt.Fprint(w, ": still here\n\n"); err != nil {
					return nil
				}
			case <-m.drained:
				return nil
			case <-r.Context().Done():
				return nil
			}
		}
	}
}
