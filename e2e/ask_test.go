package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// ask asks the manager, or a prerender server itself, for a render that the
// caller waits budget for.
func (f *fleet) ask(ctx context.Context, of, path string, mode words.Mode, budget time.Duration) (visitAnswer, http.Header, error) {
	body := fmt.Sprintf(`{"data":{"attributes":{"url":%q,"renderOptions":{"mode":%q}}}}`, f.up.RealmURL()+path, mode)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, of+"/prerender-visit", bytes.NewReader([]byte(body)))
	if err != nil {
		return visitAnswer{}, nil, err
	}
	request.Header.Set(wire.HeaderBudget, strconv.FormatInt(budget.Milliseconds(), 10))
	response, err := f.http.Do(request)
	if err != nil {
		return visitAnswer{}, nil, err
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		return visitAnswer{}, nil, err
	}
	answer := visitAnswer{Status: response.StatusCode, Token: words.Token(response.Header.Get(wire.HeaderShellHash)), Body: string(raw)}
	return answer, response.Header, json.Unmarshal(raw, &answer)
}

// status is that of a GET, 0 when nobody answers.
func (f *fleet) status(url string) int {
	response, err := f.http.Get(url)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode
}

// progress is the rollout, or false while the manager does not answer.
func (f *fleet) progress() (wire.Rollout, bool) {
	rollout, err := f.asks().Rollout(f.t.Context())
	return rollout, err == nil
}

// completeNow is whether all pages of the fleet are of the current release.
func (f *fleet) completeNow() bool {
	rollout, ok := f.progress()
	return ok && rollout.Phase == wire.RolloutComplete
}

// newFleetAt is a fleet that is not started here.
func newFleetAt(t *testing.T, at place) *fleet {
	transport := &http.Transport{MaxIdleConnsPerHost: 16}
	t.Cleanup(transport.CloseIdleConnections)
	f := &fleet{
		t: t, host: t.TempDir(), log: &syncBuffer{}, tokens: map[words.Token]string{}, up: at, secret: secret,
		http: &http.Client{Transport: withSecret{next: transport, secret: secret}},
	}
	f.asks = sync.OnceValue(f.client)
	return f
}

// metricOf reads one sample of the process at a URL, -1 when it is not there.
func (f *fleet) metricOf(url, name string) float64 {
	g := &fleet{t: f.t, http: f.http, up: only(url)}
	return g.metric(name)
}

// only is a place with nothing but a prerender server.
type only string

func (only) RealmURL() string       { return "" }
func (only) ManagerURL() string     { return "" }
func (o only) PrerenderURL() string { return string(o) }

// judgeHistory reads the releases that the manager knows, the oldest first, each
// as its sequence and its name.
func (f *fleet) judgeHistory(want ...string) {
	f.t.Helper()
	releases, err := f.asks().Releases(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	var history []string
	for _, release := range slices.Backward(releases.History) {
		history = append(history, fmt.Sprintf("%d %s", release.Sequence, f.nameOf(release.Token)))
	}
	if !slices.Equal(history, want) {
		f.t.Errorf("history %q, want %q", history, want)
	}
}
