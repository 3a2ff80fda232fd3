package machine

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// policies counts the threads of a process by scheduling policy. A thread that
// ends meanwhile is not counted.
func policies(t *testing.T, pid int) map[uint32]int {
	t.Helper()
	threads, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(pid), "task"))
	if err != nil {
		t.Fatal(err)
	}
	count := map[uint32]int{}
	for _, thread := range threads {
		tid, _ := strconv.Atoi(thread.Name())
		if now, err := unix.SchedGetAttr(tid, 0); err == nil {
			count[now.Policy]++
		}
	}
	return count
}

func TestAllThreadsAndChildrenRunInBatch(t *testing.T) {
	if err := RunInBatch(); err != nil {
		t.Fatal(err)
	}
	// Threads that nobody has started yet: a locked one serves no other goroutine.
	var busy sync.WaitGroup
	hold := make(chan struct{})
	for range 20 {
		locked := make(chan struct{})
		busy.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			close(locked)
			<-hold
		})
		<-locked
	}
	child := exec.Command("sleep", "60")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	for name, pid := range map[string]int{"this process": os.Getpid(), "a child": child.Process.Pid} {
		// Whoever runs the tests under another policy than the usual one keeps it.
		if now := policies(t, pid); now[unix.SCHED_NORMAL] > 0 || len(now) == 0 {
			t.Errorf("%s has threads by policy %v, want none of %d", name, now, unix.SCHED_NORMAL)
		}
	}
	close(hold)
	busy.Wait()
	_ = child.Process.Kill()
	_ = child.Wait()
}
