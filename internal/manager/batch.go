package manager

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/rewarm/rewarm/internal/web"
)

// batchTimeout bounds the broadcast; a server that misses it lets the batch's
// pages go by its own clock.
const batchTimeout = 5 * time.Second

// releaseBatch tells the servers of an affinity that a batch is over.
func (m *Manager) releaseBatch(w http.ResponseWriter, r *http.Request) error {
	body, err := web.ReadBody(w, r)
	if err != nil {
		return err
	}
	asked, err := m.understand(routeBatch, r.Header, body)
	if err != nil {
		return err
	}
	asked.requestID = web.RequestID(r.Context())
	ctx, cancel := context.WithTimeout(r.Context(), batchTimeout)
	defer cancel()
	var told sync.WaitGroup
	for _, url := range m.fleet.assigned(time.Now(), asked.affinity.Key()) {
		told.Go(func() {
			if _, err := m.upstream.send(ctx, url, &asked.call); err != nil {
				m.log.Warn("a server did not hear of a batch's end", "server", url, "requestId", asked.requestID, "error", err)
			}
		})
	}
	told.Wait()
	w.WriteHeader(http.StatusNoContent)
	return nil
}
