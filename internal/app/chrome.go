package app

import (
	"context"
	"log/slog"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"

	"github.com/rewarm/rewarm/internal/chrome"
	"github.com/rewarm/rewarm/internal/machine"
	"github.com/rewarm/rewarm/internal/page"
	"github.com/rewarm/rewarm/internal/prerender"
)

// ownChrome is a Chrome of ours as the prerender server uses it.
type ownChrome struct {
	*chrome.Browser
	pages *page.Browser
	ended chan struct{} // closed when its events are no longer served
}

func newOwnChrome(started *chrome.Browser) ownChrome {
	c := ownChrome{Browser: started, pages: page.NewBrowser(started), ended: make(chan struct{})}
	go func() {
		defer close(c.ended)
		_ = c.pages.Run(context.Background()) // ends with the browser, whose end is told by Done
	}()
	return c
}

// Close ends the browser and returns when nothing of it is left.
func (c ownChrome) Close() error {
	err := c.Browser.Close()
	<-c.ended
	return err
}

func (c ownChrome) Open(ctx context.Context, options page.OpenOptions) (prerender.Page, error) {
	opened, err := c.pages.Open(ctx, options)
	if err != nil {
		return nil, err // a nil *page.Page in the interface would not be nil
	}
	return opened, nil
}

// Observe goes to a page as a visitor.
func (c ownChrome) Observe(ctx context.Context, options page.ObserveOptions) (page.Observation, error) {
	return c.pages.Observe(ctx, options)
}

func (c ownChrome) Ping(ctx context.Context) error {
	_, err := chrome.Call(ctx, c.Root(), browser.GetVersion, cdp.Empty{})
	return err
}

// chromeLauncher finds Chrome now, so that its absence is a start-up error, and
// removes what a killed run left in dir. From then on this process and its
// Chrome run under the batch policy, where the system lets them.
func chromeLauncher(path, dir string, log *slog.Logger) (func(ctx context.Context, proxy string) (prerender.Browser, error), error) {
	found, err := chrome.Find(path)
	if err != nil {
		return nil, err
	}
	if err := chrome.RemoveLeftovers(dir); err != nil {
		return nil, err
	}
	// Chrome hands each step of a page from thread to thread, so that otherwise
	// the thread that renders is put off by those that draw, send and count.
	if err := machine.RunInBatch(); err != nil {
		log.Debug("renders are slower than they could be", "error", err)
	}
	return func(ctx context.Context, proxy string) (prerender.Browser, error) {
		started, err := chrome.Start(ctx, chrome.Options{Path: found, DataDir: dir, Log: log, Proxy: proxy})
		if err != nil {
			return nil, err
		}
		return newOwnChrome(started), nil
	}, nil
}
