package bench

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"
)

// overloadBudget is what each caller gives a render, and overloadSlack what the
// answer may take from the fleet to a caller on a machine that is full.
const (
	overloadBudget = 5 * time.Second
	overloadSlack  = 500 * time.Millisecond
)

// measureOverload has many callers ask at once, each again and again: every one
// of them must have an answer, or a refusal that says when to come again, within
// its budget.
func measureOverload(b *testing.B, f *fleet, r *report) {
	table := r.table(fmt.Sprintf("Overload: callers at once, a budget of %s each", overloadBudget),
		"", "rendered", "refused, told when to come", "anything else", "p50 ms of a render", "p99 ms of any answer", "over the budget")
	for _, callers := range []int{30, 200} {
		var mu sync.Mutex
		var rendered, any []time.Duration
		refused, other, late := 0, 0, 0
		load{callers: callers, lasts: 10 * time.Second, atLeast: 1, do: func(ctx context.Context, caller, n int) error {
			began := time.Now()
			// No two ask for the same: those would share one render.
			path := fmt.Sprintf("%s?ask=%d-%d", f.paths[(caller+n)%len(f.paths)], caller, n)
			status, retry, err := f.ask(ctx, path, overloadBudget)
			took := time.Since(began)
			wait := ""
			defer func() { comeAgain(ctx, wait) }()
			mu.Lock()
			defer mu.Unlock()
			any = append(any, took)
			if took > overloadBudget+overloadSlack {
				late++
			}
			switch {
			case err == nil && status == http.StatusCreated:
				rendered = append(rendered, took)
			case err == nil && status == http.StatusServiceUnavailable && retry != "":
				refused++
				wait = retry
			default:
				other++
				r.note("overload, %d callers: %d, %v", callers, status, err)
			}
			return nil
		}}.run(b.Context())
		table.row(fmt.Sprintf("%d callers", callers), fmt.Sprint(len(rendered)), fmt.Sprint(refused), fmt.Sprint(other),
			fmt.Sprintf("%.0f", ms(median(rendered))), fmt.Sprintf("%.0f", ms(quantile(any, 0.99))), fmt.Sprint(late))
		r.bar(fmt.Sprintf("answers over the budget, %d callers", callers), float64(late), 0, atMost)
		r.bar(fmt.Sprintf("neither rendered nor refused, %d callers", callers), float64(other), 0, atMost)
	}
}

// ask asks the manager for a render within a budget; the page is not looked at.
func (f *fleet) ask(ctx context.Context, path string, budget time.Duration) (status int, retryAfter string, err error) {
	body := fmt.Sprintf(`{"data":{"attributes":{"url":%q,"affinityType":"realm","affinityValue":%q}}}`, f.realm+path, f.realm)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, f.manager+"/prerender-visit", bytes.NewReader([]byte(body)))
	if err != nil {
		return 0, "", err
	}
	request.Header.Set("X-Rewarm-Budget-Ms", fmt.Sprint(budget.Milliseconds()))
	response, err := f.http.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	var answer bytes.Buffer
	_, err = answer.ReadFrom(response.Body)
	return response.StatusCode, response.Header.Get("Retry-After"), err
}

// comeAgain waits as long as the refusal said, in seconds.
func comeAgain(ctx context.Context, retryAfter string) {
	if seconds, err := strconv.Atoi(retryAfter); err == nil {
		select {
		case <-time.After(time.Duration(seconds) * time.Second):
		case <-ctx.Done():
		}
	}
}
