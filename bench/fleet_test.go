package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rewarm/rewarm/examples"
	"github.com/rewarm/rewarm/internal/client"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// example is a host to measure on: its first release, and pages of it with data
// and a chunk of their own each, with what their text must say.
type example struct {
	release func() (fs.FS, error)
	paths   []string
	says    map[string]string
}

func vanilla() example {
	return example{
		release: func() (fs.FS, error) { return examples.Vanilla("r0") },
		paths:   []string{"/products", "/products/kettle", "/", "/products/blanket"},
		says: map[string]string{
			"/products": "<h1>Products</h1>", "/products/kettle": "<h1>Gooseneck kettle</h1>",
			"/": "<h1>Things that keep warm</h1>", "/products/blanket": "<h1>Wool blanket</h1>",
		},
	}
}

func react() example {
	return example{
		release: func() (fs.FS, error) { return examples.React("v1", true) },
		paths:   []string{"/birds", "/birds/wren", "/", "/birds/swift"},
		says: map[string]string{
			"/birds": "<h1>All birds</h1>", "/birds/wren": "<h1>Wren</h1>",
			"/": "<h1>Birds to look out for</h1>", "/birds/swift": "<h1>Swift</h1>",
		},
	}
}

// check fails for anything but the whole page of one release.
func (e example) check(path, html string) error {
	if named := examples.ReleasesIn(html); len(named) != 1 || !strings.Contains(html, e.says[path]) || !strings.Contains(html, "This chunk:") {
		return fmt.Errorf("%s: not the page: it names %v; %.300s", path, named, html)
	}
	return nil
}

// fleet is `rewarm up` as a user runs it: the binary, in a process of its own.
type fleet struct {
	*process
	example
	host                      string // its directory
	realm, manager, prerender string // base URLs
	browser                   int    // Chrome's process group
	http                      *http.Client
	// asks is one client for the fleet's life: each has connections of its own.
	asks *client.Manager
}

// binary builds rewarm, without the race detector.
func binary(tb testing.TB) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "rewarm")
	build := exec.Command("go", "build", "-trimpath", "-o", path, "github.com/rewarm/rewarm/cmd/rewarm")
	if out, err := build.CombinedOutput(); err != nil {
		tb.Fatalf("building rewarm: %v: %s", err, out)
	}
	return path
}

