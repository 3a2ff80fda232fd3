package chrome

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/target"
)

// closeGrace is how long a browser that was asked to close may take, and
// closeLimit bounds everything after the KILL. A browser that ignores the
// request is killed; nobody waits for an exit that does not come.
const (
	closeGrace = 2 * time.Second
	closeLimit = reapLimit + 2*time.Second
)

// Browser is a running browser. All methods may be used concurrently.
type Browser struct {
	process *process
	conn    *conn
	version string
	ended   chan struct{} // process gone and connection's goroutines ended
	closing sync.Mutex    // one Close at a time; the others wait for it
}

// Start starts a browser and waits until it answers. A start that fails says
// why, with the end of the browser's stderr, and leaves nothing behind.
func Start(ctx context.Context, o Options) (*Browser, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	path, err := Find(o.Path)
	if err != nil {
		return nil, err
	}
	if os.Geteuid() == 0 {
		o.Log.Warn("chrome runs without its sandbox: we are root", "path", path)
		return start(ctx, path, o, false)
	}
	b, err := start(ctx, path, o, true)
	if err == nil {
		o.Log.Info("chrome runs in its sandbox", "path", path)
		return b, nil
	}
	if ctx.Err() != nil || !strings.Contains(strings.ToLower(err.Error()), "sandbox") {
		return nil, err
	}
	o.Log.Warn("chrome runs without its sandbox: this system does not allow one", "path", path, "err", err)
	return start(ctx, path, o, false)
}

func start(ctx context.Context, path string, o Options, sandbox bool) (*Browser, error) {
	dataDir, err := filepath.Abs(o.DataDir)
	if err != nil {
		return nil, fmt.Errorf("chrome data directory: %w", err)
	}
	profile, tmp, err := makeProfile(dataDir)
	if err != nil {
		return nil, err
	}
	p, err := launch(path, profile, tmp, flags(o, profile, sandbox))
	if err != nil {
		removeProfile(profile)
		return nil, err
	}
	var t Transport = newPipe(p.fromUs, p.toUs)
	if o.Wrap != nil {
		t = o.Wrap(t)
	}
	b := &Browser{process: p, conn: newConn(t, o.Log, target.TargetCreated.Method, target.TargetCrashed.Method), ended: make(chan struct{})}
	var serving sync.WaitGroup
	serving.Go(b.conn.read)
	serving.Go(b.conn.write)
	go func() {
		<-p.done
		b.conn.fail(fmt.Errorf("browser ended (%s): %w", p.state, ErrGone))
		serving.Wait()
		close(b.ended)
	}()

	limited, cancel := context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("no answer within %s", startLimit))
	defer cancel()
	v, err := Call(limited, b.conn.root, browser.GetVersion, cdp.Empty{})
	if err == nil {
		_, err = Call(limited, b.conn.root, target.SetDiscoverTargets, target.SetDiscoverTargetsParams{Discover: true})
	}
	if err != nil {
		return nil, b.abandon(path, err)
	}
	b.version = v.Product
	return b, nil
}

// abandon kills a browser that did not come up and returns the reason.
func (b *Browser) abandon(path string, err error) error {
	b.process.signal(syscall.SIGKILL)
	if werr := b.waitEnded(closeLimit); werr != nil {
		err = errors.Join(err, werr)
	}
	said := b.process.stderr.String()
	if said == "" {
		said = "nothing"
	}
	return fmt.Errorf("starting %s: %w; ended with %s; it wrote: %s", path, err, b.process.ending(), said)
}

// PID is the process id of the browser, which is also that of its group.
func (b *Browser) PID() int { return b.process.pid }

// Version is the browser's product and version, as "Chrome/156.0.1".
func (b *Browser) Version() string { return b.version }

// Done is closed when the browser has ended, was reaped with its whole group,
// and its profile directory is removed; whoever ended it.
func (b *Browser) Done() <-chan struct{} { return b.ended }

// Root is the session of the browser itself: commands that concern no page,
// and the events Target.targetCreated and Target.targetCrashed. One goroutine
// drains it.
func (b *Browser) Root() *Session { return b.conn.root }

// Attach opens a session on a target. It hears the named events and no others.
func (b *Browser) Attach(ctx context.Context, id target.ID, events ...string) (*Session, error) {
	return b.conn.attach(ctx, id, events)
}

// Close ends the browser: it asks, waits for a grace of two seconds, then kills
// the whole group. It returns when everything is gone, and may be called again.
func (b *Browser) Close() error {
	b.closing.Lock()
	defer b.closing.Unlock()
	if b.conn.root.Post(browser.CommandClose, nil) != nil {
		b.process.signal(syscall.SIGTERM) // no connection to ask over
	}
	if b.waitEnded(closeGrace) == nil {
		return nil
	}
	b.process.signal(syscall.SIGKILL)
	return b.waitEnded(closeLimit)
}

// Kill ends the browser at once and returns when everything is gone.
func (b *Browser) Kill() error {
	b.process.signal(syscall.SIGKILL)
	return b.waitEnded(closeLimit)
}

func (b *Browser) waitEnded(limit time.Duration) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-b.ended:
		return nil
	case <-timer.C:
		return fmt.Errorf("chrome %d has not ended after %s", b.process.pid, limit)
	}
}
