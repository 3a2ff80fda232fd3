package page

import (
	"context"
	"fmt"
	"image"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/domdebugger"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/fetch"
	"github.com/chromedp/cdproto/inspector"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	cdpage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"

	"github.com/rewarm/rewarm/internal/chrome"
	"github.com/rewarm/rewarm/internal/settle"
	"github.com/rewarm/rewarm/internal/takeover"
	"github.com/rewarm/rewarm/internal/words"
)

// ObserveOptions say what page to observe as a visitor gets it.
type ObserveOptions struct {
	URL string
	// Realms are the base URLs that the page has to be, and to stay, in.
	Realms []string
	// Allow are CSS selectors of what may differ before and after the takeover.
	Allow []string
	// Viewport is the window; nil is 1280 by 800.
	Viewport *words.Viewport
	// Patience is how long the page may take to settle; default 20 s.
	Patience time.Duration
	// Pictures has the window pictured before and after.
	Pictures bool
	// Given is what the visitor gets instead of the server's page; nil for that.
	Given *Given
}

// Observation is what was seen. The pictures are PNG; nil for none. Places are
// where they may differ.
type Observation struct {
	takeover.Evidence
	BeforePNG, AfterPNG []byte
	Places              []image.Rectangle
}

// The bounds of an observation's parts beside the wait for the page.
const (
	readLimit   = 5 * time.Second // for an answer of a page's thread
	beforeLimit = 5 * time.Second // for what was prerendered to load without scripts
	shotLimit   = 5 * time.Second // for a picture
	// ObserveExtra is what an observation may take beyond its patience.
	ObserveExtra = 2*readLimit + beforeLimit + 2*shotLimit
)

// Observe goes to a URL as a visitor does, in a fresh browser context, and
// notes what happens when the application takes over. The page gets what the
// server really serves, with its service workers, and finds no mark of a
// prerender. What was prerendered is looked at afterwards, from the same bytes,
// without scripts. An error means that the browser, not the page, is to blame,
// or is an [*OptionsError].
func (b *Browser) Observe(ctx context.Context, o ObserveOptions) (Observation, error) {
	if o.Patience <= 0 {
		o.Patience = 20 * time.Second
	}
	if o.Viewport == nil {
		o.Viewport = &words.Viewport{}
	}
	realms := slices.Clone(o.Realms)
	for i, r := range realms {
		realms[i] = strings.TrimRight(r, "/")
	}
	o.Realms = realms
	hears := heardOfVisitor()
	if o.Given != nil {
		hears = append(hears, fetch.RequestPaused.Method)
	}
	opened, err := b.newTab(ctx, hears...)
	if err != nil {
		return Observation{}, fmt.Errorf("observing %s: %w", o.URL, err)
	}
	v := &visitor{tab: opened, options: o, allow: strings.Join(o.Allow, ","), changed: make(chan struct{}, 1), heard: newHeard()}
	hearing, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	var pump sync.WaitGroup
	pump.Go(func() { v.hear(hearing) })
	defer func() {
		v.end()
		_ = v.dispose(leaveLimit) // a context that is slow to close is on its way out, and no fault of the verdict
		stop(chrome.ErrGone)
		pump.Wait()
	}()
	var seen Observation
	if err := v.observe(ctx, &seen); err != nil {
		return seen, fmt.Errorf("observing %s: %w", o.URL, err)
	}
	return seen, nil
}

// visitor is one observation.
type visitor struct {
	*tab
	options ObserveOptions
	allow   string
	changed chan struct{} // has an element when something may have changed
	givenAt string        // URL of the page that is given; only who hears uses it
	mu      sync.Mutex
	heard   heardPage // guarded by mu
}

