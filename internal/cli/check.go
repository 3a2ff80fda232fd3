package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/rewarm/rewarm/internal/chrome"
	"github.com/rewarm/rewarm/internal/client"
	"github.com/rewarm/rewarm/internal/egress"
	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/page"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

type checkCommand struct {
	URLs            []string      `arg:"" name:"url" help:"Pages to check, as visitors get them."`
	Via             string        `help:"The manager, or the prerender server, that checks; without it a Chrome of its own does." placeholder:"URL"`
	Release         string        `help:"With --via: check a release that realm servers hold and do not serve, a candidate of gated promotion." placeholder:"T"`
	Format          string        `help:"text for people, json or junit for machines." default:"text" enum:"text,json,junit"`
	Artifacts       string        `help:"Write pictures of each page before and after the takeover, and of their difference, into a directory." placeholder:"DIR" type:"path"`
	AllowDifference []string      `help:"What a CSS selector matches may differ: a clock, an advertisement. Repeatable." placeholder:"CSS" sep:"none"`
	Viewport        string        `help:"The window's size in CSS pixels; default 1280x800." placeholder:"WxH"`
	Timeout         time.Duration `help:"How long a page may take to settle." default:"20s"`
	Every           time.Duration `help:"Check again and again, until stopped." placeholder:"5m"`
	MetricsAddr     string        `help:"With --every: where Prometheus finds /metrics." placeholder:"127.0.0.1:9464"`
	Chrome          string        `help:"Chrome's executable; default: the first found on PATH." placeholder:"PATH"`
	Secret          string        `help:"Fleet secret." placeholder:"S"`
	AllowOrigin     []string      `help:"Without --via: origin that pages may reach though its address is private, their API on this machine for example." placeholder:"http://127.0.0.1:3000"`
}

// Help is shown below the command's flags.
func (c *checkCommand) Help() string {
	return `It loads each page in real Chrome as the realm server serves it, lets the application take over, and compares. ` +
		`A page breaks when its application throws, does not hydrate, misses a script, never takes over, loses text or links that were prerendered, ` +
		`goes blank, never rests, or waits for data that never comes.

Exit code 1: a page breaks, or could not be checked. 2: wrong usage.

In a pipeline, after a deploy:
  rewarm check https://shop.example/ https://shop.example/products --format junit > takeover.xml
With a clock on the page, and pictures to look at:
  rewarm check https://shop.example/ --allow-difference .clock --artifacts build/takeover
Watching production:
  rewarm check https://shop.example/ --every 5m --metrics-addr 127.0.0.1:9464`
}

func (c *checkCommand) Run(r *run) error {
	viewport, err := c.validate()
	if err != nil {
		return err
	}
	if c.Every > 0 {
		return c.watch(r, viewport)
	}
	checked, err := c.round(r, viewport)
	if len(checked) > 0 { // what is known, whatever came after
		err = errors.Join(err, c.report(r.streams.Out, checked))
	}
	return errors.Join(err, breaks(checked))
}

func (c *checkCommand) validate() (*words.Viewport, error) {
	for _, target := range c.URLs {
		if _, err := originOf(target); err != nil {
			return nil, err
		}
	}
	switch {
	case c.Timeout <= 0:
		return nil, fault.New(fault.Usage, "--timeout %s is no time to wait", c.Timeout)
	case c.Every < 0:
		return nil, fault.New(fault.Usage, "--every %s is no time to wait", c.Every)
	case c.MetricsAddr != "" && c.Every == 0:
		return nil, fault.New(fault.Usage, "--metrics-addr is for checks that go on: give --every too")
	case c.Release != "" && c.Via == "":
		return nil, fault.New(fault.Usage, "--release is for the fleet to check: give --via too")
	}
	viewport, err := parseViewport(c.Viewport)
	if err != nil {
		return nil, err
	}
	if err := wire.CheckTakeover(wire.TakeoverRequest{AllowDifference: c.AllowDifference, Viewport: viewport, Release: words.Token(c.Release)}); err != nil {
		return nil, fault.Wrap(fault.Usage, err, "%s", err)
	}
	return viewport, nil
}

