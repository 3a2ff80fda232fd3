package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rewarm/rewarm/internal/wire"
)

const pipelineScript = "../deploy/pipeline/pipeline.sh"

// platform is what restarts the roles of a fleet for a pipeline, as an
// orchestrator does: the pipeline's commands ask it over HTTP, and it answers
// when the role runs. The test's own goroutine does what is asked.
type platform struct {
	*processes
	prerenderAddr string
	worker        *process
	url           string
	asked         chan restart
}

type restart struct {
	role string
	done chan struct{}
}

func startPlatform(t *testing.T) *platform {
	t.Helper()
	p := &platform{processes: startProcesses(t, 1), prerenderAddr: freeAddr(t), asked: make(chan restart)}
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	p.url = server.URL
	p.startWorker()
	return p
}

func (p *platform) startWorker() {
	p.worker = start(p.t, quick, "worker", "--manager-url", p.up.ManagerURL(), "--nats", "nats://"+p.natsAddr, "--secret", secret)
}

// ServeHTTP has a role restarted; a pipeline that goes away waits no longer.
func (p *platform) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	asked := restart{strings.TrimPrefix(r.URL.Path, "/"), make(chan struct{})}
	select {
	case p.asked <- asked:
	case <-r.Context().Done():
		return
	}
	select {
	case <-asked.done:
	case <-r.Context().Done():
	}
}

// restart ends a role, and starts it anew.
func (p *platform) restart(role string) {
	p.t.Helper()
	end := func(old *process) {
		old.signal(syscall.SIGTERM)
		old.wait()
	}
	switch role {
	case "prerender":
		end(p.prerender[len(p.prerender)-1])
		p.prerender = append(p.prerender, start(p.t, quick, "prerender-server", "--addr", p.prerenderAddr, "--manager-url", p.up.ManagerURL(),
			"--realm-url", p.up.RealmURL(), "--pages", "2", "--data", p.prerenderData(0), "--secret", secret))
	case "manager":
		end(p.manager)
		p.startManager()
	case "worker":
		end(p.worker)
		p.startWorker()
	case "realm":
		end(p.realm)
		p.startRealm()
	default:
		p.t.Errorf("the pipeline restarts %q", role)
	}
}

// pipelined is how a pipeline went.
type pipelined struct {
	code      int // exit code
	said      string
	restarted []string
}

// pipeline runs the script on the fleet. More environment overrides the usual.
func (p *platform) pipeline(steps string, env ...string) pipelined {
	p.t.Helper()
	path, err := binary()
	if err != nil {
		p.t.Fatal(err)
	}
	usual := []string{"REALM_URLS=" + p.up.RealmURL(), "REWARM_MANAGER_URL=" + p.up.ManagerURL(), "REWARM_SECRET=" + secret, "REWARM=" + path,
		"PRERENDER_URLS=http://" + p.prerenderAddr, "CHECK_URLS=" + p.up.RealmURL() + "/ " + p.up.RealmURL() + "/products",
		"REWARM_VIA=" + p.up.ManagerURL(), "STABLE_FOR=1"}
	for _, role := range []string{"prerender", "manager", "worker", "realm"} {
		usual = append(usual, fmt.Sprintf("DEPLOY_%s=curl -sS -X POST %s/%s", strings.ToUpper(role), p.url, role))
	}
	var out pipelined
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		out.code, out.said = runPipeline(p.t.Context(), steps, append(usual, env...))
	}()
	bound := time.NewTimer(3 * eventually)
	defer bound.Stop()
	for {
		select {
		case asked := <-p.asked:
			p.restart(asked.role)
			out.restarted = append(out.restarted, asked.role)
			close(asked.done)
		case <-ended:
			p.t.Logf("pipeline %s ended with %d:\n%s", steps, out.code, out.said)
			return out
		case <-bound.C:
			p.t.Fatalf("pipeline %s has not ended", steps)
		}
	}
}

