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

// strayName is the command name, cut to 15 bytes by the kernel, of a helper that
// leaves the group.
const strayName = "(chrome_crashpad"

// reapStrays ends and reaps the helpers that left the browser's group. Chrome's
// crash handlers do (no flag keeps them from starting: the one there is makes
// the network process crash), and since we are the subreaper they are children
// of ours by now. Only our own children are looked at, never the process list.
//
// silent is closed once nobody holds the other end of the browser's stderr,
// which every helper inherits. Until then one may live that is not our child
// yet, so clean looks prove nothing; a stranger may hold it too, so after
// lastWords of clean looks they are believed all the same.
func reapStrays(profile string, silent <-chan struct{}) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	cleanSince := time.Now()
	clean := 0 // looks after silence; two, for a list of children may miss one that moves
	for limit := time.Now().Add(reapLimit); time.Now().Before(limit) && clean < 2; <-tick.C {
		left := reapSeen(profile)
		select {
		case <-silent:
			clean++
		default:
			if time.Since(cleanSince) > lastWords {
				clean++
			}
		}
		if left {
			clean, cleanSince = 0, time.Now()
		}
	}
}

// reapSeen kills the strays among our children and reaps those that are dead;
// left is whether any is not.
func reapSeen(profile string) (left bool) {
	for _, pid := range children() {
		if stray(pid, profile) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			got, _ := syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
			left = left || got == 0
		}
	}
	return left
}

// stray is whether a child of ours names the profile on its command line, or is
// a crash handler that has none any more: it is dead, or about to be, which no
// state tells (its memory goes first, and on a busy machine it stays between
// the two for a while). Nobody else waits for those: an orphan belongs to no
// exec.Cmd.
func stray(pid int, profile string) bool {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || len(line) > 0 {
		return bytes.Contains(line, []byte(profile))
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && bytes.Contains(stat, []byte(strayName))
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
