package realm

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rewarm/rewarm/internal/wire"
)

// What [wire.HeaderSnapshot] says.
const (
	stateHit    = "hit"
	stateMiss   = "miss"   // the bare shell; the page is rendered for the next visitor
	stateStale  = "stale"  // a hit; the page is rendered again
	stateBypass = "bypass" // the bare shell; the URL is no page's
)

// spent is what an answer waited for; all is zero for one from memory.
type spent struct{ store, render time.Duration }

// telling is what is told of an answer: to the caller, and to the metrics.
type telling struct {
	count   prometheus.Counter
	state   []string
	instant []string // Server-Timing of an answer that waited for nothing
}

func newTellings(pages *prometheus.CounterVec, realm string) map[string]*telling {
	all := map[string]*telling{}
	for _, state := range []string{stateHit, stateMiss, stateStale, stateBypass} {
		all[state] = &telling{pages.WithLabelValues(realm, state), []string{state}, []string{"cache"}}
	}
	return all
}

func (t *telling) tell(w http.ResponseWriter, took spent) {
	t.count.Inc()
	h := w.Header()
	h[wire.HeaderSnapshot] = t.state
	switch {
	case took.render > 0:
		h["Server-Timing"] = []string{timing("store", took.store) + ", " + timing("render", took.render)}
	case took.store > 0:
		h["Server-Timing"] = []string{timing("store", took.store)}
	default:
		h["Server-Timing"] = t.instant
	}
}

func timing(name string, took time.Duration) string {
	return name + ";dur=" + strconv.FormatFloat(float64(took)/float64(time.Millisecond), 'f', 1, 64)
}