func (v *visitor) observe(ctx context.Context, seen *Observation) error {
	if err := v.setUp(ctx); err != nil {
		return err
	}
	began := time.Now()
	soft, cancel := context.WithTimeout(ctx, v.options.Patience)
	defer cancel()
	adopted, settled := v.visit(soft)
	if settled == nil {
		seen.Settled = time.Since(began)
	}
	seen.URL = v.options.URL
	if !v.hasFailed() {
		v.look(ctx, seen)
		seen.Takeover.Seen = seen.Takeover.Seen || adopted
	}
	var body []byte
	if !seen.Wedged && !seen.Crashed {
		body = v.document(ctx)
	}
	if err := v.broke(); err != nil {
		return err
	}
	v.tell(&seen.Evidence, body)
	var err error
	if seen.Failed == "" && len(body) > 0 {
		err = v.before(ctx, body, seen)
	}
	if ctx.Err() != nil { // what could not be read in time would be told as the page's fault
		return context.Cause(ctx)
	}
	return err
}

func (v *visitor) hasFailed() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.heard.failed != ""
}

// broke is the end of the session if it is not the page's own: the browser's.
func (v *visitor) broke() error {
	select {
	case <-v.gone:
		if !v.crashed.Load() {
			return fmt.Errorf("page: %w", chrome.ErrGone)
		}
	default:
	}
	return nil
}

// setUp makes the tab a visitor's: an ordinary browser in an ordinary window.
func (v *visitor) setUp(ctx context.Context) error {
	version, err := chrome.Call(ctx, v.browser.chrome.Root(), browser.GetVersion, cdp.Empty{})
	if err != nil {
		return err
	}
	for _, selector := range v.options.Allow {
		var found evaluated[bool]
		if err := v.evaluate(ctx, 0, "try{document.querySelector("+quote(selector)+"),true}catch{false}", &found); err != nil {
			return err
		}
		if !found.Result.Value {
			return &OptionsError{Err: fmt.Errorf("%q is no CSS selector", selector)}
		}
	}
	if v.options.Given != nil {
		if err := v.session.CallAll(ctx, chrome.Command{Method: fetch.CommandEnable, Params: interceptDocuments()}); err != nil {
			return err
		}
	}
	size := int64(32 << 20)
	each := int64(maxVisited)
	return v.session.CallAll(ctx,
		chrome.Command{Method: inspector.CommandEnable},
		chrome.Command{Method: cdpage.CommandEnable, Params: cdpage.EnableParams{}},
		chrome.Command{Method: network.CommandEnable, Params: network.EnableParams{MaxTotalBufferSize: &size, MaxResourceBufferSize: &each}},
		chrome.Command{Method: runtime.CommandEnable},
		chrome.Command{Method: log.CommandEnable},
		chrome.Command{Method: emulation.CommandSetFocusEmulationEnabled, Params: emulation.SetFocusEmulationEnabledParams{Enabled: true}},
		chrome.Command{Method: emulation.CommandSetUserAgentOverride, Params: ordinary(version)},
		chrome.Command{Method: emulation.CommandSetDeviceMetricsOverride, Params: windowOf(v.options.Viewport)},
		chrome.Command{Method: cdpage.CommandAddScriptToEvaluateOnNewDocument, Params: cdpage.AddScriptToEvaluateOnNewDocumentParams{Source: noRobot}},
		chrome.Command{Method: cdpage.CommandAddScriptToEvaluateOnNewDocument, Params: cdpage.AddScriptToEvaluateOnNewDocumentParams{
			WorldName: visitorWorld, Source: "(() => {\nconst allow = " + quote(v.allow) + ";\n" + readJS + visitorJS + "\n})();",
		}},
	)
}

// noRobot is the one thing that is changed in the page's own world: DevTools can
// set the flag of automation, and not take it away.
const noRobot = `Object.defineProperty(Navigator.prototype, "webdriver", {get: () => false, configurable: true, enumerable: true})`

// maxVisited bounds the document that is kept, in bytes, as the wire bounds a
// page.
const maxVisited = 8 << 20

// ordinary is how an ordinary Chrome of this version names itself: some servers
// and scripts treat a headless one as a robot.
func ordinary(version browser.GetVersionResult) emulation.SetUserAgentOverrideParams {
	_, number, _ := strings.Cut(version.Product, "/")
	major, _, _ := strings.Cut(number, ".")
	brands := []*emulation.UserAgentBrandVersion{{Brand: "Chromium", Version: major}, {Brand: "Google Chrome", Version: major}}
	return emulation.SetUserAgentOverrideParams{
		UserAgent:         strings.ReplaceAll(version.UserAgent, "HeadlessChrome", "Chrome"),
		UserAgentMetadata: &emulation.UserAgentMetadata{Brands: brands, FullVersionList: brands, Platform: "Linux", Architecture: "x86", Bitness: "64"},
	}
}

