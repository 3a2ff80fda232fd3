package cli_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/rewarm/rewarm/examples"
	"github.com/rewarm/rewarm/internal/app"
	"github.com/rewarm/rewarm/internal/cli"
	"github.com/rewarm/rewarm/internal/worker"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"rewarm": func() {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		os.Exit(cli.Main(ctx, os.Args[1:], cli.Streams{Out: os.Stdout, Err: os.Stderr}))
	}})
}

// TestScripts runs the command line as its users do.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup:               setUp,
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
	})
}

// TestScriptsOfAFleet runs the commands that ask a fleet.
func TestScriptsOfAFleet(t *testing.T) {
	host := t.TempDir()
	if err := examples.WriteVanilla(host, "r0"); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	fleet, err := app.NewUp(ctx, app.Fleet{Replicas: 1, DataDir: t.TempDir(), Log: slog.New(slog.DiscardHandler)}, app.UpOptions{
		Host: host, RealmAddr: "127.0.0.1:0", ManagerAddr: "127.0.0.1:0", PrerenderAddr: "127.0.0.1:0", Pages: 2,
		Worker: &worker.Options{},
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- fleet.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/fleet",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("MANAGER", fleet.ManagerURL())
			e.Setenv("REALM", fleet.RealmURL())
			return setUp(e)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "setout": setOut},
	})
}

// setUp gives a script an address that is taken, one where nobody listens, and
// a data directory in use.
func setUp(e *testscript.Env) error {
	// Built with the race detector, each command would sleep a second when it ends,
	// for the races of what it left running.
	e.Setenv("GORACE", "atexit_sleep_ms=100")
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	e.Defer(func() { _ = busy.Close() })
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	dead := free.Addr().String()
	if err := free.Close(); err != nil {
		return err
	}
	dir := filepath.Join(e.WorkDir, "used", "nats")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	e.Defer(func() { _ = lock.Close() })
	e.Setenv("BUSY", busy.Addr().String())
	e.Setenv("DEAD", dead)
	e.Setenv("HOME", e.WorkDir)
	return syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}

// exits runs a command that must end with an exit code: exits 2 rewarm up --bogus.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	code := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		failed, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		code = failed.ExitCode()
	}
	if code != want {
		ts.Fatalf("exit code %d, want %d", code, want)
	}
}

// setOut keeps what the last command printed in a variable: setout TOKEN.
func setOut(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: setout NAME")
	}
	ts.Setenv(args[0], ts.ReadFile("stdout"))
}
