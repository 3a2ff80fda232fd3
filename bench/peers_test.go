package bench

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	cdpage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/cdproto/target"

	"github.com/rewarm/rewarm/examples"
	"github.com/rewarm/rewarm/internal/chrome"
)

// The versions of the peers from npm.
const (
	prerenderVersion = "5.21.6"
	puppeteerVersion = "24.43.1"
)

// installLimit bounds the installation of a peer.
const installLimit = 5 * time.Minute

// emptyPage is a page with nothing to do: what it takes is Chrome's own limit.
const emptyPage = "<!DOCTYPE html><html><head><title>empty</title></head><body></body></html>"

// startOrigin serves the same files that the fleet serves, as any static
// server does for a single-page application.
func startOrigin(tb testing.TB) (string, error) {
	host, err := examples.Vanilla("r0")
	if err != nil {
		return "", err
	}
	files := http.FileServerFS(host)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(path.Clean(r.URL.Path), "/")
		if name == "empty" {
			w.Header().Set("Content-Type", "text/html")
			_, _ = w.Write([]byte(emptyPage))
			return
		}
		if strings.HasPrefix(name, "assets/") {
			w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
		}
		if _, err := fs.Stat(host, name); err != nil {
			http.ServeFileFS(w, r, host, "/index.html")
			return
		}
		files.ServeHTTP(w, r)
	}))
	tb.Cleanup(server.Close)
	tb.Cleanup(server.CloseClientConnections)
	return server.URL, nil
}

// install runs an installer, whose output is the error.
func install(ctx context.Context, dir, name string, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, installLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PUPPETEER_SKIP_DOWNLOAD=1", "DEBIAN_FRONTEND=noninteractive")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %.300s", name, err, out)
	}
	return nil
}

// prerenderScript starts the peer as its own server.js does, with a port, the
// Chrome of the others and a profile of its own.
const prerenderScript = `
const prerender = require('prerender');
const env = process.env;
const server = prerender({
  port: +env.BENCH_PORT, host: '127.0.0.1', chromeLocation: env.BENCH_CHROME, browserDebuggingPort: +env.BENCH_DEBUG_PORT,
  extraChromeFlags: ['--no-first-run', '--disable-dev-shm-usage', '--disable-breakpad', '--disable-crash-reporter', '--user-data-dir=' + env.BENCH_PROFILE].concat(process.getuid() === 0 ? ['--no-sandbox'] : []),
});
server.use(prerender.sendPrerenderHeader());
server.use(prerender.removeScriptTags());
server.use(prerender.httpHeaders());
server.start();
`

// scriptScript is what one writes first with puppeteer: a tab for each render,
// and the network idle.
const scriptScript = `
const http = require('http');
const puppeteer = require('puppeteer-core');
const env = process.env;
(async () => {
  const browser = await puppeteer.launch({ executablePath: env.BENCH_CHROME, userDataDir: env.BENCH_PROFILE, headless: true, pipe: true,
    args: ['--no-first-run', '--disable-dev-shm-usage', '--disable-breakpad', '--disable-crash-reporter'].concat(process.getuid() === 0 ? ['--no-sandbox'] : []) });
  http.createServer(async (request, response) => {
    const page = await browser.newPage();
    try {
      await page.goto(new URL(request.url, 'http://x').searchParams.get('url'), { waitUntil: 'networkidle0' });
      response.end(await page.content());
    } catch (error) {
      response.writeHead(500).end(String(error));
    } finally {
      await page.close();
    }
  }).listen(+env.BENCH_PORT, '127.0.0.1', () => console.log('Started Chrome ' + browser.process().pid));
})();
`

// npmPeer is a package from npm and the script that starts it.
type npmPeer struct{ name, npm, version, script string }

var (
	prerenderPeer = npmPeer{"prerender " + prerenderVersion, "prerender", prerenderVersion, prerenderScript}
	scriptPeer    = npmPeer{"puppeteer-core " + puppeteerVersion + " script", "puppeteer-core", puppeteerVersion, scriptScript}
)

// install puts the peer from npm into a directory that stays.
func (p npmPeer) install(ctx context.Context) (dir string, err error) {
	if _, err := exec.LookPath("npm"); err != nil {
		return "", errors.New("npm is not installed")
	}
	if dir, err = filepath.Abs(".peers/" + p.npm); err != nil {
		return "", err
	}
	if err = os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	manifest := fmt.Sprintf(`{"private":true,"dependencies":{%q:%q}}`, p.npm, p.version)
	if err = os.WriteFile(filepath.Join(dir, "package.json"), []byte(manifest), 0o644); err != nil {
		return "", err
	}
	if err = os.WriteFile(filepath.Join(dir, "start.js"), []byte(p.script), 0o644); err != nil {
		return "", err
	}
	if _, err := os.Stat(filepath.Join(dir, "node_modules", p.npm, "package.json")); err == nil {
		return dir, nil
	}
	return dir, install(ctx, dir, "npm", "install", "--no-audit", "--no-fund", "--loglevel=error")
}

// start installs and starts the peer; it renders what base/render?url= names.
// groups are its process groups: a Chrome may have one of its own.
func (p npmPeer) start(tb testing.TB, browser string, env ...string) (base string, groups []int, err error) {
	dir, err := p.install(tb.Context())
	if err != nil {
		return "", nil, err
	}
	port := freePort(tb)
	env = append(env, "BENCH_PORT="+strconv.Itoa(port), "BENCH_DEBUG_PORT="+strconv.Itoa(freePort(tb)), "BENCH_CHROME="+browser, "BENCH_PROFILE="+tb.TempDir())
	started, err := start(tb, command{name: p.name, path: "node", args: []string{"start.js"}, dir: dir, env: env})
	if err != nil {
		return "", nil, err
	}
	groups = []int{started.group}
	err = until(tb.Context(), p.name+" starts", func() (bool, error) {
		_, rest, ok := strings.Cut(strings.Join(started.out.from(0), "\n"), "Started Chrome")
		var pid int
		if n, _ := fmt.Sscan(rest, &pid); n == 1 && pid > 0 {
			groups = append(groups, pid)
		}
		return ok, started.ended()
	})
	return fmt.Sprintf("http://127.0.0.1:%d", port), groups, err
}

