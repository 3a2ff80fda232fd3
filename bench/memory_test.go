package bench

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/rewarm/rewarm/internal/words"
)

// growth is how much more the later half of a run may hold than the earlier:
// generous, for a heap breathes and renderers come and go; what grows without
// bound passes it on any long run, and on a short one if it matters.
const growth = 1.25

// TestMemoryStaysFlat renders and deploys for a while and compares what the
// later half of the run holds with the earlier half, in the fleet's process
// and in Chrome. REWARM_SOAK=1 makes it hours instead of a minute.
func TestMemoryStaysFlat(t *testing.T) {
	renders, deploys := 300, 20
	if os.Getenv("REWARM_SOAK") == "1" {
		renders, deploys = 10_000, 200
	}
	f := startFleet(t, binary(t), vanilla(), 2)
	held := map[string][]float64{}
	ways, modes := f.paths, []words.Mode{words.ModeTransition, words.ModeNavigate}
	for d := range deploys {
		m := load{callers: 2, atLeast: max(1, renders/deploys/2+renders/deploys%2), do: func(ctx context.Context, caller, n int) error {
			return f.visit(ctx, f.manager, ways[(caller+n)%len(ways)], modes[(d+n)%len(modes)])
		}}.run(t.Context())
		if len(m.failed) > 0 {
			t.Fatalf("%d renders failed, first: %v", len(m.failed), m.failed[0])
		}
		token, err := f.deploy(t.Context(), fmt.Sprintf("r%d", d+1))
		if err == nil {
			err = until(t.Context(), "the rollout is complete", func() (bool, error) { return f.completeOn(t.Context(), token) })
		}
		if err != nil {
			t.Fatal(err)
		}
		held["rewarm"] = append(held["rewarm"], float64(usageOf(f.group).rss)/1e6)
		held["Chrome"] = append(held["Chrome"], float64(usageOf(f.browser).rss)/1e6)
	}
	for name, series := range held {
		earlier, later := halves(series)
		t.Logf("%s: %.0f MB, then %.0f MB, in the medians of the halves; %.2f MB a deploy; %.0f", name, earlier, later, slope(series), series)
		if later > earlier*growth {
			t.Errorf("%s grew from %.0f to %.0f MB over %d renders and %d deploys: %.0f", name, earlier, later, renders, deploys, series)
		}
	}
	if pid, err := f.browserPID(t.Context()); err != nil || pid != f.browser {
		t.Errorf("the browser %d is now %d (%v): its memory is another's", f.browser, pid, err)
	}
}

// settled is the share of a run after which caches and heaps have their size.
const settled = 0.2

// halves are the medians of a run's earlier and later half, once it has settled.
func halves(series []float64) (earlier, later float64) {
	series = series[int(settled*float64(len(series))):]
	return median(series[:len(series)/2]), median(series[len(series)/2:])
}

// slope is by how much the least-squares line through the series rises a step.
func slope(series []float64) float64 {
	n, sx, sy, sxx, sxy := float64(len(series)), 0.0, 0.0, 0.0, 0.0
	for i, y := range series {
		x := float64(i)
		sx, sy, sxx, sxy = sx+x, sy+y, sxx+x*x, sxy+x*y
	}
	if d := n*sxx - sx*sx; d != 0 {
		return (n*sxy - sx*sy) / d
	}
	return 0
}

func TestHalvesTellALeakFromNoise(t *testing.T) {
	var flat, leak []float64
	for i := range 20 {
		noise := float64(i*7919%13) * 3 // 0 to 36 MB
		flat = append(flat, 150+noise)
		leak = append(leak, 100+noise+float64(i)*10)
	}
	if earlier, later := halves(flat); later > earlier*growth {
		t.Errorf("noise counts as growth: %.0f to %.0f", earlier, later)
	}
	if earlier, later := halves(leak); later <= earlier*growth {
		t.Errorf("10 MB a deploy count as flat: %.0f to %.0f", earlier, later)
	}
	if got := slope([]float64{1, 3, 5, 7}); got != 2 {
		t.Errorf("the slope of 1 3 5 7 is %v", got)
	}
}
