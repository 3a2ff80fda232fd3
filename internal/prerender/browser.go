package prerender

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/rewarm/rewarm/internal/machine"
	"github.com/rewarm/rewarm/internal/page"
	"github.com/rewarm/rewarm/internal/pool"
	"github.com/rewarm/rewarm/internal/words"
)

// Browser is a running Chrome, or a fake in tests.
type Browser interface {
	Open(ctx context.Context, options page.OpenOptions) (Page, error)
	// Observe goes to a page as a visitor; see [page.Browser.Observe].
	Observe(ctx context.Context, options page.ObserveOptions) (page.Observation, error)
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

// browserSlot holds the browser that pages open in, if any.
type browserSlot struct {
	mu      sync.Mutex
	current *resident
	running map[*resident]bool // that one, and those that are retired
	detail  string             // why there is none
	changed chan struct{}      // closed at the next set
	living  sync.WaitGroup     // pages
}

func newBrowserSlot() *browserSlot {
	return &browserSlot{running: map[*resident]bool{}, changed: make(chan struct{})}
}

// get waits for a browser. It fails at once when Chrome cannot be started.
func (s *browserSlot) get(ctx context.Context) (*resident, error) {
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

func (s *browserSlot) set(b *resident, detail string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current, s.detail = b, detail
	close(s.changed)
	s.changed = make(chan struct{})
}

// pid is the process id of the browser that pages open in, 0 for none.
func (s *browserSlot) pid() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil {
		return 0
	}
	return s.current.PID()
}

func (s *browserSlot) began(b *resident) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running[b] = true
}

func (s *browserSlot) ended(b *resident) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.running, b)
}

// memory is what all browsers take, in bytes.
func (s *browserSlot) memory(root fs.FS) (bytes uint64) {
	s.mu.Lock()
	running := slices.Collect(maps.Keys(s.running))
	s.mu.Unlock()
	for _, b := range running {
		bytes += machine.GroupMemory(root, b.PID())
	}
	return bytes
}

// superviseBrowser keeps a Chrome running until ctx ends, and returns after the
// last has gone. Only it starts and stops browsers, so none can leak.
func (s *Server) superviseBrowser(ctx context.Context, log *slog.Logger) {
	var retired sync.WaitGroup
	defer s.slot.living.Wait()
	defer retired.Wait()
	for b := s.startBrowser(ctx, log); b != nil; {
		s.slot.set(b, "")
		next := s.watchBrowser(ctx, b, log)
		if next == nil {
			s.slot.set(nil, "")
			s.end(b, log)
			b = s.startBrowser(ctx, log)
			continue
		}
		// Pages open in the next one from now on; those of this one are replaced,
		// and it ends when the last has gone.
		old := b
		b = next
		s.slot.set(b, "")
		old.retired.Store(true)
		s.keeper.tell((*pool.Pool).Move)
		retired.Go(func() {
			s.watchBrowser(ctx, old, log)
			s.end(old, log)
		})
	}
}

// startBrowser starts a Chrome, and tries again until one runs; nil when ctx
// has ended.
func (s *Server) startBrowser(ctx context.Context, log *slog.Logger) *resident {
	for pause := restartMin; ctx.Err() == nil; pause = min(2*pause, restartMax) {
		b, err := s.launch(ctx, log)
		if err == nil {
			return b
		}
		if ctx.Err() == nil {
			log.Error("chrome does not start; trying again", "in", pause, "error", err)
			s.slot.set(nil, "chrome does not start: "+err.Error())
			wait(ctx, pause)
		}
	}
	return nil
}

func (s *Server) launch(ctx context.Context, log *slog.Logger) (*resident, error) {
	browser, err := s.options.Launch(ctx)
	if err != nil {
		if ctx.Err() == nil {
			s.metrics.browserStarts.WithLabelValues("failed").Inc()
		}
		return nil, err
	}
	s.metrics.browserStarts.WithLabelValues("started").Inc()
	log.Info("chrome started", "pid", browser.PID())
	b := &resident{Browser: browser, started: time.Now(), living: &s.slot.living}
	s.slot.began(b)
	return b, nil
}

// end ends a browser and returns when it is gone.
func (s *Server) end(b *resident, log *slog.Logger) {
	if err := b.Close(); err != nil {
		log.Error("chrome did not end cleanly", "pid", b.PID(), "error", err)
	}
	s.slot.ended(b)
}

// watchBrowser returns when ctx ends, or when the browser is dead, frozen, or
// retired and empty. Of a browser that is worn out it returns the next.
func (s *Server) watchBrowser(ctx context.Context, b *resident, log *slog.Logger) (next *resident) {
	tick := time.NewTicker(s.options.PingEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-b.Done():
			log.Error("chrome died", "pid", b.PID())
			return nil
		case <-tick.C:
		}
		bounded, cancel := context.WithTimeout(ctx, s.options.PingTimeout)
		err := b.Ping(bounded)
		cancel()
		if err != nil && ctx.Err() == nil {
			log.Error("chrome does not answer", "pid", b.PID(), "error", err)
			return nil
		}
		if b.retired.Load() {
			if b.pages.Load() == 0 {
				return nil
			}
			continue
		}
		if next := s.renew(ctx, b, log); next != nil {
			return next
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
	shell, err := s.shells.get(ctx, s.keeper.status().Current, accepts)
	if err != nil {
		return nil, err
	}
	browser, err := s.slot.get(ctx) // last: one that is retired ends once nothing opens in it
	if err != nil {
		return nil, err
	}
	realms := s.realms.all()
	return browser.open(ctx, page.OpenOptions{
		Shell:      shell,
		StandbyURL: realms[0] + "/_standby",
		Realms:     realms,
	})
}
