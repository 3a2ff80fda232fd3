package web

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/rewarm/rewarm/internal/fault"
)

// Drainer ends a role gently: once draining, new work is answered 410, and
// what runs may finish.
type Drainer struct {
	mu       sync.Mutex
	running  int
	draining bool
	idle     chan struct{} // closed when draining and nothing runs
}

// NewDrainer returns a Drainer that lets work through.
func NewDrainer() *Drainer { return &Drainer{idle: make(chan struct{})} }

// Draining reports whether new work is refused.
func (d *Drainer) Draining() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.draining
}

// Work counts h's requests as work; message is what a refused caller reads.
func (d *Drainer) Work(message string, h Handler) Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if !d.begin() {
			return fault.New(fault.Draining, "%s", message)
		}
		defer d.end()
		return h(w, r)
	}
}

func (d *Drainer) begin() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.draining {
		d.running++
	}
	return !d.draining
}

func (d *Drainer) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.running--
	d.closeIfIdle()
}

func (d *Drainer) closeIfIdle() {
	if d.draining && d.running == 0 {
		select {
		case <-d.idle:
		default:
			close(d.idle)
		}
	}
}

// Begin refuses new work from now on.
func (d *Drainer) Begin() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.draining = true
	d.closeIfIdle()
}

// Wait returns when nothing runs any more and least has passed, so that peers
// had time to read a 410, or when most has passed or ctx has ended. Begin comes
// first.
func (d *Drainer) Wait(ctx context.Context, least, most time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	select {
	case <-time.After(least):
	case <-ctx.Done():
		return
	}
	select {
	case <-d.idle:
	case <-ctx.Done():
	}
}
