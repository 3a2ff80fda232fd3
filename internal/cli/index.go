package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/url"
	"strings"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/rewarm/rewarm/internal/client"
	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/index"
	"github.com/rewarm/rewarm/internal/wire"
)

type indexCommand struct {
	Queue  indexQueue  `cmd:"" default:"withargs" help:"Render a realm's pages again, all of them or those named; with --wait, follow it."`
	Status indexStatus `cmd:"" help:"Show how far the last indexing is, and which pages were given up."`
	Purge  indexPurge  `cmd:"" help:"Remove stored pages, of every release; --dry-run only names them."`
}

// Help is shown by rewarm index --help.
func (indexCommand) Help() string {
	return `A deploy indexes every realm by itself; this is for the days when the content has changed and the application has not.

  rewarm index --wait                                         all pages, with a progress bar
  rewarm index http://127.0.0.1:4201/products                 one page
  rewarm index status --realm-url http://127.0.0.1:4201       of one realm among several
  rewarm index purge --prefix http://127.0.0.1:4201/products --dry-run`
}

// realmFlags say which realm a command is about.
type realmFlags struct {
	RealmURL string `name:"realm-url" help:"Base URL of the realm; default: that of the pages named, or the only one that the fleet has." placeholder:"URL"`
	managerFlags
}

// ask is the manager and the realm to ask it about: the one that was named, or
// that has the page ("" for none), or else the only one of the fleet.
func (f *realmFlags) ask(ctx context.Context, page string) (manager *client.Manager, realm string, err error) {
	manager = f.client()
	if f.RealmURL != "" {
		return manager, f.RealmURL, nil
	}
	releases, err := manager.Releases(ctx)
	if err != nil {
		return nil, "", err
	}
	all := releases.Realms()
	if owner := index.Owner("", page, all); owner != "" {
		return manager, owner, nil
	}
	switch len(all) {
	case 0:
		return nil, "", fault.New(fault.NotFound, "no realm server has reported its realms; \"rewarm release list\" shows who reports")
	case 1:
		return manager, all[0], nil
	}
	return nil, "", fault.New(fault.Usage, "the fleet has %d realms; name one with --realm-url: %s", len(all), strings.Join(all, ", "))
}

type indexQueue struct {
	realmFlags
	URLs    []string      `arg:"" optional:"" name:"url" help:"Pages to render again; default: all of the realm."`
	Wait    bool          `help:"End when nothing of the realm is left to do: 0, or 1 when pages (of those named, if any are) were given up or the time is up."`
	Timeout time.Duration `help:"The longest to wait." default:"1h"`
}

func (c *indexQueue) Run(r *run) error {
	manager, realm, err := c.ask(r.ctx, cmp.Or(c.URLs...))
	if err != nil {
		return err
	}
	status, err := manager.Index(r.ctx, wire.IndexRequest{Realm: realm, URLs: c.URLs})
	if err != nil {
		return err
	}
	if !c.Wait {
		printIndex(r.streams.Out, status)
		return nil
	}
	ctx, cancel := context.WithTimeout(r.ctx, c.Timeout)
	defer cancel()
	status, err = c.follow(ctx, manager, status, r.streams.Err)
	switch {
	case r.ctx.Err() != nil:
		return r.ctx.Err()
	case err != nil:
		return fault.Wrap(fault.Internal, err, "not done after %s: %d pages are pending; is a worker running? (rewarm worker --help)", c.Timeout, status.Pending)
	}
	printIndex(r.streams.Out, status)
	if n := c.givenUp(status); n > 0 {
		return fault.New(fault.Internal, "%d pages were given up", n)
	}
	return nil
}

// givenUp counts the pages given up that the command is about: those it named,
// or else all of the realm.
func (c *indexQueue) givenUp(status wire.IndexStatus) (n int) {
	if len(c.URLs) == 0 && len(status.Failures) > 0 {
		return max(status.Failed, len(status.Failures))
	}
	named := map[string]bool{}
	for _, raw := range c.URLs {
		if page, ok := index.Named(status.Realm, raw); ok {
			named[page] = true
		}
	}
	for _, f := range status.Failures {
		if named[f.URL] {
			n++
		}
	}
	return n
}

