// Package machine reads what the system says of memory and processors: how
// much a process group may take, how much it takes, and whether there is any
// processor left. What it cannot read it leaves out; who asks decides without.
// It also says how this process is scheduled, see [RunInBatch].
package machine

import (
	"bufio"
	"bytes"
	"io/fs"
	"math"
	"path"
	"strconv"
	"strings"
)

// MemoryLimit is how many bytes of memory this process and its children may
// take: the least that its control group, one above it, or the machine sets. 0
// when nothing says. root is the file system from / on.
func MemoryLimit(root fs.FS) uint64 {
	limit := uint64(math.MaxUint64)
	for _, bytes := range append(groupLimits(root), field(root, "proc/meminfo", "MemTotal:")*1024) {
		if bytes > 0 {
			limit = min(limit, bytes)
		}
	}
	if limit == math.MaxUint64 {
		return 0
	}
	return limit
}

// groupLimits are the limits on the way from our control group to the root, of
// version 2 and 1. In a container the path may lead nowhere, for the root that
// is mounted there is the container's own; the way up still ends at it.
func groupLimits(root fs.FS) (limits []uint64) {
	raw, _ := fs.ReadFile(root, "proc/self/cgroup")
	for line := range strings.Lines(string(raw)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3) // hierarchy:controllers:path
		if len(parts) < 3 {
			continue
		}
		mount, file := "sys/fs/cgroup", "memory.max"
		switch {
		case parts[0] == "0":
		case strings.Contains(","+parts[1]+",", ",memory,"):
			mount, file = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		default:
			continue
		}
		for dir := path.Clean("/" + parts[2]); ; dir = path.Dir(dir) {
			limits = append(limits, number(root, path.Join(mount, dir, file))) // "max" is no number
			if dir == "/" {
				break
			}
		}
	}
	return limits
}

// GroupMemory is what the processes of a group take for themselves, in bytes:
// pages that they share with a file are not theirs alone, and go under
// pressure.
func GroupMemory(root fs.FS, group int) uint64 {
	entries, _ := fs.ReadDir(root, "proc")
	total := uint64(0)
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil || groupOf(root, e.Name()) != group {
			continue
		}
		pid, _ := strconv.Atoi(e.Name())
		total += ProcessMemory(root, pid)
	}
	return total
}

// ProcessMemory is what one process takes for itself, in bytes.
func ProcessMemory(root fs.FS, pid int) uint64 {
	status := path.Join("proc", strconv.Itoa(pid), "status")
	return (field(root, status, "RssAnon:") + field(root, status, "RssShmem:")) * 1024
}

// groupOf is the process group of a process; its name, which comes before, may
// hold spaces and brackets.
func groupOf(root fs.FS, pid string) int {
	raw, _ := fs.ReadFile(root, path.Join("proc", pid, "stat"))
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:])) // state, parent, group
	if len(fields) < 3 {
		return 0
	}
	group, _ := strconv.Atoi(fields[2])
	return group
}

// Processors is a reading of the processors' time since the machine started.
type Processors struct{ idle, total uint64 }

// ReadProcessors reads it now.
func ReadProcessors(root fs.FS) (p Processors) {
	raw, _ := fs.ReadFile(root, "proc/stat")
	line, _, _ := strings.Cut(string(raw), "\n")
	for i, text := range strings.Fields(line) { // "cpu", user, nice, system, idle, iowait, irq, softirq, steal
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil || i > 8 {
			continue // the rest is in user and nice already
		}
		p.total += n
		if i == 4 || i == 5 {
			p.idle += n
		}
	}
	return p
}

// Idle is the share of time since the earlier reading for which the processors
// had nothing to do; 1 when nothing is known.
func (p Processors) Idle(earlier Processors) float64 {
	if p.total <= earlier.total || p.idle < earlier.idle {
		return 1
	}
	return float64(p.idle-earlier.idle) / float64(p.total-earlier.total)
}

// number is the number that a file holds; 0 for none.
func number(root fs.FS, name string) uint64 {
	raw, _ := fs.ReadFile(root, name)
	n, _ := strconv.ParseUint(strings.TrimSpace(string(raw)), 10, 64)
	return n
}

// field is the first number in the file's line that begins with the name.
func field(root fs.FS, file, name string) uint64 {
	raw, _ := fs.ReadFile(root, file)
	for lines := bufio.NewScanner(bytes.NewReader(raw)); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), name); ok {
			if words := strings.Fields(rest); len(words) > 0 {
				n, _ := strconv.ParseUint(words[0], 10, 64)
				return n
			}
		}
	}
	return 0
}
