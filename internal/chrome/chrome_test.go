package chrome

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/cdproto/target"
)

func quietLog() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func startBrowser(t *testing.T, change func(*Options)) (*Browser, string) {
	t.Helper()
	dir := t.TempDir()
	o := Options{DataDir: dir, Log: quietLog()}
	if change != nil {
		change(&o)
	}
	b, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b, dir
}

func openTab(t *testing.T, b *Browser, events ...string) *Session {
	t.Helper()
	tab, err := Call(t.Context(), b.Root(), target.CreateTarget, target.CreateTargetParams{URL: "about:blank"})
	if err != nil {
		t.Fatal(err)
	}
	s, err := b.Attach(t.Context(), tab.TargetID, events...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// wantNothingLeft fails if a process of the group or a file of the profile is.
func wantNothingLeft(t *testing.T, pid int, dir string) {
	t.Helper()
	if err := syscall.Kill(-pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("processes of group %d are left: %v", pid, err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) > 0 {
		t.Errorf("left in the data directory: %v", left)
	}
	wantNoChildren(t)
}

func within(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(20 * time.Second):
		t.Fatalf("%s did not happen", what)
	}
}

func TestStartAnswersAndCloseLeavesNothing(t *testing.T) {
	b, dir := startBrowser(t, nil)
	if !strings.Contains(b.Version(), "Chrome") {
		t.Errorf("version %q", b.Version())
	}
	s := openTab(t, b)
	r, err := Call(t.Context(), s, runtime.Evaluate, runtime.EvaluateParams{Expression: "6*7"})
	if err != nil || string(r.Result.Value) != "42" {
		t.Fatalf("got %+v, %v", r.Result, err)
	}
	for range 2 {
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
	within(t, "Done", b.Done())
	wantNothingLeft(t, b.PID(), dir)
	if err := s.Call(t.Context(), "Runtime.evaluate", nil, nil); !errors.Is(err, ErrGone) {
		t.Errorf("call on a closed browser: %v", err)
	}
}

func TestF10_KilledBrowserIsReapedAndCallsFailAtOnce(t *testing.T) {
	b, dir := startBrowser(t, nil)
	s := openTab(t, b)
	forever := make(chan error, 1)
	go func() {
		_, err := Call(t.Context(), s, runtime.Evaluate, runtime.EvaluateParams{Expression: "for(;;);"})
		forever <- err
	}()
	if err := syscall.Kill(b.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	within(t, "Done", b.Done())
	within(t, "the session's end", s.Gone())
	if err := <-forever; !errors.Is(err, ErrGone) {
		t.Errorf("pending call: %v", err)
	}
	if _, err := s.Next(t.Context()); !errors.Is(err, ErrGone) {
		t.Errorf("next event: %v", err)
	}
	wantNothingLeft(t, b.PID(), dir)
}

func TestF10_FrozenBrowserIsClosedWithinItsBound(t *testing.T) {
	b, dir := startBrowser(t, nil)
	s := openTab(t, b)
	if err := syscall.Kill(-b.PID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	// More than a pipe holds: the writer is stuck, the caller is not.
	err := s.Call(ctx, "Runtime.evaluate", runtime.EvaluateParams{Expression: strings.Repeat(" ", 1<<20)}, nil)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("call to a frozen browser: %v", err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	wantNothingLeft(t, b.PID(), dir)
}

func TestW15_FailedStartLeavesNothing(t *testing.T) {
	for name, script := range map[string]string{
		"exits":  "#!/bin/sh\necho cannot open display >&2\nexit 3\n",
		"silent": "#!/bin/sh\nsleep 1000 &\nexec sleep 1000\n",
		"closes": "#!/bin/sh\necho closes >&2\nexec 3<&- 4>&-\nexec sleep 1000\n",
	} {
		t.Run(name, func(t *testing.T) {
			dir, bin := t.TempDir(), filepath.Join(t.TempDir(), "chrome")
			// Written in one go and closed before it is run.
			if err := os.WriteFile(bin, []byte(script), 0o755); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			_, err := Start(ctx, Options{Path: bin, DataDir: dir, Log: quietLog()})
			if err == nil {
				t.Fatal("a start without a browser succeeded")
			}
			if name == "exits" && !strings.Contains(err.Error(), "cannot open display") {
				t.Errorf("the error does not say why: %v", err)
			}
			if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
			wantNoChildren(t)
		})
	}
}

func TestW15_CancelledStartIsReaped(t *testing.T) {
	for n := range 4 {
		ctx, cancel := context.WithCancel(t.Context())
		dir := t.TempDir()
		// Cancelled at the n-th message instead of after a time.
		var pass atomic.Int32
		o := Options{DataDir: dir, Log: quietLog(), Wrap: func(tr Transport) Transport {
			return &spoiled{Transport: tr, send: func() error {
				if int(pass.Add(1)) > n/2 {
					cancel()
				}
				return nil
			}}
		}}
		b, err := Start(ctx, o)
		if err == nil {
			_ = b.Close()
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
		cancel()
	}
	wantNoChildren(t)
}

// wantNoChildren relies on no test of this package running in parallel.
func wantNoChildren(t *testing.T) {
	t.Helper()
	for _, pid := range children() {
		stat, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		line, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
		t.Errorf("a child is left: %s %q", stat, line)
	}
	if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); !errors.Is(err, syscall.ECHILD) {
		t.Errorf("a child is left: pid %d, %v", pid, err)
	}
}

// spoiled wraps the real transport; its hooks may fail a message.
type spoiled struct {
	Transport
	send, receive func() error
}

func (s *spoiled) Send(msg []byte) error {
	if s.send != nil {
		if err := s.send(); err != nil {
			return err
		}
	}
	return s.Transport.Send(msg)
}

func (s *spoiled) Receive() ([]byte, error) {
	if s.receive != nil {
		if err := s.receive(); err != nil {
			return nil, err
		}
	}
	return s.Transport.Receive()
}

func TestConnectionThatFailsAtAnyMessageFailsEveryCall(t *testing.T) {
	for n := range 6 {
		var left atomic.Int32
		left.Store(int32(n) + 2) // the start itself takes two
		failing := errors.New("pipe broke")
		dir := t.TempDir()
		b, err := Start(t.Context(), Options{DataDir: dir, Log: quietLog(), Wrap: func(tr Transport) Transport {
			return &spoiled{Transport: tr, send: func() error {
				if left.Add(-1) < 0 {
					return failing
				}
				return nil
			}}
		}})
		if err != nil {
			t.Fatal(err)
		}
		var calls sync.WaitGroup
		for range 8 {
			calls.Go(func() {
				if _, err := Call(t.Context(), b.Root(), browser.GetVersion, cdp.Empty{}); err != nil && !errors.Is(err, ErrGone) {
					t.Errorf("call: %v", err)
				}
			})
		}
		calls.Wait()
		within(t, "the session's end", b.Root().Gone())
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		wantNothingLeft(t, b.PID(), dir)
	}
}

func TestEventsArriveInOrderAndBeforeAnOrderedAnswer(t *testing.T) {
	b, _ := startBrowser(t, nil)
	s := openTab(t, b, runtime.BindingCalled.Method)
	if err := s.CallAll(t.Context(), Command{Method: runtime.CommandEnable}, Command{Method: runtime.CommandAddBinding, Params: runtime.AddBindingParams{Name: "say"}}); err != nil {
		t.Fatal(err)
	}
	var seen []string
	var mu sync.Mutex
	var reader sync.WaitGroup
	reader.Go(func() {
		for {
			ev, err := s.Next(t.Context())
			if err != nil {
				return
			}
			var e runtime.EventBindingCalled
			if err := ev.Decode(&e); err != nil {
				t.Error(err)
			}
			// A handler may call: the reader of the connection is another goroutine.
			if _, err := Call(t.Context(), s, runtime.Evaluate, runtime.EvaluateParams{Expression: "1"}); err != nil {
				t.Errorf("call from a handler: %v", err)
			}
			mu.Lock()
			seen = append(seen, e.Payload)
			mu.Unlock()
		}
	})
	err := s.CallInOrder(t.Context(), "Runtime.evaluate", runtime.EvaluateParams{Expression: "for(let i=0;i<50;i++)say(String.fromCharCode(33+i))"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	got := strings.Join(seen, "")
	mu.Unlock()
	var want bytes.Buffer
	for i := range 50 {
		want.WriteByte(byte(33 + i))
	}
	if got != want.String() {
		t.Errorf("events before the ordered answer: %q, want %q", got, want.String())
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	reader.Wait()
}

func TestUnreadEventsEndTheirSessionOnly(t *testing.T) {
	b, _ := startBrowser(t, nil)
	s, other := openTab(t, b, runtime.BindingCalled.Method), openTab(t, b)
	if err := s.CallAll(t.Context(), Command{Method: runtime.CommandEnable}, Command{Method: runtime.CommandAddBinding, Params: runtime.AddBindingParams{Name: "say"}}); err != nil {
		t.Fatal(err)
	}
	_ = s.Post("Runtime.evaluate", runtime.EvaluateParams{Expression: "for(let i=0;i<30000;i++)say('x')"})
	within(t, "the overflow", s.Gone())
	if !errors.Is(s.Err(), ErrOverflow) || !errors.Is(s.Err(), ErrGone) {
		t.Errorf("session ended with %v", s.Err())
	}
	if _, err := Call(t.Context(), other, runtime.Evaluate, runtime.EvaluateParams{Expression: "1"}); err != nil {
		t.Errorf("the other page: %v", err)
	}
}

func TestClosedTargetEndsItsSession(t *testing.T) {
	b, _ := startBrowser(t, nil)
	s := openTab(t, b)
	pending := make(chan error, 1)
	go func() {
		pending <- s.Call(t.Context(), "Runtime.evaluate", runtime.EvaluateParams{Expression: "new Promise(()=>{})"}, nil)
	}()
	_ = s.Post("Page.close", nil)
	within(t, "the session's end", s.Gone())
	<-pending
	if err := s.Call(t.Context(), "Runtime.evaluate", nil, nil); !errors.Is(err, ErrGone) {
		t.Errorf("call: %v", err)
	}
}

// helperEnv makes this test binary the helper of the test below: a process that
// owns a browser and is killed.
const helperEnv = "REWARM_TEST_OWN_A_CHROME"

func TestMain(m *testing.M) {
	if dir := os.Getenv(helperEnv); dir != "" {
		b, err := Start(context.Background(), Options{DataDir: dir})
		if err != nil {
			panic(err)
		}
		_, _ = os.Stdout.WriteString(strconv.Itoa(b.PID()) + "\n")
		<-b.Done()
	}
	os.Exit(m.Run())
}

// processes are those whose command line names text: Chrome's name their
// profile, whatever group they are in.
func processes(t *testing.T, text string) (found []string) {
	t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range lines {
		if line, _ := os.ReadFile(name); bytes.Contains(line, []byte(text)) {
			found = append(found, name)
		}
	}
	return found
}

// groupSize is how many processes are in a group.
func groupSize(t *testing.T, group int) (n int) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range stats {
		stat, _ := os.ReadFile(name)
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:]) // state, parent, group
		if len(fields) > 2 && string(fields[2]) == strconv.Itoa(group) {
			n++
		}
	}
	return n
}

func TestSIGKILLOfTheOwnerLeavesNoProcess(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	helper := exec.Command(self)
	helper.Env = append(os.Environ(), helperEnv+"="+dir)
	out, err := helper.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := helper.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(line))
	if n := groupSize(t, pid); n < 3 || pid == 0 || len(processes(t, dir)) == 0 {
		_ = helper.Process.Kill()
		t.Fatalf("%d processes of browser %d: the test proves nothing", n, pid)
	}
	if err := helper.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = helper.Wait()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(20 * time.Second)
	for {
		// Orphans come to us if an earlier test made us the subreaper.
		for {
			if got, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); got <= 0 && !errors.Is(err, syscall.EINTR) {
				break
			}
		}
		left := processes(t, dir)
		if len(left) == 0 && errors.Is(syscall.Kill(-pid, 0), syscall.ESRCH) {
			break
		}
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("left: %v", left)
		}
	}
	if err := RemoveLeftovers(dir); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 0 {
		t.Errorf("left in the data directory: %v", left)
	}
}

func TestStartBelowALongTemporaryDirectory(t *testing.T) {
	long := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
	if err := os.Mkdir(long, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", long)
	b, _ := startBrowser(t, func(o *Options) { o.DataDir = long })
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	wantNothingLeft(t, b.PID(), long)
}

func TestFind(t *testing.T) {
	if _, err := Find(filepath.Join(t.TempDir(), "none")); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v", err)
	}
	t.Setenv("PATH", t.TempDir())
	_, err := Find("")
	if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "install Debian's chromium-headless-shell or chromium package, or give --chrome") {
		t.Errorf("got %v", err)
	}
}

func TestRemoveLeftovers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data [1]")
	old := filepath.Join(dir, profilePrefix+"123", "Default")
	keep := filepath.Join(dir, "releases")
	for _, d := range []string{old, keep} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := RemoveLeftovers(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Dir(old)); !os.IsNotExist(err) {
		t.Errorf("leftover is still there: %v", err)
	}
	if _, err := os.Stat(keep); err != nil {
		t.Error(err)
	}
}
