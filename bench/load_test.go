package bench

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"testing"
	"time"
)

// requestLimit bounds one request of a load.
const requestLimit = time.Minute

// load is what callers do for a while.
type load struct {
	callers int
	lasts   time.Duration
	atLeast int // requests of each caller, however long they take
	// do is one request. n counts a caller's own.
	do func(ctx context.Context, caller, n int) error
}

// done is one request that was answered.
type done struct {
	at   time.Time // of the answer
	took time.Duration
}

// measured is what came of a load.
type measured struct {
	all     []done
	elapsed time.Duration
	failed  []error
}

// run runs the load until its time is over; a caller whose request fails goes on.
func (l load) run(ctx context.Context) (m measured) {
	began := time.Now()
	end := began.Add(l.lasts)
	var mu sync.Mutex
	var callers sync.WaitGroup
	for caller := range l.callers {
		callers.Go(func() {
			var own []done
			var failed []error
			for n := 0; ctx.Err() == nil && (n < l.atLeast || time.Now().Before(end)); n++ {
				limited, cancel := context.WithTimeout(ctx, requestLimit)
				asked := time.Now()
				err := l.do(limited, caller, n)
				cancel()
				switch {
				case err == nil:
					own = append(own, done{time.Now(), time.Since(asked)})
				case ctx.Err() == nil:
					failed = append(failed, err)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			m.all, m.failed = append(m.all, own...), append(m.failed, failed...)
		})
	}
	callers.Wait()
	m.elapsed = time.Since(began)
	return m
}

func (m measured) took() []time.Duration {
	all := make([]time.Duration, len(m.all))
	for i, d := range m.all {
		all[i] = d.took
	}
	return all
}

func (m measured) rate() float64 { return float64(len(m.all)) / m.elapsed.Seconds() }

// longestGap is the longest time between two answers that touches [from, to].
func (m measured) longestGap(from, to time.Time) (longest time.Duration) {
	answers := slices.SortedFunc(slices.Values(m.all), func(a, b done) int { return a.at.Compare(b.at) })
	for i := 1; i < len(answers); i++ {
		before, after := answers[i-1].at, answers[i].at
		if after.After(from) && before.Before(to) {
			longest = max(longest, after.Sub(before))
		}
	}
	return longest
}

// quantile is the nearest-rank q-quantile, the zero value for no samples.
func quantile[T cmp.Ordered](samples []T, q float64) (none T) {
	if len(samples) == 0 {
		return none
	}
	sorted := slices.Sorted(slices.Values(samples))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

func median[T cmp.Ordered](samples []T) T { return quantile(samples, 0.5) }

func TestQuantile(t *testing.T) {
	hundred := make([]int, 100)
	for i := range hundred {
		hundred[i] = 99 - i
	}
	for q, want := range map[float64]int{0: 0, 0.5: 50, 0.99: 99, 1: 99} {
		if got := quantile(hundred, q); got != want {
			t.Errorf("the %v-quantile of 0..99 is %d, want %d", q, got, want)
		}
	}
	if got := median([]int{}); got != 0 {
		t.Errorf("the median of nothing is %d", got)
	}
}

func TestLongestGapCountsWhatTouchesTheWindow(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	m := measured{all: []done{{at: at(100)}, {at: at(0)}, {at: at(9)}, {at: at(12)}, {at: at(20)}}}
	if got := m.longestGap(at(10), at(14)); got != 8*time.Second {
		t.Errorf("the gap is %s, want the 8 s from 12 to 20, which began in the window", got)
	}
	if got := m.longestGap(at(5), at(6)); got != 9*time.Second {
		t.Errorf("the gap is %s, want the 9 s around the window", got)
	}
}