// follow shows a bar on a terminal until nothing is pending.
func (c *indexQueue) follow(ctx context.Context, manager *client.Manager, status wire.IndexStatus, w io.Writer) (wire.IndexStatus, error) {
	bars := mpb.NewWithContext(ctx, mpb.WithOutput(w), mpb.WithWidth(40))
	var failed atomic.Int64 // the bar is drawn by a goroutine of its own
	bar := bars.AddBar(0,
		mpb.PrependDecorators(decor.CountersNoUnit("%d of %d pages ")),
		mpb.AppendDecorators(
			decor.AverageSpeed(0, "%.1f a second, "), decor.AverageETA(decor.ET_STYLE_GO), decor.Name(" left"),
			decor.Any(func(decor.Statistics) string {
				if n := failed.Load(); n > 0 {
					return fmt.Sprintf(", %d given up", n)
				}
				return ""
			})))
	defer bars.Wait()
	defer bar.Abort(false)
	for {
		done := status.Stored + status.Skipped + status.Failed
		failed.Store(int64(status.Failed))
		bar.SetTotal(int64(done+status.Pending), false)
		bar.SetCurrent(int64(done))
		if status.Pending == 0 {
			bar.SetTotal(int64(done), true)
			return status, nil
		}
		select {
		case <-ctx.Done():
			return status, ctx.Err()
		case <-time.After(pollEvery + time.Duration(min(status.Pending, maxPaced))*pollPerJob):
		}
		if next, err := manager.IndexStatus(ctx, status.Realm); err == nil {
			status = next
		} else if ctx.Err() == nil {
			fmt.Fprintln(bars, "manager:", err)
		}
	}
}

// Counting what is pending costs the store some microseconds a job: of a large
// site it is asked less often.
const (
	pollPerJob = 100 * time.Microsecond
	maxPaced   = 50_000
)

type indexStatus struct{ realmFlags }

func (c *indexStatus) Run(r *run) error {
	manager, realm, err := c.ask(r.ctx, "")
	if err != nil {
		return err
	}
	status, err := manager.IndexStatus(r.ctx, realm)
	if err != nil {
		return err
	}
	printIndex(r.streams.Out, status)
	return nil
}

func printIndex(w io.Writer, status wire.IndexStatus) {
	fmt.Fprintf(w, "Realm    %s\n", status.Realm)
	if run := status.Run; run != nil {
		fmt.Fprintf(w, "Run      %d (%s), release %d %s, since %s\n", run.ID, run.Class, run.Sequence, run.Token, run.StartedAt.Format(time.RFC3339))
	}
	fmt.Fprintf(w, "Pages    %d stored, %d fresh or forbidden, %d given up, %d pending\n", status.Stored, status.Skipped, status.Failed, status.Pending)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	defer table.Flush()
	if len(status.Failures) > 0 {
		fmt.Fprintln(table, "\nGIVEN UP\tRENDERS\tREASON")
	}
	for _, f := range status.Failures {
		fmt.Fprintf(table, "%s\t%d\t%s\n", f.URL, f.Renders, f.Reason)
	}
}

type indexPurge struct {
	realmFlags
	URL    string `help:"Remove one page." xor:"what" required:"" placeholder:"URL"`
	Prefix string `help:"Remove the pages whose URL begins so." xor:"what" required:"" placeholder:"URL"`
	All    bool   `help:"Remove all pages of the realm." xor:"what" required:""`
	DryRun bool   `help:"Name the pages; remove none."`
}

func (c *indexPurge) Run(r *run) error {
	if c.All && !c.DryRun && c.RealmURL == "" {
		return fault.New(fault.Usage, "name the realm that is to be emptied with --realm-url, or see with --dry-run which pages it has")
	}
	manager, realm, err := c.ask(r.ctx, cmp.Or(c.URL, c.Prefix))
	if err != nil {
		return err
	}
	query := url.Values{"realm": {realm}}
	switch {
	case c.URL != "":
		query.Set("url", c.URL)
	case c.Prefix != "":
		query.Set("prefix", c.Prefix)
	default:
		query.Set("all", "true")
	}
	verb := "removed"
	if c.DryRun {
		query.Set("dryRun", "true")
		verb = "would be removed"
	}
	purged, err := manager.Purge(r.ctx, query)
	if err != nil {
		return err
	}
	for _, page := range purged.URLs {
		fmt.Fprintln(r.streams.Out, page)
	}
	if more := purged.Pages - len(purged.URLs); more > 0 {
		fmt.Fprintf(r.streams.Out, "... and %d more\n", more)
	}
	fmt.Fprintf(r.streams.Out, "%d pages of %s %s (%d snapshots of all releases)\n", purged.Pages, purged.Realm, verb, purged.Snapshots)
	return nil
}
