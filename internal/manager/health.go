package manager

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/rewarm/rewarm/internal/web"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// health is the document of GET /.
type health struct {
	Data     wire.Resource[healthAttributes]    `json:"data"`
	Included *[]wire.Resource[serverAttributes] `json:"included,omitempty"`
}

type healthAttributes struct {
	Ready     bool          `json:"ready"`
	HostShell healthRelease `json:"hostShell"`
}

type healthRelease struct {
	Token    words.Token `json:"token"`
	Sequence uint64      `json:"sequence"`
	Since    string      `json:"since"`
}

type serverAttributes struct {
	URL              string                  `json:"url"`
	Capacity         int                     `json:"capacity"`
	RegisteredAt     string                  `json:"registeredAt"`
	LastSeenAt       string                  `json:"lastSeenAt"`
	Status           string                  `json:"status"`
	WarmedAffinities []string                `json:"warmedAffinities"`
	AffinityVacancy  map[string]wire.Vacancy `json:"affinityVacancy"`
	Affinities       []affinityView          `json:"affinities"`
	HostShell        wire.HostShell          `json:"hostShell"`
}

type affinityView struct {
	Key           string `json:"key"`
	AffinityType  string `json:"affinityType"`
	AffinityValue string `json:"affinityValue"`
	LastUsed      string `json:"lastUsed"`
}

// health is the document as of now; the servers are shown to the fleet only,
// because affinity keys hold user ids.
func (f *fleet) health(now time.Time, withServers bool) health {
	f.mu.Lock()
	defer f.mu.Unlock()
	doc := health{Data: wire.Resource[healthAttributes]{Type: wire.TypeManagerHealth, ID: "health", Attributes: healthAttributes{
		Ready:     len(f.servers) > 0,
		HostShell: healthRelease{Token: f.release.Token, Sequence: f.release.Sequence, Since: wire.FormatTime(f.release.Since)},
	}}}
	if !withServers {
		return doc
	}
	included := make([]wire.Resource[serverAttributes], 0, len(f.servers))
	for url, s := range f.servers {
		included = append(included, wire.Resource[serverAttributes]{Type: wire.TypePrerenderServer, ID: url, Attributes: f.view(now, url, s)})
	}
	slices.SortFunc(included, func(a, b wire.Resource[serverAttributes]) int { return cmp.Compare(a.ID, b.ID) })
	doc.Included = &included
	return doc
}

func (f *fleet) view(now time.Time, url string, s *server) serverAttributes {
	seen := s.lastSeenAt
	if s.hold != nil {
		seen = now
	}
	view := serverAttributes{
		URL:              url,
		Capacity:         s.heartbeat.Capacity,
		RegisteredAt:     wire.FormatTime(s.registeredAt),
		LastSeenAt:       wire.FormatTime(seen),
		Status:           "active",
		WarmedAffinities: append([]string{}, s.heartbeat.WarmedAffinities...),
		AffinityVacancy:  s.heartbeat.AffinityVacancy,
		Affinities:       []affinityView{},
		HostShell:        s.heartbeat.HostShell,
	}
	if s.draining {
		view.Status = wire.StatusDraining
	}
	for _, use := range f.table.Affinities(url) {
		shown := affinityView{Key: use.Key, LastUsed: wire.FormatTime(use.At)}
		if a, ok := words.ParseAffinityKey(use.Key); ok {
			shown.AffinityType, shown.AffinityValue = string(a.Type), a.Value
		}
		view.Affinities = append(view.Affinities, shown)
	}
	return view
}

// root answers GET /: health, or a page for people who ask for HTML.
func (m *Manager) root(w http.ResponseWriter, r *http.Request) error {
	if m.draining.Load() {
		return errDraining()
	}
	doc := m.fleet.health(time.Now(), m.options.Guard.Allows(r))
	if strings.Contains(r.Header.Get("Accept"), "text/html") {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		return m.page.Execute(w, doc)
	}
	web.WriteJSON(w, http.StatusOK, wire.ContentTypeJSONAPI, doc)
	return nil
}

func (m *Manager) rootHead(w http.ResponseWriter, r *http.Request) error {
	if m.draining.Load() {
		return errDraining()
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

// statusPage is what people see until they open the dashboard.
const statusPage = `<!doctype html>
<meta charset="utf-8"><title>Rewarm manager</title>
<h1>Rewarm manager</h1>
{{with .Data.Attributes}}<p>{{if .HostShell.Sequence}}Release {{.HostShell.Sequence}}, <code>{{.HostShell.Token}}</code>, since {{.HostShell.Since}}{{else}}No release has been reported yet{{end}}.
{{if not .Ready}}No prerender server is registered.{{end}}</p>{{end}}
{{with .Included}}<table border="1" cellpadding="4"><tr><th>Server<th>Status<th>Phase<th>Pages<th>Last seen</tr>
{{range .}}<tr><td>{{.Attributes.URL}}<td>{{.Attributes.Status}}<td>{{.Attributes.HostShell.Phase}} {{.Attributes.HostShell.Detail}}<td>{{range $token, $n := .Attributes.HostShell.Pages}}<code>{{$token}}</code>: {{$n}} {{end}}<td>{{.Attributes.LastSeenAt}}</tr>
{{end}}</table>{{end}}
`

// livez: the process answers.
func (m *Manager) livez(w http.ResponseWriter, r *http.Request) error {
	web.WriteJSON(w, http.StatusOK, wire.ContentTypeJSON, map[string]bool{"live": true})
	return nil
}

// readyz: the store answers and a server is registered.
func (m *Manager) readyz(w http.ResponseWriter, r *http.Request) error {
	if m.draining.Load() {
		return errDraining()
	}
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	reasons := []string{}
	if err := m.store.Ping(ctx); err != nil {
		reasons = append(reasons, "the store does not answer")
	}
	if m.fleet.presence() == nobody {
		reasons = append(reasons, "no prerender server is registered")
	}
	status := http.StatusOK
	if len(reasons) > 0 {
		status = http.StatusServiceUnavailable
	}
	web.WriteJSON(w, status, wire.ContentTypeJSON, map[string]any{"ready": len(reasons) == 0, "reasons": reasons})
	return nil
}