func windowOf(v *words.Viewport) emulation.SetDeviceMetricsOverrideParams {
	window := emulation.SetDeviceMetricsOverrideParams{Width: 1280, Height: 800, DeviceScaleFactor: 1, Mobile: v.Mobile}
	if v.Width > 0 && v.Height > 0 {
		window.Width, window.Height = int64(v.Width), int64(v.Height)
	}
	return window
}

// visit goes there and waits until the page has settled and the application has
// taken over. adopted is that it did so without a change: it listens. An error
// is that of ctx, or of the page's end.
func (v *visitor) visit(ctx context.Context) (adopted bool, err error) {
	v.mu.Lock()
	v.heard.machine = settle.New(settle.Options{}, time.Now())
	v.mu.Unlock()
	if err := v.session.Post(cdpage.CommandNavigate, cdpage.NavigateParams{URL: v.options.URL}); err != nil {
		return false, err
	}
	for {
		v.mu.Lock()
		decision := v.heard.machine.Look(time.Now())
		v.mu.Unlock()
		if decision.Settled || v.hasFailed() {
			return adopted, nil
		}
		if decision.Prove == 0 {
			if err := v.waitChange(ctx, v.changed, decision.Next); err != nil {
				return adopted, err
			}
			continue
		}
		quiet, took := v.still(ctx, visitorQuiet)
		adopted = !took && quiet && v.listens(ctx)
		now := time.Now()
		v.mu.Lock()
		// One that has not taken over yet may be about to: it counts as restless,
		// which the machine is patient with for a while.
		if quiet && (took || adopted) {
			v.heard.machine.Proved(now)
		} else {
			v.heard.machine.Unproved(now)
		}
		v.mu.Unlock()
		if ctx.Err() != nil {
			return adopted, context.Cause(ctx)
		}
	}
}

// visitorQuiet is for how long nothing may have changed. A visitor's page has no
// instrumentation that knows its timers, so it is longer than a render's.
const visitorQuiet = 300 * time.Millisecond

// visitorWorld is the name of the world that our script lives in.
const visitorWorld = "rewarm"

// inWorld evaluates an expression beside our script.
func (v *visitor) inWorld(ctx context.Context, expression string, into any) error {
	world, err := chrome.Call(ctx, v.session, cdpage.CreateIsolatedWorld, // the one that is there, if any
		cdpage.CreateIsolatedWorldParams{FrameID: cdp.FrameID(v.target), WorldName: visitorWorld})
	if err != nil {
		return err
	}
	return v.evaluate(ctx, world.ExecutionContextID, expression, into)
}

// still is whether nothing has changed for the window, and whether the
// application has replaced what was prerendered.
func (v *visitor) still(ctx context.Context, window time.Duration) (quiet, took bool) {
	ctx, cancel := context.WithTimeout(ctx, readLimit)
	defer cancel()
	var now evaluated[struct {
		Quiet bool `json:"quiet"`
		Took  bool `json:"took"`
	}]
	if v.inWorld(ctx, fmt.Sprintf("self.rewarm?.still(%d)", window.Milliseconds()), &now) != nil {
		return false, false
	}
	return now.Result.Value.Quiet, now.Result.Value.Took
}

// listens is whether a script listens to anything in the document: a host that
// adopts what it finds changes nothing, and makes it work all the same.
func (v *visitor) listens(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, readLimit)
	defer cancel()
	document, err := chrome.Call(ctx, v.session, runtime.Evaluate, runtime.EvaluateParams{Expression: "document"})
	if err != nil || document.Result == nil {
		return false
	}
	all, yes := int64(-1), true
	found, err := chrome.Call(ctx, v.session, domdebugger.GetEventListeners,
		domdebugger.GetEventListenersParams{ObjectID: document.Result.ObjectID, Depth: &all, Pierce: &yes})
	return err == nil && len(found.Listeners) > 0
}
