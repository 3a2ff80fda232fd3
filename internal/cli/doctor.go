package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rewarm/rewarm/internal/chrome"
	"github.com/rewarm/rewarm/internal/fault"
)

type doctorCommand struct {
	dataFlags
	Host   string `help:"Directory of the built application to check." placeholder:"DIR"`
	Chrome string `help:"Chrome's executable; default: the first found on PATH." placeholder:"PATH"`
}

// check is one line of the doctor's: what is fine, or why not and what to do.
type check struct {
	name string
	run  func(ctx context.Context) (fine string, err error)
}

func (c *doctorCommand) Run(r *run) error {
	checks := []check{
		{"data directory", c.checkData},
		{"chrome", c.checkChrome},
		{"ports", checkPorts},
		{"clock", checkClock},
	}
	if c.Host != "" {
		checks = append(checks, check{"host", c.checkHost})
	}
	if r.config.path != "" {
		checks = append(append(checks, checkConfig(r.config)), checkRealms(r.ctx, r.config)...)
	}
	failed := 0
	for _, check := range checks {
		fine, err := check.run(r.ctx)
		if err != nil {
			failed++
			fmt.Fprintf(r.streams.Out, "✗ %-15s %s\n", check.name, err)
			continue
		}
		fmt.Fprintf(r.streams.Out, "✓ %-15s %s\n", check.name, fine)
	}
	if failed > 0 {
		return fault.New(fault.Internal, "%d of %d checks failed", failed, len(checks))
	}
	return nil
}

func (c *doctorCommand) checkData(context.Context) (string, error) {
	dir := c.dir()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("cannot be made; choose another with --data: %w", err)
	}
	probe, err := os.CreateTemp(dir, "doctor-")
	if err != nil {
		return "", fmt.Errorf("not writable; choose another with --data: %w", err)
	}
	return dir, errors.Join(probe.Close(), os.Remove(probe.Name()))
}

func (c *doctorCommand) checkChrome(ctx context.Context) (fine string, err error) {
	path, err := chrome.Find(c.Chrome)
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "rewarm-doctor-")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	began := time.Now()
	browser, err := chrome.Start(ctx, chrome.Options{Path: path, DataDir: dir})
	if err != nil {
		return "", err
	}
	fine = fmt.Sprintf("%s (%s), started in %d ms", browser.Version(), path, time.Since(began).Milliseconds())
	if !strings.HasPrefix(browser.Version(), "HeadlessChrome") {
		fine += "; a headless shell (Debian's chromium-headless-shell) renders with a third of the processor's time"
	}
	if os.Geteuid() == 0 {
		fine += "; without its sandbox, for it runs as root: run rewarm as another user"
	}
	return fine, browser.Close()
}

func checkPorts(context.Context) (string, error) {
	for _, p := range []struct{ addr, flag string }{
		{"127.0.0.1:4201", "--realm-addr"}, {"127.0.0.1:4222", "--manager-addr"}, {"127.0.0.1:4221", "--prerender-addr"},
	} {
		ln, err := net.Listen("tcp", p.addr)
		if err != nil {
			return "", fmt.Errorf("%s is in use; stop what listens there, or choose another with %s", p.addr, p.flag)
		}
		if err := ln.Close(); err != nil {
			return "", err
		}
	}
	return "4201, 4221 and 4222 are free", nil
}

// checkClock finds a clock that was never set: release times are compared.
func checkClock(context.Context) (string, error) {
	now := time.Now()
	if now.Year() < 2025 {
		return "", fmt.Errorf("says %s; set it, releases are ordered by it", now.Format(time.RFC3339))
	}
	return now.UTC().Format(time.RFC3339), nil
}

func (c *doctorCommand) checkHost(context.Context) (string, error) {
	info, err := os.Stat(filepath.Join(c.Host, "index.html"))
	if err != nil {
		return "", fmt.Errorf("%s has no index.html; give the directory that the build writes", c.Host)
	}
	return fmt.Sprintf("index.html, %d bytes", info.Size()), nil
}
