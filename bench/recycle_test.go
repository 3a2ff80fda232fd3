package bench

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/rewarm/rewarm/internal/words"
)

// quietTime is how long callers render with no deploy: the gap that the
// machine makes by itself.
const quietTime = 3 * time.Second

// recycle is what one mode's deploys were like.
type recycle struct {
	gaps, lasts     []float64 // ms, of each deploy
	warmUps         []float64 // ms, of each page
	quiet           float64   // the longest gap with no deploy, ms
	answers, failed int
}

// measureRecycle deploys under four callers, in each mode.
func measureRecycle(b *testing.B, f *fleet, r *report) {
	table := r.table("Recycle under 4 callers, through the manager", "", "longest gap ms", "median warm-up ms", "gap, warm-ups",
		"gap with no deploy ms", "report to last page ms", "renders", "failed")
	for _, mode := range []words.Mode{words.ModeTransition, words.ModeNavigate} {
		c := underLoad(b, f, mode, r)
		table.row("rewarm, "+string(mode), spread(c.gaps), spread(c.warmUps), fmt.Sprintf("%.2f", c.worst()),
			fmt.Sprintf("%.0f", c.quiet), spread(c.lasts), fmt.Sprint(c.answers), fmt.Sprint(c.failed))
		r.bar("longest gap of all recycles in median warm-ups, "+string(mode), c.worst(), 2, atMost)
		r.bar("renders that a recycle failed, "+string(mode), float64(c.failed), 0, atMost)
	}
}

// worst is the longest gap of all deploys in median warm-ups of the run.
func (c *recycle) worst() float64 { return ratio(slices.Max(c.gaps), median(c.warmUps)) }

// deployed is one deploy of a run.
type deployed struct{ began, complete time.Time }

func underLoad(b *testing.B, f *fleet, mode words.Mode, r *report) (c recycle) {
	ctx, stop := context.WithCancel(b.Context())
	defer stop()
	ways, came := f.paths, make(chan measured, 1)
	go func() {
		came <- load{callers: 4, lasts: time.Hour, do: func(ctx context.Context, caller, n int) error {
			return f.visit(ctx, f.manager, ways[(caller+n)%len(ways)], mode)
		}}.run(ctx)
	}()
	pause(ctx, quietTime/2) // the callers' first renders
	quiet := deployed{began: time.Now()}
	pause(ctx, quietTime)
	quiet.complete = time.Now()
	var deploys []deployed
	for n := range rounds {
		lines, d := f.out.count(), deployed{began: time.Now()}
		token, err := f.deploy(ctx, fmt.Sprintf("%s-%d", mode, n+1))
		if err == nil {
			err = until(ctx, "the rollout is complete", func() (bool, error) { return f.completeOn(ctx, token) })
		}
		if err != nil {
			stop()
			<-came
			b.Fatal(err)
		}
		d.complete = time.Now()
		for _, took := range f.warmUps(lines, token) {
			c.warmUps = append(c.warmUps, ms(took))
		}
		deploys = append(deploys, d)
		c.lasts = append(c.lasts, ms(d.complete.Sub(d.began)))
		pause(ctx, turn/2) // the gap that the end of it makes
	}
	stop()
	m := <-came
	c.quiet = ms(m.longestGap(quiet.began, quiet.complete))
	for _, d := range deploys {
		c.gaps = append(c.gaps, ms(m.longestGap(d.began, d.complete)))
	}
	c.answers, c.failed = len(m.all), len(m.failed)
	for _, err := range m.failed[:min(1, len(m.failed))] {
		r.note("recycle, %s: the first failure: %v", mode, err)
	}
	return c
}

// pause lets the load run for a while; a load is measured over time.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
