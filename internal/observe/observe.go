// Package observe makes what a role says about itself: its log and its metrics.
package observe

import (
	"io"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/rewarm/rewarm/internal/fault"
)

// Log formats.
const (
	FormatText = "text" // for people
	FormatJSON = "json" // for machines, one object a line
)

// NewLogger returns a logger that writes to w. Level is debug, info, warn or
// error; anything else is wrong usage.
func NewLogger(w io.Writer, format, level string) (*slog.Logger, error) {
	var threshold slog.Level
	if err := threshold.UnmarshalText([]byte(level)); err != nil {
		return nil, fault.New(fault.Usage, "--log-level %q is not debug, info, warn or error", level)
	}
	options := &slog.HandlerOptions{Level: threshold}
	switch format {
	case FormatText:
		return slog.New(slog.NewTextHandler(w, options)), nil
	case FormatJSON:
		return slog.New(slog.NewJSONHandler(w, options)), nil
	}
	return nil, fault.New(fault.Usage, "--log-format %q is not text or json", format)
}

// NewRegistry returns the metrics of one role, with those of its process.
func NewRegistry() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

// SecondsBuckets are those of every histogram of times: 10 ms to 41 s.
func SecondsBuckets() []float64 { return prometheus.ExponentialBuckets(0.01, 2, 13) }
