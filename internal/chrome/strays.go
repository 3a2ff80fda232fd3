package chrome

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// reapStrays ends and reaps the helpers that left the browser's group. Chrome's
// crash handlers do (no flag keeps them from starting: the one there is makes
// the network process crash), and since we are the subreaper they are children
// of ours by now. Only our own children are looked at, never the process list.
func reapStrays(profile string) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	// Twice clean: a helper that was between two forks when its parent was
	// killed becomes our child a moment later.
	clean := 0
	for limit := time.Now().Add(reapLimit); time.Now().Before(limit) && clean < 2; <-tick.C {
		left := false
		for _, pid := range children() {
			if stray(pid, profile) {
				_ = syscall.Kill(pid, syscall.SIGKILL)
				got, _ := syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
				left = left || got == 0
			}
		}
		clean++
		if left {
			clean = 0
		}
	}
}

// stray is whether a child of ours names the profile on its command line, or is
// a dead crash handler, which has no command line any more. Nobody else waits
// for those: an orphan belongs to no exec.Cmd.
func stray(pid int, profile string) bool {
	if line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil && bytes.Contains(line, []byte(profile)) {
		return true
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && bytes.Contains(stat, []byte("(chrome_crashpad) Z "))
}

// children are the pids of our children; none where the kernel does not tell.
func children() []int {
	lists, _ := filepath.Glob("/proc/self/task/*/children")
	var pids []int
	for _, list := range lists {
		raw, _ := os.ReadFile(list)
		for field := range bytes.FieldsSeq(raw) {
			if pid, err := strconv.Atoi(string(field)); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}
