package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"

	"github.com/rewarm/rewarm/internal/chrome"
	"github.com/rewarm/rewarm/internal/egress"
	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/page"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// maxDocument bounds the document that is fetched, in bytes.
const maxDocument = 8 << 20

// document is a fetched document and where it came from after redirects.
type document struct {
	url   *url.URL
	shell words.Shell
}

func (d document) origin() string { return d.url.Scheme + "://" + d.url.Host }

// alone renders without a fleet: the document is fetched once, and a Chrome
// that lives for this one render makes a page of its bytes.
func (c *renderCommand) alone(ctx context.Context, log *slog.Logger, o words.RenderOptions) (rendered, error) {
	path, err := chrome.Find(c.Chrome)
	if err != nil {
		return rendered{}, fault.Wrap(fault.Internal, err, "cannot render without Chrome")
	}
	began := time.Now()
	doc, err := fetchDocument(ctx, c.URL)
	if err != nil {
		return rendered{}, err
	}
	task := page.Task{Visit: words.Visit{URL: doc.url.String(), Options: o}}
	switch {
	case c.Format == "pdf":
		task.Kind = page.PDF
	case c.isPicture():
		task.Kind = page.Screenshot
	}
	result, launch, err := renderOnce(ctx, path, doc, task, egress.Options{
		Realms: []string{doc.origin()}, AllowOrigins: c.AllowOrigin, Log: log,
	})
	if refused, ok := errors.AsType[*page.OptionsError](err); ok {
		return rendered{}, fault.Wrap(fault.Usage, err, "%s", refused)
	}
	total, token := time.Since(began), result.Token
	return rendered{
		visit: wire.VisitResult{Capture: result.Capture, Meta: wire.ResultMeta{Diagnostics: result.Report.Diagnostics(result.SettledBy)}},
		meta: &wire.Meta{
			Timing: wire.Timing{LaunchMs: launch.Milliseconds(), RenderMs: result.Report.Total().Milliseconds(), TotalMs: total.Milliseconds()},
			// What was fetched a moment ago is the newest there is.
			HostShell: wire.HostShellMeta{Rendered: token, Desired: doc.shell.Token, Fresh: token == doc.shell.Token},
		},
		data: result.Data,
	}, err
}

// fetchDocument fetches the document with a plain client, as a crawler without
// scripts would.
func fetchDocument(ctx context.Context, target string) (document, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return document{}, fault.Wrap(fault.Usage, err, "%q is no http or https URL", target)
	}
	request.Header.Set("Accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.1")
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return document{}, fault.Wrap(fault.Internal, reason(ctx, err), "%s cannot be reached", target)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode >= 400 {
		return document{}, fault.New(fault.Internal, "%s answered %s", target, response.Status)
	}
	kind, _, err := mime.ParseMediaType(response.Header.Get("Content-Type"))
	if kind != "text/html" && kind != "application/xhtml+xml" {
		return document{}, fault.Wrap(fault.Internal, err, "%s is no HTML document: its type is %q", target, response.Header.Get("Content-Type"))
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxDocument+1))
	switch {
	case err != nil:
		return document{}, fault.Wrap(fault.Internal, reason(ctx, err), "%s broke off its answer", target)
	case len(body) > maxDocument:
		return document{}, fault.New(fault.Internal, "%s is larger than %d bytes", target, maxDocument)
	case len(body) == 0:
		return document{}, fault.New(fault.Internal, "%s is an empty document", target)
	}
	final := *response.Request.URL
	final.User = nil
	return document{url: &final, shell: words.Shell{Token: words.TokenOf(body), Bytes: body, Header: documentHeaders(response.Header)}}, nil
}

// reason is why ctx ended, if that is what made err.
func reason(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// documentHeaders keeps what changes how a browser treats the document.
func documentHeaders(h http.Header) map[string]string {
	kept := map[string]string{}
	for _, name := range []string{
		"Content-Type", "Content-Language", "Content-Security-Policy", "Cross-Origin-Opener-Policy",
		"Cross-Origin-Embedder-Policy", "Permissions-Policy", "Referrer-Policy",
	} {
		if v := h.Get(name); v != "" {
			kept[name] = v
		}
	}
	return kept
}

// renderOnce does one task in a Chrome of its own. The page reaches what it would in a fleet whose
// realm it is: what it loads is not the user's command. launch is how long it
// took until there was a page.
func renderOnce(ctx context.Context, path string, doc document, t page.Task, o egress.Options) (result page.Result, launch time.Duration, err error) {
	began := time.Now()
	err = withChrome(ctx, path, o, func(pages *page.Browser) (err error) {
		opened, err := pages.Open(ctx, page.OpenOptions{Shell: doc.shell, Realms: []string{doc.origin()}})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, opened.Close()) }()
		launch = time.Since(began)
		result, err = opened.Do(ctx, t)
		return err
	})
	return result, launch, err
}

// withChrome calls do with a Chrome that has ended, with its way out and all it
// wrote, when withChrome returns.
func withChrome(ctx context.Context, path string, o egress.Options, do func(*page.Browser) error) (err error) {
	dir, err := os.MkdirTemp("", "rewarm-render-")
	if err != nil {
		return fmt.Errorf("making a directory for chrome: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	proxy, err := egress.New(o)
	if err != nil {
		return err
	}
	var serving sync.WaitGroup
	proxying, stop := context.WithCancel(context.WithoutCancel(ctx))
	serving.Go(func() { _ = proxy.Run(proxying) }) // ends when it is stopped
	defer func() {
		stop()
		serving.Wait()
	}()
	browser, err := chrome.Start(ctx, chrome.Options{Path: path, DataDir: dir, Proxy: proxy.URL()})
	if err != nil {
		return err
	}
	pages := page.NewBrowser(browser)
	serving.Go(func() { _ = pages.Run(context.WithoutCancel(ctx)) }) // ends with the browser
	defer func() { err = errors.Join(err, browser.Close()) }()
	return do(pages)
}
