package bench

import (
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestMain ends what was started when somebody interrupts a run: children are
// groups of their own, so Ctrl-C does not reach them.
func TestMain(m *testing.M) {
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-interrupted
		endChildren()
		os.Exit(130)
	}()
	os.Exit(m.Run())
}

// endChildren kills the process groups that our children lead. What they lead
// themselves ends with them: a Chrome of rewarm's is tied to its parent.
func endChildren() {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range stats {
		raw, err := os.ReadFile(name)
		if err != nil {
			continue // it has just ended
		}
		_, rest, _ := strings.Cut(string(raw), ") ")
		fields := strings.Fields(rest)
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if err == nil && len(fields) > 2 && fields[1] == strconv.Itoa(os.Getpid()) && fields[2] == strconv.Itoa(pid) {
			_ = syscall.Kill(-pid, syscall.SIGKILL)
		}
	}
}
