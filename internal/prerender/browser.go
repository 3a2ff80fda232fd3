package prerender

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/rewarm/rewarm/internal/page"
	"github.com/rewarm/rewarm/internal/words"
)

// Browser is a running Chrome, or a fake in tests.
type Browser interface {
	Open(ctx context.Context, options page.OpenOptions) (Page, error)
	// Ping fails when the browser does not answer before ctx ends.
	Ping(ctx context.Context) error
	PID() int
	Done() <-chan struct{}
	Close() error
}

// Page is a warm page of a [Browser]. Close closes the channel of Gone.
type Page interface {
	Token() words.Token
	// Do does one task; see [page.Page.Do] for what its errors mean.
	Do(ctx context.Context, t page.Task) (page.Result, error)
	Probe(ctx context.Context) error
	// Memory is what the page takes, in bytes; it may be asked during a render.
	Memory(ctx context.Context) (uint64, error)
	// Freeze lets the page rest until Thaw; it never waits.
	Freeze()
	Thaw(ctx context.Context) error
	Reusable() bool
	Gone() <-chan struct{}
	Close() error
}

var (
	errPageGone = errors.New("the page is gone")
	// errBudget is a deadline to those who only know that: a page whose budget
	// ended has an outcome, one whose caller left has none.
	errBudget      = fmt.Errorf("the caller's budget ended: %w", context.DeadlineExceeded)
	errWarmTimeout = errors.New("the page was not warm in time")
)

// Bounds of the browser's supervision.
const (
	// restartMin and restartMax bound the pause between starts that fail. A
	// Chrome that ran is started again at once.
	restartMin = 500 * time.Millisecond
	restartMax = 10 * time.Second
	// pingEvery and pingTimeout find a Chrome that is frozen: its pages cannot
	// tell, for their renders are allowed to take long. Ten seconds without an
	// answer to a trivial call, on a machine where it takes one millisecond, is
	// no load.
	pingEvery   = 2 * time.Second
	pingTimeout = 10 * time.Second
)

// browserSlot holds the one browser that lives, if any.
type browserSlot struct {
	mu      sync.Mutex
	current Browser
	detail  string        // why there is none
	changed chan struct{} // closed at the next set
}

func newBrowserSlot() *browserSlot { return &browserSlot{changed: make(chan struct{})} }

// get waits for a browser. It fails at once when Chrome cannot be started.
func (s *browserSlot) get(ctx context.Context) (Browser, error) {
	for {
		s.mu.Lock()
		current, detail, changed := s.current, s.detail, s.changed
		s.mu.Unlock()
		if current != nil {
			return current, nil
		}
		if detail != "" {
			return nil, errors.New(detail)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (s *browserSlot) set(b Browser, detail string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current, s.detail = b, detail
	close(s.changed)
	s.changed = make(chan struct{})
}

// pid is the process id of the browser that lives, 0 for none.
func (s *browserSlot) pid() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil {
		return 0
	}
	return s.current.PID()
}

// superviseBrowser keeps one Chrome running until ctx ends, and returns after
// the last has gone. Only it starts and stops browsers, so none can leak.
func (s *Server) superviseBrowser(ctx context.Context, log *slog.Logger) {
	pause := restartMin
	for ctx.Err() == nil {
		browser, err := s.options.Launch(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			log.Error("chrome does not start; trying again", "in", pause, "error", err)
			s.slot.set(nil, "chrome does not start: "+err.Error())
			s.metrics.browserStarts.WithLabelValues("failed").Inc()
			wait(ctx, pause)
			pause = min(2*pause, restartMax)
			continue
		}
		pause = restartMin
		s.metrics.browserStarts.WithLabelValues("started").Inc()
		log.Info("chrome started", "pid", browser.PID())
		s.slot.set(browser, "")
		s.watchBrowser(ctx, browser, log)
		s.slot.set(nil, "")
		if err := browser.Close(); err != nil {
			log.Error("chrome did not end cleanly", "pid", browser.PID(), "error", err)
		}
	}
}

// watchBrowser returns when ctx ends or the browser is dead or frozen.
func (s *Server) watchBrowser(ctx context.Context, browser Browser, log *slog.Logger) {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-browser.Done():
			log.Error("chrome died; starting another", "pid", browser.PID())
			return
		case <-tick.C:
		}
		bounded, cancel := context.WithTimeout(ctx, s.options.PingTimeout)
		err := browser.Ping(bounded)
		cancel()
		if err != nil && ctx.Err() == nil {
			log.Error("chrome does not answer; replacing it", "pid", browser.PID(), "error", err)
			return
		}
	}
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// openPage warms one page: the shell first, then a page on its bytes.
func (s *Server) openPage(ctx context.Context, accepts func(words.Token) bool) (Page, error) {
	browser, err := s.slot.get(ctx)
	if err != nil {
		return nil, err
	}
	shell, err := s.shells.get(ctx, s.keeper.status().Current, accepts)
	if err != nil {
		return nil, err
	}
	return browser.Open(ctx, page.OpenOptions{
		Shell:      shell,
		StandbyURL: s.options.Realms[0] + "/_standby",
		Realms:     s.options.Realms,
	})
}
