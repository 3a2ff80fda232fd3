package manager

import (
	"net/http"

	"github.com/rewarm/rewarm/internal/web"
)

// routes is the protocol's table. What changes something, and what shows the
// fleet's insides, is for holders of the secret.
func (m *Manager) routes() http.Handler {
	mux := http.NewServeMux()
	open := func(pattern string, h web.Handler) { mux.Handle(pattern, web.Route(m.log, h)) }
	protected := func(pattern string, h web.Handler) { open(pattern, m.options.Guard.Protect(h)) }

	open("HEAD /{$}", m.rootHead)
	open("GET /{$}", m.root)
	open("GET /livez", m.livez)
	open("GET /readyz", m.readyz)
	open("GET /metrics", m.options.Guard.Metrics(m.metrics.gatherer))

	protected("POST /prerender-servers", m.heartbeat)
	protected("DELETE /prerender-servers", m.unregister)
	protected("DELETE /prerender-servers/affinities/{key...}", m.disposeAffinity)
	protected("POST /prerender-maintenance/reset", m.reset)

	protected("POST /host-shell", m.report)
	protected("GET /host-shell", m.hostShell)
	protected("GET /rollout", m.showRollout)
	protected("POST /rollout/{action}", m.steer)
	protected("GET /events", m.events)

	protected("POST /index", m.queueIndex)
	protected("GET /index", m.showIndex)
	protected("DELETE /index", m.purgeIndex)

	for _, path := range []string{routeVisit, routeModule, routeScreenshot, routeCommand, routeTakeover} {
		protected("POST "+path, m.proxy(path))
	}
	protected("POST "+routeBatch, m.releaseBatch)
	open("/", web.NotFound)
	return mux
}
