package page

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/cdproto/target"

	"github.com/rewarm/rewarm/internal/chrome"
)

// denied are the permissions that a person would be asked for. A page is told
// no at once, instead of waiting for an answer that nobody will give.
var denied = [...]string{
	"geolocation", "notifications", "camera", "microphone", "midi", "clipboard-read", "local-fonts", "idle-detection",
	"window-management", "persistent-storage", "storage-access", "display-capture", "nfc",
}

// tab is a tab in a browser context of its own, and the session that hears it.
type tab struct {
	browser *Browser
	context cdp.BrowserContextID
	target  target.ID // set before the tab is owned
	session *chrome.Session
	ending  sync.Once
	gone    chan struct{}
	crashed atomic.Bool // it is gone because its process ended, not the browser's
}

// newTab opens a tab in a fresh context; its session hears the events. Who asks
// for it drains them, and disposes of it.
func (b *Browser) newTab(ctx context.Context, events ...string) (*tab, error) {
	t := &tab{browser: b, gone: make(chan struct{})}
	root := b.chrome.Root()
	yes := true
	made, err := chrome.Call(ctx, root, target.CreateBrowserContext, target.CreateBrowserContextParams{DisposeOnDetach: &yes})
	if err != nil {
		return nil, err
	}
	t.context = made.BrowserContextID
	fail := func(err error) (*tab, error) { return nil, errors.Join(err, t.dispose(leaveLimit)) }
	_ = root.Post(browser.CommandSetDownloadBehavior, browser.SetDownloadBehaviorParams{
		Behavior: browser.SetDownloadBehaviorBehaviorDeny, BrowserContextID: t.context})
	for _, name := range denied {
		_ = root.Post(browser.CommandSetPermission, browser.SetPermissionParams{
			Permission: &browser.PermissionDescriptor{Name: name}, Setting: browser.PermissionSettingDenied, BrowserContextID: t.context})
	}
	opened, err := chrome.Call(ctx, root, target.CreateTarget, target.CreateTargetParams{URL: "about:blank", BrowserContextID: t.context})
	if err != nil {
		return fail(err)
	}
	t.target = opened.TargetID
	if t.session, err = b.chrome.Attach(ctx, t.target, events...); err != nil {
		return fail(err)
	}
	b.mu.Lock()
	b.owned[t.context] = t
	b.mu.Unlock()
	return t, nil
}

// Gone is closed when the tab can do nothing any more: its renderer crashed,
// its target or the browser is no more, or it was closed.
func (t *tab) Gone() <-chan struct{} { return t.gone }

func (t *tab) end() { t.ending.Do(func() { close(t.gone) }) }

// waitChange returns when something may have changed or at the given time.
func (t *tab) waitChange(ctx context.Context, changed <-chan struct{}, at time.Time) error {
	var due <-chan time.Time
	if !at.IsZero() {
		timer := time.NewTimer(time.Until(at))
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-changed:
		return nil
	case <-due:
		return nil
	case <-t.gone:
		return fmt.Errorf("page: %w", chrome.ErrGone)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// evaluate runs an expression in a world of the page, 0 for its own, and decodes
// its value; one that is a promise is awaited. It returns after every event that
// was sent before the answer has been handled.
func (t *tab) evaluate(ctx context.Context, world runtime.ExecutionContextID, expression string, into any) error {
	yes := true
	return t.session.CallInOrder(ctx, runtime.CommandEvaluate,
		runtime.EvaluateParams{Expression: expression, ReturnByValue: &yes, Silent: &yes, AwaitPromise: &yes, ContextID: world}, into)
}

// dispose closes the context with all that is in it, and waits for that until
// the limit.
func (t *tab) dispose(limit time.Duration) error {
	t.browser.mu.Lock()
	delete(t.browser.owned, t.context)
	t.browser.mu.Unlock()
	ctx, cancel := context.WithTimeoutCause(context.Background(), limit, errors.New("the browser did not close the context in time"))
	defer cancel()
	_, err := chrome.Call(ctx, t.browser.chrome.Root(), target.DisposeBrowserContext, target.DisposeBrowserContextParams{BrowserContextID: t.context})
	if err != nil && !errors.Is(err, chrome.ErrGone) {
		return fmt.Errorf("closing a browser context: %w", err)
	}
	return nil
}
