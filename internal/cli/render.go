package cli

import (
	"encoding/json"
	"fmt"
	"io"
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
	Via     string        `required:"" help:"The manager of the fleet that renders it." placeholder:"MANAGER-URL"`
	Out     string        `short:"o" help:"Write to a file instead of standard output." placeholder:"FILE"`
	Format  string        `help:"html, text or json." default:"html" enum:"html,text,json"`
	Mode    string        `help:"transition, navigate or isolated; default: what the host offers." enum:",transition,navigate,isolated" default:""`
	Timeout time.Duration `help:"The longest to wait." default:"60s"`
	Secret  string        `help:"Fleet secret." placeholder:"S"`
}

func (c *renderCommand) Run(r *run) error {
	answer, err := client.NewManager(c.Via, c.Secret).Visit(r.ctx, wire.VisitRequest{
		URL: c.URL, RenderOptions: words.RenderOptions{Mode: words.Mode(c.Mode)},
	}, client.Call{Budget: c.Timeout})
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
	if failure := answer.Result.Error; failure != nil {
		return fault.New(fault.Internal, "the page is %s: %s: %s", answer.Result.Status, failure.Kind, failure.Message)
	}
	return nil
}

func (c *renderCommand) format(answer client.VisitAnswer) (string, error) {
	switch c.Format {
	case "json":
		out, err := json.MarshalIndent(wire.Document[wire.VisitResult]{
			Data: wire.Resource[wire.VisitResult]{Type: wire.TypeVisitResult, ID: c.URL, Attributes: answer.Result}, Meta: &answer.Meta,
		}, "", "  ")
		return string(out) + "\n", err
	case "text":
		return textOf(answer.Result.Body), nil
	}
	return answer.Result.HTML + "\n", nil
}

func (c *renderCommand) write(w io.Writer, out string) error {
	if c.Out == "" {
		_, err := io.WriteString(w, out)
		return err
	}
	if err := os.WriteFile(c.Out, []byte(out), 0o644); err != nil {
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
				hidden--
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
