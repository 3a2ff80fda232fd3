package machine

import (
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
	for changed := true; changed; {
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return fmt.Errorf("listing threads: %w", err)
		}
		changed = false
		for _, thread := range threads {
			tid, _ := strconv.Atoi(thread.Name())
			now, err := unix.SchedGetAttr(tid, 0)
			if err != nil || now.Policy != unix.SCHED_NORMAL {
				continue // or it has ended
			}
			now.Policy = unix.SCHED_BATCH
			if err := unix.SchedSetAttr(tid, now, 0); err != nil {
				return fmt.Errorf("setting the scheduling policy: %w", err)
			}
			changed = true
		}
	}
	return nil
}
