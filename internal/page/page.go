// Package page is what one page does: it is opened in a browser context of its
// own, warmed with a host shell, taken to routes, and captured.
//
// A page's main document on a realm URL is always fulfilled from the shell's
// bytes that the page was opened with. So its token is known, not guessed,
// whatever load balancers, CDNs or service workers stand between; and since no
// other bytes are ever given to it, a page has one token for its life.
//
// Beside them, [Browser.Observe] goes to a page as a visitor does.
package page

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/chromedp/cdproto/cdp"
	cdpage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/target"

	"github.com/rewarm/rewarm/internal/chrome"
	"github.com/rewarm/rewarm/internal/settle"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// ErrNotWarm is wrapped by what Open returns when the host did not come up: a
// script or style that the shell names did not load, or it never settled.
var ErrNotWarm = errors.New("page is not warm")

// ErrCredentials is returned for a visit whose credentials are not the page's.
// A page never serves two.
var ErrCredentials = errors.New("page belongs to other credentials")

// What bounds the wait for a context to be closed, which takes a busy machine
// seconds: that of who ends, and that of who has an answer to give.
const (
	closeLimit = 10 * time.Second
	leaveLimit = 2 * time.Second
)

// OpenOptions say what page to open.
type OpenOptions struct {
	Shell words.Shell
	// StandbyURL is where the page warms: the realm URL with "/_standby". Empty
	// opens a page that is not warm; its first task loads the document.
	StandbyURL string
	// Realms are the base URLs whose main documents are fulfilled from Shell.
	Realms []string
	// Auth goes into localStorage["boxel-session"], on realm origins only.
	Auth string
}

// Browser opens pages in one browser process. Its Run drains the browser's own
// events and closes what pages open without being asked.
type Browser struct {
	chrome *chrome.Browser
	mu     sync.Mutex
	owned  map[cdp.BrowserContextID]*tab
}

// NewBrowser wraps a started browser; it starts nothing.
func NewBrowser(b *chrome.Browser) *Browser {
	return &Browser{chrome: b, owned: map[cdp.BrowserContextID]*tab{}}
}

// Run serves the browser's events until ctx ends or the browser is gone; it
// returns why. Pages can be opened only while it runs.
func (b *Browser) Run(ctx context.Context) error {
	for {
		ev, err := b.chrome.Root().Next(ctx)
		if err != nil {
			return err
		}
		switch ev.Method {
		case target.TargetCreated.Method:
			var e target.EventTargetCreated
			if ev.Decode(&e) == nil {
				b.created(e.TargetInfo)
			}
		case target.TargetCrashed.Method:
			var e target.EventTargetCrashed
			if ev.Decode(&e) == nil {
				b.crashed(e.TargetID)
			}
		}
	}
}

// created closes a window that a page opened: nobody would look at it.
func (b *Browser) created(info *target.Info) {
	b.mu.Lock()
	t := b.owned[info.BrowserContextID]
	b.mu.Unlock()
	if t != nil && info.Type == "page" && t.target != info.TargetID {
		_ = b.chrome.Root().Post(target.CommandCloseTarget, target.CloseTargetParams{TargetID: info.TargetID})
	}
}

func (b *Browser) crashed(id target.ID) {
	b.mu.Lock()
	var hit *tab
	for _, t := range b.owned {
		if t.target == id {
			hit = t
		}
	}
	b.mu.Unlock()
	if hit != nil {
		hit.crashed.Store(true)
		hit.end()
	}
}

// Page is a warm page. Render, Probe and Report are for one caller at a time;
// the other methods may be used concurrently.
type Page struct {
	*tab
	options OpenOptions
	token   words.Token
	realms  []string // without a trailing slash; guarded by state.mu
	home    string   // realm that the application was started in; see [Page.moveTo]
	assets  assets   // as they are named there
	auth    string   // what the page was opened or first rendered with
	// foreign is whether the application was started under a render's overrides,
	// so that it has to be started anew for the next.
	foreign bool
	epoch   int
	carrier cdpage.AddScriptToEvaluateOnNewDocumentResult // of the script that names the current render's id
	// intercepting is whether documents are asked of us; only who renders uses it.
	intercepting bool
	residue      residue
	report       RenderReport
	pump         sync.WaitGroup
	stop         context.CancelCauseFunc
	closing      sync.Once
	closeErr     error
	state        state
}

// RenderReport says where a render's time went.
type RenderReport struct {
	Mode     words.Mode // what was done: transition or navigate
	Go       time.Duration
	Settle   time.Duration
	Capture  time.Duration
	Phases   settle.Phases // of Go and Settle together
	FellBack bool          // a transition was asked for, and the page was navigated
	// Residue is what routes before this one left behind, each as "kind: name".
	// A result that is ready shows none of it.
	Residue []string
}

// Total is the whole render's.
func (r RenderReport) Total() time.Duration { return r.Go + r.Settle + r.Capture }

// Diagnostics is the report as it is told, of a render that settled so.
func (r RenderReport) Diagnostics(by words.SettledBy) *wire.Diagnostics {
	return &wire.Diagnostics{
		SettledBy: by, Mode: r.Mode, FellBack: r.FellBack,
		GoMs: r.Go.Milliseconds(), SettleMs: r.Settle.Milliseconds(), CaptureMs: r.Capture.Milliseconds(),
		ArriveMs: r.Phases.Arrive.Milliseconds(), NetworkMs: r.Phases.Network.Milliseconds(), QuietMs: r.Phases.Quiet.Milliseconds(),
		Residue: r.Residue,
	}
}

// Token is the md5 of the bytes that the page's documents are made of.
func (p *Page) Token() words.Token { return p.token }

// Report is that of the last Render.
func (p *Page) Report() RenderReport { return p.report }

// Reusable is whether the page may be asked for another render. One that was
// interrupted, timed out or broke may hold on to what it was doing.
func (p *Page) Reusable() bool {
	select {
	case <-p.gone:
		return false
	default:
	}
	p.state.mu.Lock()
	defer p.state.mu.Unlock()
	return !p.state.spoiled
}

func (p *Page) spoil() {
	p.state.mu.Lock()
	defer p.state.mu.Unlock()
	p.state.spoiled = true
}

// Probe asks the page for a trivial answer until ctx ends: a page whose thread
// is busy, or which is gone, gives an error.
func (p *Page) Probe(ctx context.Context) error {
	var r evaluated[int]
	if err := p.evaluate(ctx, "1", &r); err != nil {
		return fmt.Errorf("probing the page: %w", err)
	}
	return nil
}

// Close closes the page's browser context and returns when its goroutine has
// ended. It waits for the browser at most two seconds.
func (p *Page) Close() error {
	p.closing.Do(func() {
		p.end()
		p.closeErr = p.dispose(closeLimit)
		p.stop(chrome.ErrGone)
		p.pump.Wait()
	})
	return p.closeErr
}

// onRealm is whether u is a URL below one of the realms' base URLs.
func (p *Page) onRealm(u string) bool { return p.realmOf(u) != "" }

// within is whether u is a URL below one of the base URLs, which have no
// trailing slash.
func within(u string, realms []string) bool {
	return slices.ContainsFunc(realms, func(r string) bool {
		rest, ok := strings.CutPrefix(u, r)
		return ok && (rest == "" || strings.ContainsRune("/?#", rune(rest[0])))
	})
}

// origin is the scheme, host and port of a URL; "" if it has none.
func origin(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return ""
	}
	return u.Scheme + "://" + u.Host
}
