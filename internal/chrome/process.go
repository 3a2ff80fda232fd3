package chrome

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// reapLimit bounds the wait for the members of a group that was sent KILL.
// They are gone in tens of milliseconds; one in an uninterruptible system call
// is nothing that waiting could help.
const reapLimit = 3 * time.Second

// lastWords bounds the reading of stderr after the group has ended.
const lastWords = 200 * time.Millisecond

// process is the browser's process group and what belongs to it.
type process struct {
	pid     int
	profile string
	stderr  tail
	done    chan struct{} // reaped, group gone, profile removed
	toUs    *os.File      // our ends of the two pipes
	fromUs  *os.File
	errPipe *os.File
	state   string     // how it ended; valid after done
	killing sync.Mutex // no signal is sent to a pid that has been reaped
	reaped  bool
}

// launch starts the command in a group of its own. On an error nothing is
// left. It returns once the process runs; done tells its end.
func launch(path, profile, tmp string, args []string) (_ *process, err error) {
	p := &process{profile: profile, done: make(chan struct{})}
	var files []*os.File
	defer func() {
		if err != nil {
			closeAll(files)
		}
	}()
	open := func() (r, w *os.File) {
		if err != nil {
			return nil, nil
		}
		if r, w, err = os.Pipe(); err == nil {
			files = append(files, r, w)
		}
		return r, w
	}
	childIn, fromUs := open()
	toUs, childOut := open()
	errPipe, childErr := open()
	if err != nil {
		return nil, fmt.Errorf("opening pipes: %w", err)
	}
	p.fromUs, p.toUs, p.errPipe = fromUs, toUs, errPipe

	cmd := exec.Command(path, args...)
	cmd.ExtraFiles = []*os.File{childIn, childOut} // descriptors 3 and 4
	cmd.Stderr = childErr
	cmd.Env = environment(profile, tmp)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}

	started := make(chan error)
	go p.own(cmd, started)
	err = <-started
	if err != nil {
		<-p.done
		return nil, fmt.Errorf("starting %s: %w", path, err)
	}
	closeAll([]*os.File{childIn, childOut, childErr})
	return p, nil
}

// own starts the process, waits for its end and cleans up after it. The thread
// stays locked all that time: Pdeathsig fires when the thread that forked ends,
// not when the process does, and Go ends threads as it likes.
func (p *process) own(cmd *exec.Cmd, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(p.done)
	// Helpers whose parent died come to us instead of to a process 1 that may
	// not reap, so that a group that is gone leaves no zombies behind.
	_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	if err := cmd.Start(); err != nil {
		started <- err
		return
	}
	p.pid = cmd.Process.Pid
	silent := make(chan struct{})
	go func() {
		defer close(silent)
		p.stderr.drain(p.errPipe)
	}()
	started <- nil

	p.await()
	_ = cmd.Wait()
	p.state = cmd.ProcessState.String()
	p.reapGroup()
	reapStrays(p.profile, silent)
	// Whoever could still write is gone, so the last words are in the pipe; the
	// deadline is for a stranger who inherited its other end.
	_ = p.errPipe.SetReadDeadline(time.Now().Add(lastWords))
	<-silent
	closeAll([]*os.File{p.fromUs, p.toUs, p.errPipe})
	removeProfile(p.profile)
}

// await waits until the browser's own process has ended, without reaping it:
// until it is reaped its pid cannot be anybody else's, so the group can still
// be signalled safely.
func (p *process) await() {
	for {
		err := unix.Waitid(unix.P_PID, p.pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	p.killing.Lock()
	defer p.killing.Unlock()
	_ = syscall.Kill(-p.pid, syscall.SIGKILL) // the helpers
	p.reaped = true
}

// signal sends sig to the whole group unless it has ended.
func (p *process) signal(sig syscall.Signal) {
	p.killing.Lock()
	defer p.killing.Unlock()
	if !p.reaped {
		_ = syscall.Kill(-p.pid, sig)
	}
}

// ending says how the browser ended, for an error message.
func (p *process) ending() string {
	select {
	case <-p.done:
		return p.state
	default:
		return "no exit yet"
	}
}

// reapGroup waits until no process of the group is left, zombies included.
func (p *process) reapGroup() {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for limit := time.Now().Add(reapLimit); time.Now().Before(limit); <-tick.C {
		for {
			pid, err := syscall.Wait4(-p.pid, nil, syscall.WNOHANG, nil)
			if pid <= 0 && !errors.Is(err, syscall.EINTR) {
				break
			}
		}
		if errors.Is(syscall.Kill(-p.pid, 0), syscall.ESRCH) {
			return
		}
	}
}

// removeProfile tries more than once: a helper that was being killed may have
// created a file between the listing and the removal.
func removeProfile(dir string) {
	for range 3 {
		if removeTree(dir) == nil {
			return
		}
	}
}

func removeTree(dir string) error {
	tmp, err := os.Readlink(filepath.Join(dir, tmpLink))
	if err == nil && strings.HasPrefix(filepath.Base(tmp), profilePrefix) {
		if err := os.RemoveAll(tmp); err != nil {
			return err
		}
	}
	return os.RemoveAll(dir)
}

// environment keeps what Chrome writes inside the profile directory, where it
// is removed with it; a killed Chrome leaves its socket directory behind.
func environment(profile, tmp string) []string {
	env := os.Environ()
	kept := env[:0]
	for _, kv := range env {
		if name, _, _ := strings.Cut(kv, "="); name != "XDG_CONFIG_HOME" && name != "XDG_CACHE_HOME" && name != "TMPDIR" && name != "DBUS_SESSION_BUS_ADDRESS" {
			kept = append(kept, kv)
		}
	}
	kept = append(kept, "XDG_CONFIG_HOME="+profile, "XDG_CACHE_HOME="+profile, "DBUS_SESSION_BUS_ADDRESS=disabled:")
	return append(kept, "TMPDIR="+tmp)
}

// tmpLink is the name, in a profile, of the link to its temporary directory.
const tmpLink = "rewarm-tmp"

// socketRoom is what Chrome appends to TMPDIR for its socket, whose path may
// have no more than 107 bytes: /org.chromium.Chromium.XXXXXX/SingletonSocket.
const socketRoom = 48

// makeProfile makes a profile directory below dataDir, and the temporary
// directory that goes with it: inside where the path is short enough, else in
// the system's, linked from the profile so that [RemoveLeftovers] finds it.
func makeProfile(dataDir string) (profile, tmp string, err error) {
	if profile, err = os.MkdirTemp(dataDir, profilePrefix); err != nil {
		return "", "", fmt.Errorf("making a chrome profile: %w", err)
	}
	link := filepath.Join(profile, tmpLink)
	if len(link)+socketRoom <= 107 {
		tmp, err = link, os.Mkdir(link, 0o700)
	} else if tmp, err = os.MkdirTemp(shortTemp(), profilePrefix); err == nil {
		err = os.Symlink(tmp, link)
	}
	if err != nil {
		removeProfile(profile)
		return "", "", fmt.Errorf("making a temporary directory for chrome: %w", err)
	}
	return profile, tmp, nil
}

// shortTemp is the system's directory for temporary files, unless its own path
// leaves no room for Chrome's socket: Chrome aborts then.
func shortTemp() string {
	const name = len("/" + profilePrefix + "4294967295")
	if dir := os.TempDir(); len(dir)+name+socketRoom <= 107 {
		return dir
	}
	return "/tmp"
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}