// breaks is the error that says how many pages break; nil for none.
func breaks(checked []wire.TakeoverResult) error {
	broken := 0
	for _, result := range checked {
		if result.Verdict.Verdict != words.VerdictOK {
			broken++
		}
	}
	if broken == 0 {
		return nil
	}
	return fault.New(fault.Internal, "%d of %d pages break when the application takes over", broken, len(checked))
}

// round checks each page once, one after the other. On an error it returns what
// was checked before.
func (c *checkCommand) round(r *run, viewport *words.Viewport) (checked []wire.TakeoverResult, err error) {
	each := func(check func(ctx context.Context, target string) (wire.TakeoverResult, error)) error {
		for _, target := range c.URLs {
			limit := 2*c.Timeout + page.ObserveExtra
			ctx, cancel := context.WithTimeoutCause(r.ctx, limit, fmt.Errorf("no verdict on %s within %s: %w", target, limit, context.DeadlineExceeded))
			result, err := check(ctx, target)
			err = reason(ctx, err)
			cancel()
			if err != nil {
				return err
			}
			if err := c.keepPictures(target, len(checked), &result); err != nil {
				return err
			}
			checked = append(checked, result)
		}
		return nil
	}
	if c.Via != "" {
		return checked, each(func(ctx context.Context, target string) (wire.TakeoverResult, error) {
			return c.ask(ctx, target, viewport)
		})
	}
	path, err := chrome.Find(c.Chrome)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "cannot check without Chrome")
	}
	var origins []string
	for _, target := range c.URLs {
		if origin, err := originOf(target); err == nil && !slices.Contains(origins, origin) {
			origins = append(origins, origin)
		}
	}
	err = withChrome(r.ctx, path, egress.Options{Realms: origins, AllowOrigins: c.AllowOrigin, Log: r.log}, func(pages *page.Browser) error {
		return each(func(ctx context.Context, target string) (wire.TakeoverResult, error) {
			origin, _ := originOf(target) // validate has seen it
			seen, err := pages.Observe(ctx, page.ObserveOptions{
				URL: target, Realms: []string{origin}, Allow: c.AllowDifference, Viewport: viewport, Patience: c.Timeout, Pictures: c.Artifacts != "",
			})
			if refused, ok := errors.AsType[*page.OptionsError](err); ok {
				return wire.TakeoverResult{}, fault.Wrap(fault.Usage, err, "--allow-difference: %s", refused.Err)
			}
			return seen.Result(), err
		})
	})
	return checked, err
}

// ask has the fleet check a page.
func (c *checkCommand) ask(ctx context.Context, target string, viewport *words.Viewport) (wire.TakeoverResult, error) {
	result, err := client.NewManager(c.Via, c.Secret).TakeoverCheck(ctx, wire.TakeoverRequest{
		URL: target, AllowDifference: c.AllowDifference, TimeoutMs: int(c.Timeout.Milliseconds()), Viewport: viewport, Screenshots: c.Artifacts != "", Release: words.Token(c.Release),
	}, client.Call{Budget: 2*c.Timeout + page.ObserveExtra})
	switch {
	case client.IsStatus(err, http.StatusBadRequest) && strings.Contains(err.Error(), "affinityType"):
		err = fault.Wrap(fault.Invalid, err, "the fleet does not serve %s; \"rewarm release list\" shows its realm servers", target)
	case client.IsStatus(err, http.StatusBadRequest):
		err = fault.Wrap(fault.Usage, err, "%s refuses the check of %s", c.Via, target)
	}
	return result, err
}

// report writes what was checked in the wanted format.
func (c *checkCommand) report(w io.Writer, checked []wire.TakeoverResult) error {
	switch c.Format {
	case "json":
		return writeCheckJSON(w, checked)
	case "junit":
		return writeCheckJUnit(w, checked)
	}
	return writeCheckText(w, checked)
}
