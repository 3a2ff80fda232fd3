package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rewarm/rewarm/internal/client"
	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

type renderCommand struct {
	URL      string        `arg:"" help:"URL to render."`
	Via      string        `help:"The manager of the fleet that renders it; without it a Chrome of its own does, once." placeholder:"MANAGER-URL"`
	Out      string        `short:"o" help:"Write to a file instead of standard output." placeholder:"FILE"`
	Format   string        `help:"html, text, json, png, jpeg, webp or pdf; default: what the file's name says, else html." placeholder:"FORMAT"`
	JSON     bool          `help:"All that is known of the render, as JSON: short for --format json."`
	FullPage bool          `help:"A picture of the whole page, not of the viewport alone."`
	Element  string        `help:"A picture of the first element that a CSS selector matches." placeholder:"SELECTOR"`
	Viewport string        `help:"The window's size in CSS pixels; default 800x600." placeholder:"WxH"`
	WaitFor  string        `help:"Wait until a CSS selector matches something." placeholder:"SELECTOR"`
	Block    []string      `help:"Requests not to make: image, font, media, stylesheet, or a URL with * in it. Repeatable." placeholder:"WHAT"`
	Mode     string        `help:"transition, navigate or isolated; default: what the host offers." enum:",transition,navigate,isolated" default:""`
	Timeout  time.Duration `help:"The longest to wait." default:"60s"`
	Chrome   string        `help:"Chrome's executable; default: the first found on PATH." placeholder:"PATH"`
	Secret   string        `help:"Fleet secret." placeholder:"S"`

	AllowOrigin []string `help:"Without --via: origin that the page may reach though its address is private, its API on this machine for example. Of private addresses it otherwise reaches its own origin alone." placeholder:"http://127.0.0.1:3000"`
}

// rendered is what came of a render, whoever did it.
type rendered struct {
	visit wire.VisitResult // the capture, or for a picture how it went
	meta  *wire.Meta
	data  []byte // of a picture or PDF
}

func (c *renderCommand) Run(r *run) error {
	if _, err := originOf(c.URL); err != nil {
		return err
	}
	if err := c.chooseFormat(); err != nil {
		return err
	}
	options, err := c.options()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(r.ctx, c.Timeout, fmt.Errorf("not done within --timeout %s: %w", c.Timeout, context.DeadlineExceeded))
	defer cancel()
	var answer rendered
	if c.Via != "" {
		answer, err = c.via(ctx, options)
	} else {
		answer, err = c.alone(ctx, r.log, options)
	}
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return context.Cause(ctx)
	}
	if err != nil {
		return err
	}
	out, err := c.format(answer)
	if err != nil {
		return err
	}
	if err := c.write(r.streams.Out, out); err != nil {
		return err
	}
	if failure := answer.visit.Error; failure != nil {
		return fault.New(fault.Internal, "the page is %s: %s: %s", answer.visit.Status, failure.Kind, failure.Message)
	}
	return nil
}

// originOf checks a URL that was given, and is its scheme, host and port.
func originOf(raw string) (string, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", fault.New(fault.Usage, "%q is no http or https URL", raw)
	}
	return u.Scheme + "://" + u.Host, nil
}

var formats = []string{"html", "text", "json", "png", "jpeg", "webp", "pdf"}

// extensions are what files of a format are called besides its own name.
var extensions = map[string]string{"htm": "html", "txt": "text", "jpg": "jpeg"}

func (c *renderCommand) chooseFormat() error {
	switch {
	case c.JSON && c.Format != "" && c.Format != "json":
		return fault.New(fault.Usage, "--json and --format %s exclude each other", c.Format)
	case c.JSON:
		c.Format = "json"
	case c.Format == "":
		c.Format = strings.ToLower(strings.TrimPrefix(filepath.Ext(c.Out), "."))
		if format := extensions[c.Format]; format != "" {
			c.Format = format
		}
		if !slices.Contains(formats, c.Format) {
			c.Format = "html"
		}
	case !slices.Contains(formats, c.Format):
		return fault.New(fault.Usage, "--format %s is none of %s", c.Format, strings.Join(formats, ", "))
	}
	if (c.FullPage || c.Element != "") && !c.isPicture() {
		return fault.New(fault.Usage, "--full-page and --element are for pictures (png, jpeg, webp), not for %s", c.Format)
	}
	return nil
}

