package e2e

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestReadmeCommands runs what a new user types, in the README's order, on a
// copy of the sources. Each command of the README must be known here: one that
// nobody runs is one that nobody knows to work.
func TestReadmeCommands(t *testing.T) {
	for _, port := range []string{"4201", "4221", "4222", "4223"} {
		ln, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err != nil {
			t.Fatalf("the README's commands use port %s, which is in use here: stop what listens there", port)
		}
		_ = ln.Close()
	}
	r := &reader{t: t, dir: t.TempDir()}
	copySources(t, r.dir)
	t.Cleanup(r.stopAll)
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllSubmatch(readme, -1) {
		for line := range strings.Lines(string(block[1])) {
			r.run(strings.TrimSpace(line))
		}
	}
}

// reader follows the README.
type reader struct {
	t       *testing.T
	dir     string
	running []*exec.Cmd
}

func (r *reader) run(line string) {
	t := r.t
	t.Log("$ " + line)
	switch {
	case line == "make test":
		r.output("make -n test") // this is it
	case line == "make up", strings.HasPrefix(line, "make up "):
		r.stopAll()
		r.start(line)
		r.answers("http://127.0.0.1:4201/")
	case strings.HasPrefix(line, "bin/rewarm up"):
		r.stopAll()
		r.start(strings.Replace(line, "path/to/your/dist", "build/host", 1))
		r.answers("http://127.0.0.1:4201/")
	case strings.HasPrefix(line, "bin/rewarm prerender-manager"):
		r.stopAll()
		r.start(line)
		r.answers("http://127.0.0.1:4222/livez")
	case strings.HasPrefix(line, "bin/rewarm realm-server"):
		r.start(line)
		r.answers("http://127.0.0.1:4201/")
	case strings.HasPrefix(line, "bin/rewarm prerender-server"):
		r.start(line)
		r.output("bin/rewarm rollout status --wait --timeout 2m")
	case strings.HasPrefix(line, "curl "):
		r.until(line, "release v1")
	case strings.HasPrefix(line, "bin/rewarm render ") && strings.Contains(line, " -o "):
		r.output(line)
	case strings.HasPrefix(line, "bin/rewarm render "):
		r.until(line, "release v2")
	case strings.HasPrefix(line, "bin/rewarm rollout status"):
		r.until(line, "complete")
	case strings.HasPrefix(line, "bin/rewarm check "):
		r.output(line)
	case strings.HasPrefix(line, "bin/rewarm index "):
		r.until(line, " 0 given up, 0 pending")
	case strings.HasPrefix(line, "bin/rewarm worker "):
		r.start(line)
	case strings.HasPrefix(line, "bin/rewarm release list"):
		r.until(line, "SEQUENCE")
	case line == "bin/rewarm doctor":
		r.stopAll()
		r.output(line)
	case line == "make build", strings.HasPrefix(line, "make deploy "):
		r.output(line)
	default:
		t.Errorf("the README says %q, and no test runs it", line)
	}
}

func (r *reader) command(line string) *exec.Cmd {
	cmd := exec.Command("bash", "-c", "exec 2>&1; "+line)
	cmd.Dir = r.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// output runs a command that ends, and well.
func (r *reader) output(line string) string {
	r.t.Helper()
	out, err := r.command(line).Output()
	if err != nil {
		r.t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return string(out)
}

// until runs a command until it says what it should.
func (r *reader) until(line, says string) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), eventually)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		out, _ := r.command(line).Output()
		if strings.Contains(string(out), says) {
			return
		}
		select {
		case <-ctx.Done():
			r.t.Fatalf("%s never said %q, last %q", line, says, out)
		case <-tick.C:
		}
	}
}

// start runs a command until stopAll.
func (r *reader) start(line string) {
	r.t.Helper()
	cmd := r.command(line)
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.running = append(r.running, cmd)
	r.t.Cleanup(func() {
		if r.t.Failed() {
			r.t.Logf("%s said:\n%s", line, out.String())
		}
	})
}

// stopAll presses Ctrl-C in every terminal, and waits.
func (r *reader) stopAll() {
	for _, cmd := range slices.Backward(r.running) {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGINT)
		_ = cmd.Wait() // make reports that it was interrupted
	}
	r.running = nil
}

// answers waits until a URL answers 200.
func (r *reader) answers(url string) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), eventually)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if response, err := http.Get(url); err == nil {
			_, _ = io.Copy(io.Discard, response.Body)
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-ctx.Done():
			r.t.Fatalf("%s does not answer", url)
		case <-tick.C:
		}
	}
}

// copySources copies the repository without what is built.
func copySources(t *testing.T, to string) {
	t.Helper()
	skipped := []string{"../.git", "../bin", "../build", "../bench/.peers", "../examples/react/node_modules", "../examples/vue/node_modules"}
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		switch {
		case !slices.Contains(skipped, path):
		case entry.IsDir():
			return fs.SkipDir
		default:
			return nil // of a git worktree, .git is a file
		}
		target := filepath.Join(to, strings.TrimPrefix(path, ".."))
		if entry.IsDir() {
			return os.MkdirAll(target, 0o755)
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(target, content, info.Mode().Perm())
	})
	if err != nil {
		t.Fatal(err)
	}
}