// nginxConf is nginx with one server, which does what is given.
const nginxConf = `
daemon off; pid %[1]s/nginx.pid; error_log %[1]s/error.log; worker_processes auto; %[4]s
events { worker_connections 1024; }
http {
  access_log off; client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy;
  fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
  keepalive_requests 1000000000;
  server {
    listen 127.0.0.1:%[2]d;
    %[3]s
  }
}
`

// nginxProxy is a plain proxy with connections kept to the server behind it.
const nginxProxy = `
    location / { proxy_pass http://stub; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffers 8 32k; proxy_buffer_size 32k; }
  }
  upstream stub { server %s; keepalive 64; keepalive_requests 1000000000;`

// startNginx starts nginx with what its server does, installing it where it may.
func startNginx(tb testing.TB, does string) (base string, p *process, err error) {
	binary, err := exec.LookPath("nginx")
	if err != nil {
		if os.Geteuid() != 0 {
			return "", nil, errors.New("nginx is not installed, and only root can install it")
		}
		if err := install(tb.Context(), ".", "apt-get", "install", "-q", "-y", "--no-install-recommends", "nginx-light"); err != nil {
			return "", nil, err
		}
		if binary, err = exec.LookPath("nginx"); err != nil {
			return "", nil, err
		}
	}
	dir, port, user := tb.TempDir(), freePort(tb), ""
	if os.Geteuid() == 0 {
		user = "user root;"
	}
	conf := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, nginxConf, dir, port, does, user), 0o644); err != nil {
		return "", nil, err
	}
	if p, err = start(tb, command{name: "nginx", path: binary, args: []string{"-c", conf, "-e", filepath.Join(dir, "error.log")}}); err != nil {
		return "", nil, err
	}
	base = fmt.Sprintf("http://127.0.0.1:%d", port)
	return base, p, until(tb.Context(), "nginx answers", func() (bool, error) {
		_, err := fetch(tb.Context(), http.DefaultClient, base+"/alive")
		return err == nil, errors.Join(err, p.ended())
	})
}

// bareChrome is a Chrome with as many tabs as callers and nothing else: no
// interception, no instrumentation, no settling.
type bareChrome struct {
	*chrome.Browser
	tabs chan *chrome.Session
}

// asItComes takes back what Rewarm's own flags gain: of two lists of disabled
// features Chrome reads the last. These are what puppeteer disables.
const asItComes = "--disable-features=Translate,AcceptCHFrame,MediaRouter,OptimizationHints"

func startBareChrome(tb testing.TB, tabs int, flags ...string) (*bareChrome, error) {
	browser, err := chrome.Start(tb.Context(), chrome.Options{DataDir: tb.TempDir(), Log: slog.New(slog.DiscardHandler), ExtraFlags: flags})
	if err != nil {
		return nil, err
	}
	var draining sync.WaitGroup
	draining.Go(func() {
		for err := error(nil); err == nil; { // until the browser is gone
			_, err = browser.Root().Next(context.Background())
		}
	})
	tb.Cleanup(func() {
		if err := browser.Close(); err != nil {
			tb.Error(err)
		}
		draining.Wait()
	})
	b := &bareChrome{Browser: browser, tabs: make(chan *chrome.Session, tabs)}
	for range tabs {
		made, err := chrome.Call(tb.Context(), browser.Root(), target.CreateBrowserContext, target.CreateBrowserContextParams{})
		if err != nil {
			return nil, err
		}
		tab, err := chrome.Call(tb.Context(), browser.Root(), target.CreateTarget,
			target.CreateTargetParams{URL: "about:blank", BrowserContextID: made.BrowserContextID})
		if err != nil {
			return nil, err
		}
		session, err := browser.Attach(tb.Context(), tab.TargetID, cdpage.LoadEventFired.Method)
		if err != nil {
			return nil, err
		}
		if err := session.CallAll(tb.Context(), chrome.Command{Method: cdpage.CommandEnable, Params: cdp.Empty{}}); err != nil {
			return nil, err
		}
		b.tabs <- session
	}
	return b, nil
}

// serialise gives the document at once; serialiseReady once the example says
// that it is ready, without asking again and again.
const (
	serialise      = "document.documentElement.outerHTML"
	serialiseReady = `new Promise(done => {
  const look = () => { if (document.querySelector('[data-prerender-status="ready"]')) { seen.disconnect(); done(document.documentElement.outerHTML) } };
  const seen = new MutationObserver(look);
  seen.observe(document, { subtree: true, childList: true, attributes: true });
  look();
})`
)

// render loads a document and serialises it.
func (b *bareChrome) render(ctx context.Context, url, how string) (html string, err error) {
	tab := <-b.tabs
	defer func() { b.tabs <- tab }()
	if _, err := chrome.Call(ctx, tab, cdpage.Navigate, cdpage.NavigateParams{URL: url}); err != nil {
		return "", err
	}
	if _, err := tab.Next(ctx); err != nil {
		return "", err
	}
	var answer struct {
		Result struct {
			Value string `json:"value"`
		} `json:"result"`
	}
	yes := true
	err = tab.Call(ctx, runtime.CommandEvaluate, runtime.EvaluateParams{Expression: how, AwaitPromise: &yes}, &answer)
	return answer.Result.Value, err
}