// startFleet runs a fleet on the example and waits until its pages are warm.
func startFleet(tb testing.TB, rewarm string, of example, pages int, more ...string) *fleet {
	tb.Helper()
	f := &fleet{example: of, host: tb.TempDir(), http: newHTTPClient(tb)}
	host, err := of.release()
	if err == nil {
		err = examples.Deploy(f.host, host)
	}
	if err != nil {
		tb.Fatal(err)
	}
	any := "127.0.0.1:0"
	f.process, err = start(tb, command{name: "rewarm up", path: rewarm, args: append([]string{
		"up", "--log-format", "json", "--host", f.host, "--no-watch", "--data", tb.TempDir(), "--pages", strconv.Itoa(pages),
		"--realm-addr", any, "--manager-addr", any, "--prerender-addr", any,
	}, more...)})
	if err != nil {
		tb.Fatal(err)
	}
	err = until(tb.Context(), "the fleet says where it listens", func() (bool, error) { return f.findURLs(), f.ended() })
	f.asks = client.NewManager(f.manager, "")
	if err == nil {
		err = until(tb.Context(), "the fleet is complete", func() (bool, error) { return f.completeOn(tb.Context(), "") })
	}
	if err != nil {
		tb.Fatal(err)
	}
	if f.browser, err = f.browserPID(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	return f
}

func newHTTPClient(tb testing.TB) *http.Client {
	transport := &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}
	tb.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// logLine is what the bench reads of a line of the fleet's log.
type logLine struct {
	Time  time.Time   `json:"time"`
	Msg   string      `json:"msg"`
	URL   string      `json:"url"`
	Token words.Token `json:"token"`
	Ms    int64       `json:"ms"`
}

func (f *fleet) findURLs() bool {
	for _, line := range f.out.from(0) {
		if url, ok := strings.CutPrefix(line, "Pages "); ok {
			f.realm = strings.TrimRight(strings.TrimSpace(url), "/")
		}
		if url, ok := strings.CutPrefix(line, "Fleet "); ok {
			f.manager = strings.TrimRight(strings.TrimSpace(url), "/")
		}
		var said logLine
		if json.Unmarshal([]byte(line), &said) == nil && said.Msg == "prerender server listens" {
			f.prerender = said.URL
		}
	}
	return f.realm != "" && f.manager != "" && f.prerender != ""
}

// warmUps are the warm-ups that the fleet logged since line n, of a token.
func (f *fleet) warmUps(n int, token words.Token) (took []time.Duration) {
	for _, line := range f.out.from(n) {
		var said logLine
		if json.Unmarshal([]byte(line), &said) == nil && said.Msg == "page warm" && said.Token == token {
			took = append(took, time.Duration(said.Ms)*time.Millisecond)
		}
	}
	return took
}

// completeOn is whether all pages are of the token; "" for any.
func (f *fleet) completeOn(ctx context.Context, token words.Token) (bool, error) {
	rollout, err := f.asks.Rollout(ctx)
	if err != nil {
		return false, errors.Join(err, f.ended())
	}
	state, _ := json.Marshal(rollout)
	return rollout.Phase == wire.RolloutComplete && (token == "" || rollout.Release.Token == token), errors.New(string(state))
}

func (f *fleet) browserPID(ctx context.Context) (int, error) {
	body, err := fetch(ctx, f.http, f.prerender+"/metrics")
	if err != nil {
		return 0, err
	}
	found := regexp.MustCompile(`(?m)^rewarm_prerender_browser_pid (\S+)$`).FindStringSubmatch(body)
	if found == nil {
		return 0, errors.New("the metrics name no browser")
	}
	pid, err := strconv.ParseFloat(found[1], 64)
	return int(pid), err
}

func (f *fleet) usage() usage { return usageOf(f.group, f.browser) }

// own is the usage without the browser's.
func (f *fleet) own() usage { return usageOf(f.group) }

// deploy puts a release in place and calls the hook, as a pipeline does.
func (f *fleet) deploy(ctx context.Context, release string) (words.Token, error) {
	if err := examples.WriteVanilla(f.host, release); err != nil {
		return "", err
	}
	return f.accept(ctx)
}

// accept has what is in the host directory accepted.
func (f *fleet) accept(ctx context.Context) (words.Token, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, f.realm+"/_post-deployment", nil)
	if err != nil {
		return "", err
	}
	body, err := send(f.http, request, http.StatusOK)
	if err != nil {
		return "", err
	}
	var answer struct {
		CurrentChecksum words.Token `json:"currentChecksum"`
		Accepted        bool        `json:"accepted"`
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || !answer.Accepted {
		return "", fmt.Errorf("deploying: %s (%w)", body, err)
	}
	return answer.CurrentChecksum, nil
}

// visit renders a path of the example at a role (manager or prerender server)
// and checks that what came is the page.
func (f *fleet) visit(ctx context.Context, role, path string, mode words.Mode) error {
	ask := fmt.Sprintf(`{"data":{"attributes":{"url":%q,"affinityType":"realm","affinityValue":%q,"renderOptions":{"mode":%q}}}}`,
		f.realm+path, f.realm, mode)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, role+"/prerender-visit", bytes.NewReader([]byte(ask)))
	if err != nil {
		return err
	}
	body, err := send(f.http, request, http.StatusCreated)
	if err != nil {
		return err
	}
	var answer struct {
		Data struct {
			Attributes wire.VisitResult `json:"attributes"`
		} `json:"data"`
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		return err
	}
	if got := answer.Data.Attributes; got.Status != words.StatusReady {
		return fmt.Errorf("%s is %s: %+v", path, got.Status, got.Error)
	}
	if err := f.check(path, answer.Data.Attributes.HTML); err != nil {
		return fmt.Errorf("settled by %s, %+v: %w", answer.Data.Attributes.SettledBy, answer.Data.Attributes.Meta.Diagnostics, err)
	}
	return nil
}

func fetch(ctx context.Context, c *http.Client, url string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	return send(c, request, http.StatusOK)
}

func send(c *http.Client, request *http.Request, want int) (string, error) {
	response, err := c.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return "", err
	}
	if response.StatusCode != want {
		return "", fmt.Errorf("%s %s: %d %.300s", request.Method, request.URL, response.StatusCode, body)
	}
	return string(body), nil
}
