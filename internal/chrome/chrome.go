// Package chrome owns one browser process and its DevTools connection.
//
// A [Browser] is the process group, the profile directory, the two pipes and
// the goroutines that serve them; [Browser.Close] returns when all of them are
// gone. The connection runs over --remote-debugging-pipe: no port that others
// could reach, and it ends with the process. Commands and events are typed by
// cdproto; the connection is our own, because a reader that calls listeners
// under the lock that calls need is the deadlock other clients are known for.
package chrome

import (
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"path/filepath"
	"time"
)

// Options say how to start a browser.
type Options struct {
	// Path of the executable; empty looks for one as [Find] does.
	Path string
	// DataDir is the directory in which each start makes a profile directory
	// of its own; the profile is removed at the end.
	DataDir string
	Log     *slog.Logger // default: discarded
	// Proxy is the URL of the proxy that all traffic goes through, with no
	// exception and no other way when it is gone; empty: none.
	Proxy string
	// ExtraFlags are appended to the command line.
	ExtraFlags []string
	// Wrap, when set, stands between the connection and the pipes; fault
	// injection over the real browser is what it is for.
	Wrap func(Transport) Transport
}

// profilePrefix names profile directories, so that a later start knows what a
// killed one left.
const profilePrefix = "chrome-"

// startLimit bounds a start. A second is usual; ten times that is a machine in
// trouble, and longer would hide the reason from whoever waits for readiness.
const startLimit = 20 * time.Second

// ErrNotFound is wrapped by what [Find] returns when there is no browser.
var ErrNotFound = errors.New("no Chrome found")

// names are what a browser is called, the best first. A headless shell is the
// same engine without a browser's window around each page: a window has an
// address bar with renderers of its own, is laid out and painted though nobody
// sees it, and makes a transition cost three times the processor's time.
var names = [...]string{
	"chromium-headless-shell", "chrome-headless-shell",
	"chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome",
}

// Find returns the executable to run: path if it is given and there, else the
// first of the usual names on PATH.
func Find(path string) (string, error) {
	if path != "" {
		found, err := exec.LookPath(path)
		if err != nil {
			return "", fmt.Errorf("%w: --chrome %s: %w", ErrNotFound, path, err)
		}
		return found, nil
	}
	for _, name := range names {
		if found, err := exec.LookPath(name); err == nil {
			return unwrap(found), nil
		}
	}
	return "", fmt.Errorf("%w on PATH: install Debian's chromium-headless-shell or chromium package, or give --chrome", ErrNotFound)
}

// unwrap is the program behind a wrapper that is known to stay its parent:
// Debian's of the headless shell. What is sent to the wrapper's process (our
// death, a SIGSTOP) would reach a shell.
func unwrap(path string) string {
	const wrapper, program = "/usr/bin/chromium-headless-shell", "/usr/lib/chromium/chromium-headless-shell"
	if path == wrapper {
		if found, err := exec.LookPath(program); err == nil {
			return found
		}
	}
	return path
}

// RemoveLeftovers removes the profile directories that a run which was killed
// left in dataDir. The caller holds the data directory's lock: a profile in
// use looks just the same.
func RemoveLeftovers(dataDir string) error {
	dirs, err := filepath.Glob(filepath.Join(globQuote(dataDir), profilePrefix+"*"))
	if err != nil {
		return fmt.Errorf("looking for leftover profiles in %s: %w", dataDir, err)
	}
	var errs []error
	for _, dir := range dirs {
		errs = append(errs, removeTree(dir))
	}
	return errors.Join(errs...)
}

// globQuote makes the characters of a directory's name mean themselves.
func globQuote(dir string) string {
	out := make([]byte, 0, len(dir))
	for i := range len(dir) {
		switch dir[i] {
		case '*', '?', '[', '\\':
			out = append(out, '\\')
		}
		out = append(out, dir[i])
	}
	return string(out)
}

// flags are the command line. Each group says what breaks without it.
func flags(o Options, profile string, sandbox bool) []string {
	list := []string{
		"--headless",
		"--remote-debugging-pipe",
		"--user-data-dir=" + profile,
		// Quiet without a network, and nothing to ask a person about.
		"--no-first-run", "--no-default-browser-check", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--disable-quic", "--disable-extensions",
		"--disable-default-apps", "--disable-client-side-phishing-detection", "--disable-search-engine-choice-screen",
		"--password-store=basic", "--use-mock-keychain", "--mute-audio", "--hide-scrollbars",
		// Crash handlers report nothing; those that start anyway: see reapStrays.
		"--disable-breakpad", "--disable-crash-reporter",
		// A page that is not in front would render at a crawl.
		"--disable-background-timer-throttling", "--disable-backgrounding-occluded-windows",
		"--disable-renderer-backgrounding", "--disable-hang-monitor", "--disable-ipc-flooding-protection",
		// A page restored from the back/forward cache would be a document that
		// nobody loaded; pages prerendered or translated are not asked for; nor are
		// the renderers that a full browser keeps behind each window's address bar.
		"--disable-features=BackForwardCache,Translate,OptimizationHints,MediaRouter,AcceptCHFrame,Prerender2," +
			"WebUIOmniboxPopup,WebUIOmniboxAimPopup,WebUIOmniboxFullPopup,PreloadTopChromeWebUI," +
			// A document that is fulfilled comes from no address, so what it asks
			// of a private one would wait for a permission: which addresses may be
			// reached is the proxy's to say.
			"LocalNetworkAccessChecks," +
			// With it each document gets a frame, a widget and a compositor of its
			// own, though it comes from where the last one did: a quarter of what a
			// navigation takes.
			"RenderDocument," +
			// With it each request of a page takes a way over a thread more, there and
			// back: a fiftieth of a transition, and of a navigation.
			"BackgroundResourceFetch",
		// A container's /dev/shm of 64 MB makes renderers crash.
		"--disable-dev-shm-usage",
		// The first is Chrome's spelling, the second that of its headless shell;
		// each knows its own alone, and lets WebRTC past the proxy without it.
		"--webrtc-ip-handling-policy=disable_non_proxied_udp",
		"--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
	}
	if o.Proxy != "" {
		list = append(list, "--proxy-server="+o.Proxy,
			// Without it Chrome goes to loopback and link-local addresses by itself.
			"--proxy-bypass-list=<-loopback>",
			// Names are the proxy's to resolve: what would still dial by itself
			// finds none, and a page tells nobody anything by asking for one.
			"--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1")
	}
	if !sandbox {
		list = append(list, "--no-sandbox")
	}
	return append(append(list, o.ExtraFlags...), "about:blank")
}
