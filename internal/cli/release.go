package cli

import (
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

type releaseCommand struct {
	List   releaseList   `cmd:"" help:"List releases, newest first, and who reported which last: realm servers, hooks and operators."`
	Report releaseReport `cmd:"" help:"Report a token as an operator: the fleet moves to it at once."`
}

type releaseList struct{ managerFlags }

func (c *releaseList) Run(r *run) error {
	releases, err := c.client().Releases(r.ctx)
	if err != nil {
		return err
	}
	if releases.Current == nil {
		fmt.Fprintln(r.streams.Out, "No release was reported yet.")
		return nil
	}
	table := tabwriter.NewWriter(r.streams.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "SEQUENCE\tTOKEN\tSINCE\tSOURCE\tREPORTER")
	for _, release := range releases.History {
		fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\n", release.Sequence, release.Token, release.Since.Format(time.RFC3339), release.Source, release.Reporter)
	}
	fmt.Fprintln(table, "\nREPORTER\tTOKEN\tLAST SEEN\tBEHIND\tCANDIDATE")
	for _, reporter := range releases.Reporters {
		fmt.Fprintf(table, "%s\t%s\t%s\t%t\t%s\n", reporter.Name, reporter.Token, reporter.LastSeenAt.Format(time.RFC3339), reporter.Behind, reporter.Candidate)
	}
	return table.Flush()
}

type releaseReport struct {
	managerFlags
	Hash string `required:"" help:"Token to make current." placeholder:"T"`
}

func (c *releaseReport) Run(r *run) error {
	token, err := words.ParseToken(c.Hash)
	if err != nil {
		return fault.New(fault.Usage, "--hash: %s", err)
	}
	_, err = c.client().Report(r.ctx, wire.Report{Hash: token, Source: words.SourceOperator, Reporter: "operator@" + hostName()})
	return err
}
