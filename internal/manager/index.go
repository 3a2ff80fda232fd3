package manager

import (
	"net/http"
	"slices"
	"time"

	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/index"
	"github.com/rewarm/rewarm/internal/ledger"
	"github.com/rewarm/rewarm/internal/web"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// queueIndex queues a realm, or some of its pages, to be indexed again by the
// workers.
func (m *Manager) queueIndex(w http.ResponseWriter, r *http.Request) error {
	body, err := web.ReadBody(w, r)
	if err != nil {
		return err
	}
	var doc wire.Document[wire.IndexRequest]
	if err := wire.Read(body, &doc); err != nil {
		return err
	}
	asked := doc.Data.Attributes
	realm, err := m.realmOf(asked.Realm)
	if err != nil {
		return err
	}
	current := m.fleet.current()
	if current.Sequence == 0 {
		return fault.Refuse(time.Second, "No release was reported yet")
	}
	if len(asked.URLs) == 0 {
		_, _, err = m.store.BeginRun(r.Context(), realm, index.Routine, current, time.Now())
	} else {
		err = m.queuePages(r, realm, asked.URLs, current)
	}
	if fault.Is(err, fault.Invalid) {
		return err
	}
	if err != nil {
		return away(err)
	}
	return m.writeIndex(w, r, realm, http.StatusAccepted)
}

func (m *Manager) queuePages(r *http.Request, realm string, urls []string, current words.Release) error {
	if len(urls) > wire.MaxIndexURLs {
		return fault.New(fault.Invalid, "%d URLs, at most %d", len(urls), wire.MaxIndexURLs)
	}
	run, _, err := m.store.Run(r.Context(), realm)
	if err != nil {
		return err
	}
	jobs := make([]index.Job, 0, len(urls))
	for _, raw := range urls {
		page, ok := index.Named(realm, raw)
		if !ok {
			return fault.New(fault.Invalid, "%.200q is no page of %s", raw, realm)
		}
		jobs = append(jobs, index.Job{
			Class: index.Routine, Realm: realm, URL: page, Token: current.Token, Sequence: current.Sequence, Run: run.ID, QueuedAt: time.Now(),
		})
	}
	_, err = m.store.QueueJobs(r.Context(), jobs...)
	return err
}

// realmOf is the one spelling of a realm that a live realm server serves.
func (m *Manager) realmOf(raw string) (string, error) {
	realm, ok := wire.NormalizeURL(raw)
	if !ok {
		return "", fault.New(fault.Invalid, "Missing or wrong: realm, the base URL of a realm")
	}
	for _, reporter := range m.releases.book().Reporters(time.Now()) {
		if slices.Contains(reporter.Realms, realm) {
			return realm, nil
		}
	}
	return "", fault.New(fault.NotFound, "No realm server reports %s", realm)
}

// showIndex shows how far a realm's last indexing is.
func (m *Manager) showIndex(w http.ResponseWriter, r *http.Request) error {
	realm, err := m.realmOf(r.URL.Query().Get("realm"))
	if err != nil {
		return err
	}
	return m.writeIndex(w, r, realm, http.StatusOK)
}

func (m *Manager) writeIndex(w http.ResponseWriter, r *http.Request, realm string, status int) error {
	view, err := m.indexOf(r, realm)
	if err != nil {
		return away(err)
	}
	web.WriteJSON(w, status, wire.ContentTypeJSON, view)
	return nil
}

func (m *Manager) indexOf(r *http.Request, realm string) (wire.IndexStatus, error) {
	ctx := r.Context()
	view := wire.IndexStatus{Realm: realm, Failures: []wire.IndexFailure{}}
	// Before the run: what is begun in between is pending at the next look.
	pending, err := m.store.PendingJobs(ctx, realm)
	if err != nil {
		return view, err
	}
	view.Pending = pending
	run, _, err := m.store.Run(ctx, realm)
	if err != nil || run.ID == 0 {
		return view, err
	}
	view.Run = &wire.IndexRun{ID: run.ID, Class: run.Class.String(), Sequence: run.Sequence, Token: run.Token, StartedAt: run.StartedAt}
	progress, err := m.store.Progress(ctx, realm, run.ID)
	if err != nil {
		return view, err
	}
	view.Stored, view.Skipped, view.Failed = progress.Stored, progress.Skipped, progress.Failed
	failures, err := m.store.Failures(ctx, realm, run.Token)
	// What is cut off is old: somebody who waits for a page learns of it.
	slices.SortStableFunc(failures, func(a, b ledger.Failure) int { return b.At.Compare(a.At) })
	for _, f := range failures[:min(len(failures), wire.MaxIndexFailures)] {
		view.Failures = append(view.Failures, wire.IndexFailure{URL: f.URL, Renders: f.Renders, Reason: f.Reason, At: f.At})
	}
	return view, err
}

// purgeIndex removes stored pages of every release, or says which it would.
func (m *Manager) purgeIndex(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	realm, err := m.realmOf(query.Get("realm"))
	if err != nil {
		return err
	}
	selection := ledger.Selection{URL: query.Get("url"), Prefix: query.Get("prefix"), All: query.Get("all") == "true"}
	named := 0
	for _, given := range []bool{selection.URL != "", selection.Prefix != "", selection.All} {
		if given {
			named++
		}
	}
	if named != 1 {
		return fault.New(fault.Invalid, "Exactly one of url, prefix and all=true says what to purge")
	}
	dry := query.Get("dryRun") == "true"
	act := m.store.PurgeSnapshots
	if dry {
		act = m.store.SelectSnapshots
	}
	urls, snapshots, err := act(r.Context(), realm, selection)
	if err != nil {
		return away(err)
	}
	if !dry {
		m.log.Info("stored pages purged", "realm", realm, "pages", len(urls), "snapshots", snapshots, "requestId", web.RequestID(r.Context()))
	}
	purged := wire.Purged{Realm: realm, URLs: []string{}, Pages: len(urls), Snapshots: snapshots, DryRun: dry}
	purged.URLs = append(purged.URLs, urls[:min(len(urls), wire.MaxPurgedURLs)]...)
	web.WriteJSON(w, http.StatusOK, wire.ContentTypeJSON, purged)
	return nil
}
