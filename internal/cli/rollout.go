package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/rewarm/rewarm/internal/client"
	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// managerFlags say which manager a command asks.
type managerFlags struct {
	ManagerURL string `name:"manager-url" help:"The prerender manager." default:"http://127.0.0.1:4222" env:"REWARM_MANAGER_URL,PRERENDER_MANAGER_URL" placeholder:"URL"`
	Secret     string `help:"Fleet secret." placeholder:"S"`
}

func (m managerFlags) client() *client.Manager { return client.NewManager(m.ManagerURL, m.Secret) }

type rolloutCommand struct {
	Status  rolloutStatus  `cmd:"" help:"Show how far the fleet is on the current release; with --wait, until it is there."`
	Pause   rolloutPause   `cmd:"" help:"Let no further server begin to move its pages."`
	Resume  rolloutResume  `cmd:"" help:"Go on after a pause, though the canary broke; promote a candidate that waits or was refused."`
	Undo    rolloutUndo    `cmd:"" help:"Drop the candidate if there is one; else make the release before the current one again."`
	Restart rolloutRestart `cmd:"" help:"Roll the current release out again, from its canary; check a refused candidate again."`
}

type rolloutStatus struct {
	managerFlags
	Wait       bool          `help:"End 0 when the release is current, at least one server is live, and all have only its pages; 1 when the time is up, the canary broke, or the candidate was refused."`
	Release    string        `help:"Token to wait for; default: the current one." xor:"target" placeholder:"T"`
	Deployment string        `help:"Wait for the release that this deployment reported." xor:"target" placeholder:"ID"`
	After      uint64        `help:"Wait for a release with a higher sequence." xor:"target" placeholder:"SEQ"`
	Timeout    time.Duration `help:"The longest to wait." default:"10m"`
}

// pollEvery is how often a waiting command asks; a person or a pipeline waits.
const pollEvery = 500 * time.Millisecond

func (c *rolloutStatus) Run(r *run) error {
	manager := c.client()
	if !c.Wait {
		rollout, err := manager.Rollout(r.ctx)
		if err != nil {
			return err
		}
		printRollout(r.streams.Out, rollout)
		return nil
	}
	ctx, cancel := context.WithTimeout(r.ctx, c.Timeout)
	defer cancel()
	told := ""
	for {
		rollout, sequence, done, line, err := c.look(ctx, manager)
		if err == nil && line != told {
			fmt.Fprintln(r.streams.Err, line)
			told = line
		}
		if done {
			printRollout(r.streams.Out, rollout)
			return nil
		}
		if err != nil && ctx.Err() == nil {
			fmt.Fprintln(r.streams.Err, "manager:", err)
		}
		if err == nil && c.refused(rollout.Candidate) {
			return fault.New(fault.Internal, "%s", rollout.Candidate.Detail)
		}
		if err == nil && rollout.Canary != nil && !rollout.Canary.Passed && rollout.Release.Sequence >= sequence {
			return fault.New(fault.Internal, "the canary broke: %s; `rewarm rollout undo` goes back, `rewarm rollout resume` goes on", rollout.Canary.Detail)
		}
		select {
		case <-r.ctx.Done():
			return r.ctx.Err()
		case <-ctx.Done():
			return fault.New(fault.Internal, "not complete after %s: %s", c.Timeout, told)
		case <-time.After(pollEvery):
		}
	}
}

// look reports whether the fleet is where the flags want it, and one line of
// progress. sequence is the current release's: a manager may lag behind it.
func (c *rolloutStatus) look(ctx context.Context, manager *client.Manager) (rollout wire.Rollout, sequence uint64, done bool, line string, err error) {
	releases, err := manager.Releases(ctx)
	switch {
	case err != nil:
		return rollout, 0, false, "", err
	case releases.Current == nil:
		return rollout, 0, false, "no release was reported yet", nil
	}
	sequence = releases.Current.Sequence
	if rollout, err = manager.Rollout(ctx); err != nil {
		return rollout, sequence, false, "", err
	}
	if reason := c.notYet(*releases.Current); reason != "" {
		if rollout.Candidate != nil {
			reason += "; " + rollout.Candidate.Detail
		}
		rollout.Canary = nil // of a release that is not waited for
		return rollout, sequence, false, reason, nil
	}
	done = rollout.Phase == wire.RolloutComplete && rollout.Release.Sequence >= sequence
	return rollout, sequence, done, fmt.Sprintf("release %d %s: %s %s", rollout.Release.Sequence, rollout.Release.Token, rollout.Phase, rollout.Detail), nil
}

