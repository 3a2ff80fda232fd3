package machine

import (
	"os"
	"syscall"
	"testing"
	"testing/fstest"
)

// files are a root directory.
func files(content map[string]string) fstest.MapFS {
	root := fstest.MapFS{}
	for name, text := range content {
		root[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return root
}

func TestMemoryLimitIsTheLeastThatHolds(t *testing.T) {
	const meminfo = "MemTotal:        8000 kB\nMemFree:  1 kB\n"
	for name, c := range map[string]struct {
		files map[string]string
		want  uint64
	}{
		"nothing says":         {nil, 0},
		"the machine":          {map[string]string{"proc/meminfo": meminfo}, 8000 << 10},
		"v2, own group":        {map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "1000\n", "sys/fs/cgroup/a/memory.max": "max\n"}, 1000},
		"v2, group above":      {map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "max\n", "sys/fs/cgroup/a/memory.max": "2000\n"}, 2000},
		"v2, in a namespace":   {map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "3000\n"}, 3000},
		"v2, no limit":         {map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "max\n"}, 8000 << 10},
		"v2, path of the host": {map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "0::/docker/abc\n", "sys/fs/cgroup/memory.max": "4000\n"}, 4000},
		"v1": {map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "5:cpu,cpuacct:/a\n4:memory:/a\n",
			"sys/fs/cgroup/memory/a/memory.limit_in_bytes": "5000\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, 5000},
		"v1, no limit": {map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "4:memory:/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, 8000 << 10},
		"nonsense":     {map[string]string{"proc/meminfo": "MemTotal:\n", "proc/self/cgroup": "0\n::\n0::/../..\n", "sys/fs/cgroup/memory.max": ""}, 0},
	} {
		if got := MemoryLimit(files(c.files)); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

func TestGroupMemoryCountsTheGroupAlone(t *testing.T) {
	root := files(map[string]string{
		"proc/7/stat": "7 (a) b) S 1 7 7 0", "proc/7/status": "Name:\ta\nRssAnon:\t  10 kB\nRssFile:\t 99 kB\nRssShmem:\t 1 kB\n",
		"proc/8/stat": "8 (x) S 7 7 7 0", "proc/8/status": "RssAnon:\t  20 kB\n",
		"proc/9/stat": "9 (x) S 7 9 7 0", "proc/9/status": "RssAnon:\t  40 kB\n",
		"proc/10/stat": "", "proc/self/stat": "7 (x) S 1 7",
	})
	if got := GroupMemory(root, 7); got != 31<<10 {
		t.Errorf("%d bytes, want %d", got, 31<<10)
	}
}

func TestIdleIsTheShareBetweenTwoReadings(t *testing.T) {
	before := ReadProcessors(files(map[string]string{"proc/stat": "cpu  10 0 10 70 10 0 0 0 99 99\ncpu0 1 1 1\n"}))
	after := ReadProcessors(files(map[string]string{"proc/stat": "cpu  80 0 20 85 15 0 0 0 99 99\n"}))
	if got := after.Idle(before); got != 0.2 {
		t.Errorf("idle %v, want 0.2", got)
	}
	if got := ReadProcessors(files(nil)).Idle(Processors{}); got != 1 {
		t.Errorf("idle %v when nothing is known", got)
	}
}

// The files of this machine are as they are taken to be.
func TestThisMachine(t *testing.T) {
	root := os.DirFS("/")
	limit, used := MemoryLimit(root), GroupMemory(root, syscall.Getpgrp())
	if limit < 64<<20 || used < 1<<20 || used > limit {
		t.Errorf("a limit of %d bytes, and we take %d", limit, used)
	}
	if p := ReadProcessors(root); p.total == 0 || p.idle == 0 {
		t.Errorf("%+v", p)
	}
}
