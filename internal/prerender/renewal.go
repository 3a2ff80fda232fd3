package prerender

import (
	"cmp"
	"context"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rewarm/rewarm/internal/machine"
	"github.com/rewarm/rewarm/internal/page"
)

// Wear is when a browser is worn out, beyond what the replacement of its pages
// gives back. Zero fields take the defaults in brackets.
type Wear struct {
	// Pages is how many have been opened in it [10,000]: what a browser keeps of
	// a page that is gone was measured as 0.03 MB (the memory soak of bench), so
	// these are 300 MB.
	Pages int64
	Age   time.Duration // [24 h]: what nothing here measures
	// Memory is of its main process alone, in bytes [1 GiB]. Fresh ones have an
	// eighth of it.
	Memory uint64
}

func (w Wear) withDefaults() Wear {
	return Wear{cmp.Or(w.Pages, 10_000), cmp.Or(w.Age, 24*time.Hour), cmp.Or(w.Memory, 1<<30)}
}

// resident is a browser and how many pages live in it.
type resident struct {
	Browser
	started time.Time
	opened  atomic.Int64    // pages, ever
	pages   atomic.Int64    // that are open or being opened
	living  *sync.WaitGroup // of all browsers: one that died must not hold up the next
	retired atomic.Bool     // no page opens in it any more
	retryAt time.Time       // the next one did not start; only who watches uses it
}

func (b *resident) open(ctx context.Context, o page.OpenOptions) (Page, error) {
	b.opened.Add(1)
	b.pages.Add(1)
	opened, err := b.Browser.Open(ctx, o)
	if err != nil {
		b.pages.Add(-1)
		return nil, err
	}
	b.living.Go(func() {
		<-opened.Gone() // with the browser at the latest
		b.pages.Add(-1)
	})
	return opened, nil
}

// Observe counts as the two pages that it opens: a browser that is retired does
// not end under it.
func (b *resident) Observe(ctx context.Context, o page.ObserveOptions) (page.Observation, error) {
	b.opened.Add(2)
	b.pages.Add(1)
	defer b.pages.Add(-1)
	return b.Browser.Observe(ctx, o)
}

// worn is why the browser is to be replaced; "" when it is not.
func (b *resident) worn(limits Wear, now time.Time) string {
	switch {
	case b.opened.Load() >= limits.Pages:
		return "pages"
	case now.Sub(b.started) >= limits.Age:
		return "age"
	case machine.ProcessMemory(os.DirFS("/"), b.PID()) > limits.Memory:
		return "memory"
	}
	return ""
}

// renew starts the next browser when this one is worn out: beside it, so that
// no render waits for the start. Nil when it is not, or the next did not start;
// then this one goes on.
func (s *Server) renew(ctx context.Context, b *resident, log *slog.Logger) *resident {
	now := time.Now()
	why := b.worn(s.options.Wear, now)
	if why == "" || now.Before(b.retryAt) {
		return nil
	}
	next, err := s.launch(ctx, log)
	if err != nil {
		log.Error("the next chrome does not start; this one goes on", "pid", b.PID(), "in", restartMax, "error", err)
		b.retryAt = now.Add(restartMax)
		return nil
	}
	log.Info("chrome is replaced", "pid", b.PID(), "by", next.PID(), "reason", why)
	s.metrics.browsersReplaced.WithLabelValues(why).Inc()
	return next
}
