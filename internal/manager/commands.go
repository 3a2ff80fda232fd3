package manager

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/ledger"
	"github.com/rewarm/rewarm/internal/wire"
)

// The states of a command's permit.
const (
	commandStarted = "started"
	commandDone    = "done"
	commandLarge   = "done-large" // done; its answer is too large to be kept
	commandRefused = "refused"    // no server started it
	commandUnknown = "unknown"    // a server may have run it, and cannot be asked
)

// recordWithin bounds the recording of an outcome; its caller may be gone.
const recordWithin = 5 * time.Second

// permitID names a command's permit: the request's id. The requests of a page
// all carry one id, so of what they ask for the same command is the same one.
func permitID(w *work) string {
	if _, depth := wire.Lineage(w.requestID); depth > 0 {
		return w.requestID + " " + w.identity
	}
	return w.requestID
}

// command runs a command at most once in the whole fleet: only the request
// that creates the permit of its id dispatches, every other repeats what came
// of that.
func (m *Manager) command(ctx context.Context, w *work) (result, error) {
	won, existing, err := m.store.CreatePermit(ctx, permitID(w), ledger.Permit{State: commandStarted, At: time.Now()})
	if err != nil {
		return result{}, away(err)
	}
	if !won {
		return m.repeat(ctx, w, existing)
	}
	got, err := m.attempts(ctx, w)
	if err != nil && !w.sent {
		m.releasePermit(ctx, w)
		return result{}, err
	}
	if _, classified := errors.AsType[*fault.Error](err); err != nil && !classified {
		err = errUnknown(err)
	}
	m.recordPermit(ctx, w, permitOf(got, err))
	return got, err
}

func errUnknown(cause error) error {
	return fault.Wrap(fault.Upstream, cause, "command outcome unknown")
}

// permitOf is the permit of a command that may have reached a server.
func permitOf(got result, err error) ledger.Permit {
	p := ledger.Permit{State: commandDone, At: time.Now()}
	if refused, ok := errors.AsType[*fault.Error](err); ok {
		if p.State = commandRefused; refused.Kind == fault.Upstream {
			p.State = commandUnknown
		}
		p.Status, p.Body = refused.Status(), []byte(refused.Message)
		return p
	}
	p.Status = got.status
	p.Header = [][2]string{{wire.HeaderTarget, got.target}}
	for _, name := range []string{"Content-Type", "Content-Encoding", wire.HeaderShellHash} {
		if value := got.header.Get(name); value != "" {
			p.Header = append(p.Header, [2]string{name, value})
		}
	}
	if p.Body = got.body; len(p.Body) > ledger.MaxPermitBody {
		p.State, p.Body = commandLarge, nil
	}
	return p
}

// repeat answers with the outcome of the request that had the permit, when it
// is known.
func (m *Manager) repeat(ctx context.Context, w *work, p ledger.Permit) (result, error) {
	settled := func(p ledger.Permit) bool { return p.State != commandStarted }
	if !settled(p) {
		var found bool
		var err error
		p, found, err = m.store.AwaitPermit(ctx, permitID(w), settled)
		switch {
		case ctx.Err() != nil:
			return result{}, context.Cause(ctx)
		case err != nil:
			return result{}, away(err)
		case !found: // it was never sent: the id may be used again
			return result{}, errNoServers(time.Second)
		}
	}
	switch p.State {
	case commandDone:
		got := result{answer: &answer{status: p.Status, header: http.Header{}, body: p.Body}}
		for _, field := range p.Header {
			if field[0] == wire.HeaderTarget {
				got.target = field[1]
				continue
			}
			got.header.Set(field[0], field[1])
		}
		return got, nil
	case commandLarge:
		return result{}, fault.New(fault.Upstream, "the command ran; its answer is too large to be repeated")
	case commandRefused:
		if p.Status == http.StatusGone {
			return result{}, fault.New(fault.Draining, "%s", p.Body)
		}
		return result{}, fault.Refuse(time.Second, "%s", p.Body)
	}
	return result{}, errUnknown(nil)
}

func (m *Manager) recordPermit(ctx context.Context, w *work, p ledger.Permit) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordWithin)
	defer cancel()
	if err := m.store.PutPermit(ctx, permitID(w), p); err != nil {
		// The permit stays: the command is not run again, only not repeated.
		m.log.Error("a command's outcome cannot be recorded", "requestId", w.requestID, "state", p.State, "error", err)
	}
}

func (m *Manager) releasePermit(ctx context.Context, w *work) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordWithin)
	defer cancel()
	if err := m.store.DeletePermit(ctx, permitID(w)); err != nil {
		m.log.Error("the permit of a command that was not sent cannot be released", "requestId", w.requestID, "error", err)
	}
}