func runPipeline(ctx context.Context, steps string, env []string) (code int, said string) {
	cmd := exec.CommandContext(ctx, pipelineScript, strings.Fields(steps)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.Env, cmd.WaitDelay = &out, &out, append(os.Environ(), env...), time.Second
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(&out, err)
	}
	return cmd.ProcessState.ExitCode(), out.String()
}

// judge says what must have come of a run.
func (p *platform) judge(run pipelined, code int, says ...string) {
	p.t.Helper()
	if run.code != code {
		p.t.Errorf("exit code %d, want %d", run.code, code)
	}
	for _, text := range says {
		if !strings.Contains(run.said, text) {
			p.t.Errorf("the pipeline does not say %q", text)
		}
	}
	if p.t.Failed() {
		p.t.FailNow()
	}
}

// isOn checks that every page of the fleet is of what the realm serves.
func (p *platform) isOn(release string) {
	p.t.Helper()
	rollout, ok := p.progress()
	if !ok || rollout.Phase != wire.RolloutComplete || rollout.Release.Token != p.token() {
		p.t.Fatalf("the fleet is not on %s, which is %s: %+v", release, p.token(), rollout)
	}
	p.note(release, rollout.Release.Token)
	p.untilHit("/about", release)
}

// TestPipeline deploys a fleet of processes as a user's pipeline does: a good
// release; one whose hook fails; one that breaks at takeover, and back; one that
// is torn.
func TestPipeline(t *testing.T) {
	p := startPlatform(t)
	all := []string{"prerender", "manager", "worker", "realm"}

	p.write("r1")
	run := p.pipeline("deploy")
	p.judge(run, 0, `"accepted":true`, "== done")
	if !slices.Equal(run.restarted, all) {
		t.Errorf("restarted in the order %q, want %q", run.restarted, all)
	}
	p.isOn("r1")

	// The hook fails, as a command and as itself: the fleet arrives all the same.
	p.write("r2")
	run = p.pipeline("realm hook recycle check", "POST_DEPLOYMENT=exit 7")
	p.judge(run, 0, "WARNING: the hook failed", "== done")
	p.isOn("r2")
	p.judge(p.pipeline("hook", "REWARM_SECRET=wrong"), 0, "401", "WARNING: the hook failed")

	// The fleet stays off what breaks in visitors' browsers, and the pipeline ends there.
	p.write("r3")
	p.breakTakeover()
	run = p.pipeline("realm hook recycle check")
	p.judge(run, 1, "taken over badly", "What to do: ", "pipeline.sh rollback")
	if strings.Contains(run.said, "== done") || strings.Contains(run.said, "check: ") {
		t.Error("it went on after the recycle had failed")
	}

	// Whoever thinks that the canary was wrong, for the realm servers were
	// restarting, has it look again.
	p.judge(p.pipeline("recycle"), 1, "restart: from the canary", "taken over badly")
	p.write("r2")
	p.judge(p.pipeline("rollback"), 0, "== done")
	p.isOn("r2")

	// Files that are not all there are not served, and nothing moves.
	p.write("r4")
	index := filepath.Join(p.host, "index.html")
	p.edit(index, "</body>", `<script src="/missing.js"></script></body>`)
	run = p.pipeline("realm hook recycle check", "READY_TIMEOUT=3")
	p.judge(run, 1, "missing.js, which is not there", "What to do: ")
	p.isOn("r2")
}

// breakTakeover makes the release in the host directory one that breaks in
// visitors' browsers.
func (f *fleet) breakTakeover() {
	f.t.Helper()
	f.edit(filepath.Join(f.host, "index.html"), "</body>", breakTakeover+"</body>")
}

// edit replaces the first old in a file by text.
func (f *fleet) edit(name, old, text string) {
	f.t.Helper()
	raw, err := os.ReadFile(name)
	if err != nil {
		f.t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(strings.Replace(string(raw), old, text, 1)), 0o600); err != nil {
		f.t.Fatal(err)
	}
}