func (c *renderCommand) isPicture() bool {
	return slices.Contains([]string{"png", "jpeg", "webp"}, c.Format)
}

func (c *renderCommand) options() (words.RenderOptions, error) {
	o := words.RenderOptions{
		// As long as the command may take; the context bounds it.
		TimeoutMs: int(c.Timeout / time.Millisecond),
		Mode:      words.Mode(c.Mode), WaitFor: c.WaitFor, Block: c.Block, FullPage: c.FullPage, Selector: c.Element,
	}
	if c.isPicture() || c.Format == "pdf" {
		o.Format = c.Format
	}
	var err error
	if o.Viewport, err = parseViewport(c.Viewport); err != nil {
		return o, err
	}
	if err := wire.CheckOptions(o); err != nil {
		return o, fault.Wrap(fault.Usage, err, "%s", err)
	}
	return o, nil
}

// parseViewport reads a size such as 1280x720; nil for none.
func parseViewport(size string) (*words.Viewport, error) {
	if size == "" {
		return nil, nil
	}
	width, height, _ := strings.Cut(size, "x")
	w, errW := strconv.ParseUint(width, 10, 31)
	h, errH := strconv.ParseUint(height, 10, 31)
	if errW != nil || errH != nil || w == 0 || h == 0 {
		return nil, fault.New(fault.Usage, "--viewport %s is no size such as 1280x720", size)
	}
	return &words.Viewport{Width: int(w), Height: int(h)}, nil
}

// via has the fleet render it.
func (c *renderCommand) via(ctx context.Context, o words.RenderOptions) (rendered, error) {
	m := client.NewManager(c.Via, c.Secret)
	visit := wire.VisitRequest{URL: c.URL, RenderOptions: o}
	call := client.Call{Budget: c.Timeout}
	if o.Format != "" {
		shot, err := m.Screenshot(ctx, visit, call)
		capture := words.Capture{Status: shot.Status, Error: shot.Error}
		return rendered{visit: wire.VisitResult{Capture: capture, Meta: shot.Meta}, data: shot.Base64}, c.explain(err)
	}
	switch c.Format {
	case "html":
		visit.Fields = wire.Fields{wire.FieldHTML}
	case "text":
		visit.Fields = wire.Fields{wire.FieldBody}
	}
	answer, err := m.Visit(ctx, visit, call)
	return rendered{visit: answer.Result, meta: &answer.Meta}, c.explain(err)
}

// explain says what to do about the fleet's most common refusals.
func (c *renderCommand) explain(err error) error {
	if client.IsStatus(err, http.StatusBadRequest) && strings.Contains(err.Error(), "affinityType") {
		return fault.Wrap(fault.Invalid, err, "the fleet does not render %s; \"rewarm release list\" shows its realm servers", c.URL)
	}
	return err
}

func (c *renderCommand) format(answer rendered) ([]byte, error) {
	switch c.Format {
	case "json":
		out, err := json.MarshalIndent(wire.Document[wire.VisitResult]{
			Data: wire.Resource[wire.VisitResult]{Type: wire.TypeVisitResult, ID: c.URL, Attributes: answer.visit}, Meta: answer.meta,
		}, "", "  ")
		return append(out, '\n'), err
	case "html":
		return []byte(answer.visit.HTML + "\n"), nil
	case "text":
		return []byte(textOf(answer.visit.Body)), nil
	}
	return answer.data, nil
}

// write puts out where it is wanted. Nothing is written of a page that gave
// nothing, so a file that was there before stays.
func (c *renderCommand) write(w io.Writer, out []byte) error {
	if len(bytes.TrimSpace(out)) == 0 {
		return nil
	}
	if c.Out == "" {
		_, err := w.Write(out)
		return err
	}
	if err := os.WriteFile(c.Out, out, 0o644); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	return nil
}
