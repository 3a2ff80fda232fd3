package machine

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// RunInBatch puts this process, and all that it starts from now on, under the
// kernel's batch policy (sched(7)): its threads get their share of the
// processors, but one that wakes does not interrupt another that runs. Threads
// under another policy than the usual one keep it. An error is of a system that
// refuses; nothing else depends on it.
func RunInBatch() error {
	// A thread has the policy of the one that started it, so once all of a list
	// are done, only those that were started meanwhile are left.
	done := map[string]bool{}
	for more := true; more; {
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return fmt.Errorf("listing threads: %w", err)
		}
		more = false
		for _, thread := range threads {
			if done[thread.Name()] {
				continue
			}
			done[thread.Name()], more = true, true
			if err := setBatch(thread.Name()); err != nil && !errors.Is(err, unix.ESRCH) { // it has ended
				return fmt.Errorf("setting the scheduling policy: %w", err)
			}
		}
	}
	return nil
}

func setBatch(thread string) error {
	tid, err := strconv.Atoi(thread)
	if err != nil {
		return err
	}
	now, err := unix.SchedGetAttr(tid, 0)
	if err != nil || now.Policy != unix.SCHED_NORMAL {
		return err
	}
	now.Policy = unix.SCHED_BATCH
	return unix.SchedSetAttr(tid, now, 0)
}
