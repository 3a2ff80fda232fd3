package page

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/fetch"
	"github.com/chromedp/cdproto/inspector"
	"github.com/chromedp/cdproto/network"
	cdpage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"

	"github.com/rewarm/rewarm/internal/chrome"
	"github.com/rewarm/rewarm/internal/settle"
	"github.com/rewarm/rewarm/internal/words"
)

// Open opens a page in a fresh browser context and warms it: it goes to the
// standby URL and waits until the host says that it is ready, else until it is
// settled. ctx bounds it all; on an error nothing is left open.
func (b *Browser) Open(ctx context.Context, o OpenOptions) (_ *Page, err error) {
	if len(o.Shell.Bytes) == 0 {
		return nil, fmt.Errorf("%w: the shell is empty", ErrNotWarm)
	}
	p := &Page{tab: &tab{browser: b}, options: o, token: words.TokenOf(o.Shell.Bytes), auth: o.Auth}
	for _, r := range o.Realms {
		p.realms = append(p.realms, strings.TrimRight(r, "/"))
	}
	base := o.StandbyURL
	if base == "" && len(p.realms) > 0 {
		base = p.realms[0] + "/"
	}
	if !p.onRealm(base) {
		return nil, fmt.Errorf("standby URL %s is in none of the realms", base)
	}
	p.home, p.assets = p.realmOf(base), assetsOf(o.Shell.Bytes, base)
	p.state.init()
	if err := p.create(ctx); err != nil {
		return nil, fmt.Errorf("opening a page: %w", err)
	}
	defer func() {
		if err != nil {
			_ = p.Close()
		}
	}()
	if err := p.setUp(ctx); err != nil {
		return nil, fmt.Errorf("opening a page: %w", err)
	}
	if o.StandbyURL == "" {
		return p, nil
	}
	if err := p.warm(ctx); err != nil {
		return nil, err
	}
	return p, nil
}

// create opens the page's tab and starts the pump.
func (p *Page) create(ctx context.Context) error {
	opened, err := p.browser.newTab(ctx, pumped()...)
	if err != nil {
		return err
	}
	p.tab = opened
	pumping, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	p.stop = stop
	p.pump.Go(func() { p.handleEvents(pumping) })
	return nil
}

func (p *Page) setUp(ctx context.Context) error {
	no := int64(0)
	p.intercepting = true
	return p.session.CallAll(ctx,
		chrome.Command{Method: inspector.CommandEnable},
		chrome.Command{Method: cdpage.CommandEnable, Params: cdpage.EnableParams{}},
		chrome.Command{Method: network.CommandEnable, Params: network.EnableParams{MaxTotalBufferSize: &no, MaxResourceBufferSize: &no}},
		chrome.Command{Method: network.CommandSetBypassServiceWorker, Params: network.SetBypassServiceWorkerParams{Bypass: true}},
		chrome.Command{Method: fetch.CommandEnable, Params: interceptDocuments()},
		chrome.Command{Method: emulation.CommandSetFocusEmulationEnabled, Params: emulation.SetFocusEmulationEnabledParams{Enabled: true}},
		window(nil, asSpeck),
		chrome.Command{Method: runtime.CommandEnable},
		chrome.Command{Method: runtime.CommandAddBinding, Params: runtime.AddBindingParams{Name: binding}},
		chrome.Command{Method: cdpage.CommandAddScriptToEvaluateOnNewDocument, Params: p.initScript()},
	)
}

// warm goes to the standby URL and waits.
func (p *Page) warm(ctx context.Context) error {
	p.state.begin(settle.New(settle.Options{Static: !p.assets.scripts}, time.Now()), 0)
	p.state.warming(true)
	defer p.state.warming(false)
	if _, err := p.navigate(ctx, p.options.StandbyURL); err != nil {
		return fmt.Errorf("%w: going to %s: %w", ErrNotWarm, p.options.StandbyURL, err)
	}
	out, err := p.settle(ctx, time.Time{}, "")
	missing, attested := p.state.warmth()
	switch {
	case missing != "":
		return fmt.Errorf("%w: %s", ErrNotWarm, missing)
	case err != nil:
		return fmt.Errorf("%w: waiting at %s: %w", ErrNotWarm, p.options.StandbyURL, err)
	case !attested:
		return fmt.Errorf("%w: %s ended on a document that did not come from the shell", ErrNotWarm, p.options.StandbyURL)
	case out.navigation != "":
		return fmt.Errorf("%w: %s: %s", ErrNotWarm, p.options.StandbyURL, out.navigation)
	}
	p.letThrough()
	p.learn(ctx)
	return nil
}

// intercept has the browser ask us for documents from now on.
func (p *Page) intercept() []chrome.Command {
	if p.intercepting {
		return nil
	}
	p.intercepting = true
	return []chrome.Command{{Method: fetch.CommandEnable, Params: interceptDocuments()}}
}

// letThrough ends the interception: while it is on, every request of the page
// takes a way round through the browser process, and a transition takes a
// quarter longer. A document that the application loads by itself meanwhile is
// not attested, which is seen when it is committed.
func (p *Page) letThrough() {
	if p.intercepting {
		p.intercepting = false
		_ = p.session.Post(fetch.CommandDisable, nil)
	}
}

// navigate sends the commands and loads a document, in one round trip; the text
// is the browser's reason if it could not.
func (p *Page) navigate(ctx context.Context, to string, before ...chrome.Command) (failed string, err error) {
	var r cdpage.NavigateResult
	err = p.session.CallAll(ctx, append(append(p.intercept(), before...),
		chrome.Command{Method: cdpage.CommandNavigate, Params: cdpage.NavigateParams{URL: to}, Result: &r})...)
	if err != nil {
		return "", err
	}
	if r.ErrorText != "" && r.ErrorText != "net::ERR_ABORTED" {
		return r.ErrorText, nil
	}
	if r.LoaderID == "" && r.ErrorText == "" {
		// Only the fragment differs, so nothing was loaded.
		_, err = chrome.Call(ctx, p.session, cdpage.Reload, cdpage.ReloadParams{})
	}
	return "", err
}

// evaluated is the answer of an evaluate whose value is a T.
type evaluated[T any] struct {
	Result struct {
		Value T `json:"value"`
	} `json:"result"`
	ExceptionDetails *runtime.ExceptionDetails `json:"exceptionDetails"`
}

// evaluate runs an expression in the page's own world; see [tab.evaluate].
func (p *Page) evaluate(ctx context.Context, expression string, into any) error {
	return p.tab.evaluate(ctx, 0, expression, into)
}

// quote makes s a JavaScript string literal.
func quote(s string) string {
	raw, _ := json.Marshal(s) // a string always marshals
	return string(raw)
}
