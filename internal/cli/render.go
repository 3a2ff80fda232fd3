package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"golang.org/x/net/html"

	"github.com/rewarm/rewarm/internal/client"
	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

type renderCommand struct {
	URL     string        `arg:"" help:"URL to render."`
	Via     string        `help:"The manager of the fleet that renders it; without it a Chrome of its own does, once." placeholder:"MANAGER-URL"`
	Out     string        `short:"o" help:"Write to a file instead of standard output." placeholder:"FILE"`
	Format  string        `help:"html, text, json, png or pdf." default:"html" enum:"html,text,json,png,pdf"`
	Mode    string        `help:"transition, navigate or isolated; default: what the host offers." enum:",transition,navigate,isolated" default:""`
	Timeout time.Duration `help:"The longest to wait." default:"60s"`
	Chrome  string        `help:"Chrome's executable; default: the first found on PATH." placeholder:"PATH"`
	Secret  string        `help:"Fleet secret." placeholder:"S"`

	AllowOrigin []string `help:"Without --via: origin that the page may reach though its address is private, its API on this machine for example. Of private addresses it otherwise reaches its own origin alone." placeholder:"http://127.0.0.1:3000"`
}

// rendered is what came of a render, whoever did it.
type rendered struct {
	visit wire.VisitResult // the capture, or for a picture how it went
	meta  *wire.Meta
	data  []byte // of a png or pdf
}

func (c *renderCommand) Run(r *run) error {
	if u, err := url.Parse(c.URL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return fault.New(fault.Usage, "%q is no http or https URL", c.URL)
	}
	render := c.alone
	if c.Via != "" {
		render = c.via
	}
	answer, err := render(r)
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

// via has the fleet render it.
func (c *renderCommand) via(r *run) (rendered, error) {
	m := client.NewManager(c.Via, c.Secret)
	visit := wire.VisitRequest{URL: c.URL, RenderOptions: words.RenderOptions{Mode: words.Mode(c.Mode)}}
	call := client.Call{Budget: c.Timeout}
	switch c.Format {
	case "pdf":
		return rendered{}, fault.New(fault.Usage, "--format pdf: a fleet renders no PDF; leave --via out, and a Chrome of its own does")
	case "png":
		visit.RenderOptions.Format = "png"
		shot, err := m.Screenshot(r.ctx, visit, call)
		return rendered{visit: wire.VisitResult{Capture: words.Capture{Status: shot.Status, Error: shot.Error}}, data: shot.Base64}, err
	}
	answer, err := m.Visit(r.ctx, visit, call)
	if client.IsStatus(err, http.StatusBadRequest) {
		err = fault.Wrap(fault.Invalid, err, "the fleet does not render %s; \"rewarm release list\" shows its realm servers", c.URL)
	}
	return rendered{visit: answer.Result, meta: &answer.Meta}, err
}

func (c *renderCommand) format(answer rendered) ([]byte, error) {
	switch c.Format {
	case "json":
		out, err := json.MarshalIndent(wire.Document[wire.VisitResult]{
			Data: wire.Resource[wire.VisitResult]{Type: wire.TypeVisitResult, ID: c.URL, Attributes: answer.visit}, Meta: answer.meta,
		}, "", "  ")
		return append(out, '\n'), err
	case "text":
		return []byte(textOf(answer.visit.Body)), nil
	case "png", "pdf":
		return answer.data, nil
	}
	return []byte(answer.visit.HTML + "\n"), nil
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

// textOf is what a reader of the body would read, a line for each run of text.
func textOf(body string) string {
	var out strings.Builder
	hidden := 0
	tokens := html.NewTokenizer(strings.NewReader(body))
	for {
		switch tokens.Next() {
		case html.ErrorToken:
			return out.String()
		case html.StartTagToken:
			if name, _ := tokens.TagName(); isHidden(string(name)) {
				hidden++
			}
		case html.EndTagToken:
			if name, _ := tokens.TagName(); isHidden(string(name)) {
				hidden = max(0, hidden-1) // what closes nothing hides nothing
			}
		case html.TextToken:
			if text := strings.Join(strings.Fields(string(tokens.Text())), " "); text != "" && hidden == 0 {
				fmt.Fprintln(&out, text)
			}
		}
	}
}

func isHidden(tag string) bool {
	return tag == "script" || tag == "style" || tag == "template" || tag == "noscript"
}
