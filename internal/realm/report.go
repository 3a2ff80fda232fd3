package realm

import (
	"cmp"
	"context"
	"net/http"
	"time"

	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/web"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// reportTimeout bounds one report, and how long the hook waits for its own: a
// manager that is down never delays a deploy by more.
const reportTimeout = 2 * time.Second

// reportRetry is the time to the next report after a failed one, when presence
// would take longer.
const reportRetry = time.Second

// hookReport asks the reporting goroutine to report now. reported, if there is
// one, is closed when the manager has stored it.
type hookReport struct {
	source       words.Source // deployment, or presence
	deploymentID string
	reported     chan struct{}
}

// report tells the manager what is served: at boot, as presence, and at once
// after a deploy. One goroutine sends them all, so an old token can never
// overtake a new one. A deploy that was not heard is repeated as a deploy: only
// as one does it bring back a superseded token.
func (s *Server) report(ctx context.Context) {
	source, pending, failed := words.SourceBoot, hookReport{}, false
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case asked := <-s.reports:
			if asked.source != words.SourcePresence { // presence is in any report
				source, pending = asked.source, asked
			}
		case <-timer.C:
		}
		err := s.reportOnce(ctx, source, pending.deploymentID)
		s.asked()
		if ctx.Err() != nil {
			return
		}
		next := s.o.PresenceInterval
		if err != nil {
			s.metrics.reports.WithLabelValues("failed").Inc()
			if !failed {
				s.o.Log.Warn("report not heard; presence repeats it", "source", source, "error", err)
			}
			next = min(next, reportRetry)
		} else {
			s.metrics.reports.WithLabelValues("heard").Inc()
			if pending.reported != nil {
				close(pending.reported)
			}
			source, pending = words.SourcePresence, hookReport{}
		}
		failed = err != nil
		timer.Reset(next)
	}
}

func (s *Server) reportOnce(ctx context.Context, source words.Source, deploymentID string) error {
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	releases := s.releases.Load()
	current, held := releases.current(), releases.held()
	report := wire.Report{
		Hash: current.token, Source: source, Reporter: s.o.Name, Since: current.since,
		Realms: s.URLs(), DeploymentID: deploymentID,
	}
	if s.gated() {
		report.Promotion, report.Kept = wire.PromotionGated, releases.tokens()
	}
	if held != nil {
		report.Candidate, report.DeploymentID = held.token, ""
		if source != words.SourceBoot {
			report.Source = words.SourcePresence // what was deployed is the other one
		}
	}
	if err := s.tell(ctx, report); err != nil || held == nil {
		return err
	}
	report.Candidate, report.Kept = "", nil
	report.Hash, report.Since, report.Source, report.State = held.token, held.since, source, wire.StateCandidate
	if d := s.deployment.Load(); d != nil && d.token == held.token {
		report.DeploymentID = d.id
	}
	return s.tell(ctx, report)
}

// tell sends a report, and hears from its answer what is current.
func (s *Server) tell(ctx context.Context, report wire.Report) error {
	said, err := s.o.Manager.Report(ctx, report)
	if err != nil {
		return err
	}
	return s.hear(ctx, said)
}

// postDeployment re-reads the host now and reports what is served then.
func (s *Server) postDeployment(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return fault.New(fault.MethodNotAllowed, "Method not allowed")
	}
	body, err := web.ReadBody(w, r)
	if err != nil {
		return err
	}
	outcome, err := s.Accept(r.Context(), deploymentID(body))
	if err != nil {
		return err
	}
	answer := struct {
		Current  words.Token `json:"currentChecksum"`
		Previous words.Token `json:"previousChecksum"`
		// Candidate is what was accepted, if it is held until its promotion.
		Candidate words.Token `json:"candidateChecksum,omitempty"`
		Accepted  bool        `json:"accepted"`
		Reason    string      `json:"reason,omitempty"`
	}{outcome.Current, outcome.Previous, outcome.Candidate, outcome.Accepted, outcome.Reason}
	web.WriteJSON(w, http.StatusOK, wire.ContentTypeJSON, answer)
	return nil
}

// Accepted is what came of re-reading the host.
type Accepted struct {
	Current, Previous words.Token
	// Candidate is what was accepted, if it is held until its promotion; else "".
	Candidate words.Token
	Accepted  bool
	Reason    string // why not
}

// Accept re-reads the host now, as the hook does, and waits at most two
// seconds for the manager to hear of an accepted release; presence repeats it
// otherwise. Who watches the host directory calls it. Without Run it reports
// nothing.
func (s *Server) Accept(ctx context.Context, deploymentID string) (Accepted, error) {
	o, err := s.accept(ctx)
	if err != nil {
		return Accepted{}, err
	}
	if o.accepted {
		s.deployment.Store(&deployment{cmp.Or(o.candidate, o.current), deploymentID})
	}
	if o.accepted && s.o.Manager != nil {
		s.awaitReport(ctx, hookReport{source: words.SourceDeployment, deploymentID: deploymentID, reported: make(chan struct{})})
	}
	return Accepted{Current: o.current, Previous: o.previous, Candidate: o.candidate, Accepted: o.accepted, Reason: o.reason}, nil
}

func (s *Server) awaitReport(ctx context.Context, report hookReport) {
	bound := time.NewTimer(reportTimeout)
	defer bound.Stop()
	// A report that waits already says the same of an older state: what is
	// current is read when it is sent. Only its deployment id is newer here.
	select {
	case s.reports <- report:
	default:
		select {
		case <-s.reports:
		default:
		}
		select {
		case s.reports <- report:
		default:
			return
		}
	}
	select {
	case <-report.reported:
	case <-bound.C:
	case <-ctx.Done():
	}
}

// deploymentID reads the optional id of a deploy from the hook's body; anything
// but a short string is none. A hook without a body, or with another's, is a
// hook all the same.
func deploymentID(body []byte) string {
	attributes, err := wire.ReadAttributes(body)
	if err != nil {
		return ""
	}
	doc, _ := wire.Value[wire.Attributes](body)
	id, _ := wire.Value[string](doc["deploymentId"])
	if id == "" {
		id, _ = wire.Value[string](attributes["deploymentId"])
	}
	if len(id) > 128 {
		return ""
	}
	return id
}
