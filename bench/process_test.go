package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// eventually bounds every wait for a condition; it is generous because
// machines are shared, and reached only when something is broken.
const eventually = 2 * time.Minute

// stopGrace is how long a process may take to end by itself.
const stopGrace = 20 * time.Second

// process is a measured program: a process group of its own, so that its usage
// is its own, and nothing of it is left when it is stopped.
type process struct {
	name  string
	group int
	done  chan struct{} // closed when it has ended
	out   *lines
	stop  sync.Once
	err   error
}

// lines is what a process wrote, line by line.
type lines struct {
	mu      sync.Mutex
	partial []byte
	all     []string
}

// keptLines bounds what is remembered of a process that writes for hours.
const keptLines = 200_000

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.partial = append(l.partial, p...)
	for {
		line, rest, ok := bytes.Cut(l.partial, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		if len(l.all) < keptLines {
			l.all = append(l.all, string(line))
		}
		l.partial = rest
	}
}

// from returns the lines from the n-th on.
func (l *lines) from(n int) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string{}, l.all[min(n, len(l.all)):]...)
}

func (l *lines) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.all)
}

// command is a program to start.
type command struct {
	name string
	path string
	args []string
	dir  string
	env  []string // added to ours
}

// start starts a program; it ends with the test at the latest.
func start(tb testing.TB, c command) (*process, error) {
	tb.Helper()
	cmd := exec.Command(c.path, c.args...)
	cmd.Dir, cmd.Env = c.dir, append(os.Environ(), c.env...)
	p := &process{name: c.name, done: make(chan struct{}), out: &lines{}}
	cmd.Stdout, cmd.Stderr = p.out, p.out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// A browser that its parent left behind holds the output open.
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.name, err)
	}
	p.group = cmd.Process.Pid
	go func() {
		defer close(p.done)
		p.err = cmd.Wait()
	}()
	tb.Cleanup(p.end)
	return p, nil
}

// end asks the process to end, then ends its group; it returns when it is gone.
func (p *process) end() {
	p.stop.Do(func() {
		_ = syscall.Kill(p.group, syscall.SIGTERM)
		timer := time.NewTimer(stopGrace)
		defer timer.Stop()
		select {
		case <-p.done:
		case <-timer.C:
		}
		_ = syscall.Kill(-p.group, syscall.SIGKILL) // what it left, too
		<-p.done
	})
}

// ended says why a process that should run does not.
func (p *process) ended() error {
	select {
	case <-p.done:
		all := p.out.from(0)
		return fmt.Errorf("%s ended (%w): %s", p.name, p.err, strings.Join(all[max(0, len(all)-10):], " | "))
	default:
		return nil
	}
}

// until polls a condition that nothing announces.
func until(ctx context.Context, what string, condition func() (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, eventually, errors.New("not within "+eventually.String()))
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := condition()
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w (%w)", what, context.Cause(ctx), errors.Join(err))
		case <-tick.C:
		}
	}
}

// freePort is a port that was free a moment ago, for programs that cannot say
// which they bound.
func freePort(tb testing.TB) int {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// usage is what process groups have used and hold.
type usage struct {
	cpu time.Duration // of the living and of their reaped children
	rss int64         // bytes, shared pages counted in each process
}

func (u usage) minus(earlier usage) usage { return usage{u.cpu - earlier.cpu, u.rss - earlier.rss} }

// clockTick is the unit of CPU time in /proc; it is 100 a second on all of
// Linux's architectures that Go runs on.
const clockTick = 10 * time.Millisecond

// usageOf adds up what the process groups use, from /proc.
func usageOf(groups ...int) (total usage) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range stats {
		raw, err := os.ReadFile(name)
		if err != nil {
			continue // it has just ended
		}
		_, rest, ok := strings.Cut(string(raw[bytes.LastIndexByte(raw, ')')+1:]), " ")
		fields := strings.Fields(rest)
		if !ok || len(fields) < 22 {
			continue
		}
		at := func(i int) int64 { n, _ := strconv.ParseInt(fields[i], 10, 64); return n }
		for _, group := range groups {
			if at(2) == int64(group) {
				total.cpu += time.Duration(at(11)+at(12)+at(13)+at(14)) * clockTick
				total.rss += at(21) * int64(os.Getpagesize())
			}
		}
	}
	return total
}