// refused reports whether the candidate is what is waited for, and will not come.
func (c *rolloutStatus) refused(candidate *wire.CandidateReport) bool {
	return candidate != nil && candidate.Phase == wire.CandidateRefused &&
		(c.Release != "" && candidate.Token == words.Token(c.Release) || c.Deployment != "" && candidate.DeploymentID == c.Deployment)
}

// notYet says why the current release is not the one that is waited for.
func (c *rolloutStatus) notYet(current words.Release) string {
	switch {
	case c.Release != "" && current.Token != words.Token(c.Release):
		return fmt.Sprintf("the current release is %s, not %s yet", current.Token, c.Release)
	case c.Deployment != "" && current.DeploymentID != c.Deployment:
		return fmt.Sprintf("deployment %s has not reported yet", c.Deployment)
	case c.After > 0 && current.Sequence <= c.After:
		return fmt.Sprintf("the current sequence is %d", current.Sequence)
	}
	return ""
}

func printRollout(w io.Writer, rollout wire.Rollout) {
	fmt.Fprintf(w, "Release  %d %s\nPhase    %s %s\n", rollout.Release.Sequence, rollout.Release.Token, rollout.Phase, rollout.Detail)
	if rollout.Candidate != nil {
		fmt.Fprintf(w, "Next     %s %s\n", rollout.Candidate.Phase, rollout.Candidate.Detail)
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	defer table.Flush()
	if len(rollout.Servers) > 0 {
		fmt.Fprintln(table, "SERVER\tPHASE\tPERMITTED\tPAGES\tDETAIL")
	}
	slices.SortFunc(rollout.Servers, func(a, b wire.RolloutServer) int { return cmp.Compare(a.URL, b.URL) })
	for _, s := range rollout.Servers {
		fmt.Fprintf(table, "%s\t%s\t%t\t%d of the release, %d others\t%s\n", s.URL, s.Phase, s.Permitted,
			s.Pages[rollout.Release.Token], others(s.Pages, rollout.Release.Token), s.Detail)
	}
}

func others(pages map[words.Token]int, token words.Token) int {
	n := 0
	for t, count := range pages {
		if t != token {
			n += count
		}
	}
	return n
}

type rolloutPause struct{ managerFlags }

// order carries an operator's order out, and shows what came of it.
func (m managerFlags) order(r *run, action, release string) error {
	rollout, err := m.client().RolloutAction(r.ctx, action, words.Token(release))
	if err != nil {
		return err
	}
	if rollout.Unchanged != "" {
		fmt.Fprintln(r.streams.Err, rollout.Unchanged)
	}
	printRollout(r.streams.Out, rollout)
	return nil
}

func (c *rolloutPause) Run(r *run) error { return c.order(r, "pause", "") }

type rolloutResume struct {
	managerFlags
	Release string `help:"Token of the candidate to promote, checked or not. Without it, one that was refused or that waits for realm servers without it." placeholder:"T"`
}

func (c *rolloutResume) Run(r *run) error {
	return c.order(r, "resume", c.Release)
}

type rolloutUndo struct {
	managerFlags
	Release string `help:"Token of the candidate to drop, or of the current release to undo. Without it, the candidate if there is one, else the current release; a repeat goes back no further." placeholder:"T"`
}

func (c *rolloutUndo) Run(r *run) error {
	return c.order(r, "undo", c.Release)
}

type rolloutRestart struct{ managerFlags }

func (c *rolloutRestart) Run(r *run) error { return c.order(r, "restart", "") }
