package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"unicode"
)

const (
	tokenA = "0123456789abcdef0123456789abcdef"
	tokenB = "fedcba9876543210fedcba9876543210"
)

// TestPipelineStopsAndSaysWhatToDo: whatever goes wrong in a step, the steps
// after it do not run, the exit code says so, and a person knows what to do.
func TestPipelineStopsAndSaysWhatToDo(t *testing.T) {
	dead := "http://" + freeAddr(t)
	good := realmThatSays(t, func(int64) string { return tokenA })
	for name, c := range map[string]struct {
		steps string
		env   []string
		code  int
		says  string
	}{
		"nothing is set":             {"worker realm", []string{"REALM_URLS="}, 2, "REALM_URLS is not set"},
		"an unknown step":            {"worker recylce", nil, 2, `"recylce" is no step`},
		"a time that is none":        {"worker", []string{"STABLE_FOR=$(false)"}, 2, "STABLE_FOR"},
		"a token that is none":       {"worker", []string{"RELEASE=latest"}, 2, "not a token"},
		"a command fails":            {"worker realm", []string{"DEPLOY_WORKER=exit 3"}, 1, "its command ended with 3"},
		"a command fails in its mid": {"worker realm", []string{"DEPLOY_WORKER=false | cat; true"}, 1, "its command ended with 1"},
		"a command hangs":            {"worker realm", []string{"DEPLOY_WORKER=tail -f /dev/null", "DEPLOY_TIMEOUT=1"}, 1, "its command ended with 124"},
		"a manager is down":          {"manager worker", []string{"REWARM_MANAGER_URL=" + dead}, 1, dead + " is not ready after 1s"},
		"a prerender server is down": {"prerender manager", []string{"PRERENDER_URLS=" + good + " " + dead}, 1, dead + " is not ready after 1s"},
		"a realm server is down":     {"realm hook", []string{"REALM_URLS=" + good + " " + dead}, 1, dead + " is not ready after 1s"},
		"another release is served":  {"realm hook", []string{"RELEASE=" + tokenB}, 1, "do not agree on " + tokenB + "; last seen: " + tokenA},
		"no rewarm":                  {"realm recycle", []string{"REWARM=/nowhere/rewarm"}, 2, "there is no /nowhere/rewarm"},
		"two realm servers differ": {"realm hook",
			[]string{"REALM_URLS=" + good + " " + realmThatSays(t, func(int64) string { return tokenB })}, 1, "do not agree"},
		"replicas behind one address differ": {"realm hook",
			[]string{"REALM_URLS=" + realmThatSays(t, func(n int64) string { return []string{tokenA, tokenB}[n%2] })}, 1, "do not agree"},
		"garbage is served": {"realm hook",
			[]string{"REALM_URLS=" + realmThatSays(t, func(int64) string { return "\n::error::owned\n\x1b[2J\x00\xff" })}, 1, "do not agree"},
		"too much is served": {"realm hook",
			[]string{"REALM_URLS=" + realmThatSays(t, func(int64) string { return strings.Repeat(tokenA, 1<<16) })}, 1, "do not agree"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			output := t.TempDir() + "/output"
			code, said := runPipeline(t.Context(), c.steps, append([]string{"REALM_URLS=" + good, "REWARM_MANAGER_URL=" + good,
				"READY_TIMEOUT=1", "STABLE_FOR=1", "GITHUB_OUTPUT=" + output}, c.env...))
			if code != c.code || !strings.Contains(said, c.says) || strings.Contains(said, "== done") {
				t.Errorf("exit code %d, want %d and %q:\n%s", code, c.code, c.says, said)
			}
			if code == 1 && !strings.Contains(said, "!! What to do: ") {
				t.Errorf("it does not say what to do:\n%s", said)
			}
			for _, step := range strings.Fields(c.steps)[1:] {
				if strings.Contains(said, "== "+step) {
					t.Errorf("%s ran after a step that had failed:\n%s", step, said)
				}
			}
			if strings.Contains(said, "\n::") || strings.ContainsFunc(said, func(r rune) bool { return r != '\n' && unicode.IsControl(r) }) {
				t.Errorf("it repeats what a terminal or a pipeline may obey: %q", said)
			}
			if raw, err := os.ReadFile(output); err == nil {
				t.Errorf("the next job is told %q", raw)
			}
		})
	}
}

// TestPipelineTellsTheNextJob: each step may be a job of its own, on another
// machine; the release goes from the realm step to the recycle.
func TestPipelineTellsTheNextJob(t *testing.T) {
	output := t.TempDir() + "/output"
	url := realmThatSays(t, func(int64) string { return tokenA })
	code, said := runPipeline(t.Context(), "realm hook", []string{"REALM_URLS= " + url + "/  " + url + " ", "REWARM_MANAGER_URL=" + url,
		"STABLE_FOR=1", "GITHUB_OUTPUT=" + output, "RELEASE=" + tokenA, "REWARM_SECRET=" + secret})
	raw, err := os.ReadFile(output)
	if code != 0 || err != nil || string(raw) != "release="+tokenA+"\n" {
		t.Errorf("exit code %d, the next job is told %q, %v:\n%s", code, raw, err, said)
	}
	if strings.Count(said, "answers Bearer "+secret+` "accepted":true`) != 2 {
		t.Errorf("the hook of each was not called with the secret:\n%s", said)
	}
}

// TestPipelineGoesOnWithTheCandidate: under gated promotion what was deployed is
// not served yet, and it is what the fleet has to arrive at.
func TestPipelineGoesOnWithTheCandidate(t *testing.T) {
	gated := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/readyz":
			fmt.Fprint(w, `{"ready":true,"token":"`+tokenA+`","host":"served","candidate":"`+tokenB+`"}`)
		case "/_host-shell-hash":
			fmt.Fprint(w, tokenA)
		}
	}))
	t.Cleanup(gated.Close)
	output := t.TempDir() + "/output"
	env := []string{"REALM_URLS=" + gated.URL, "REWARM_MANAGER_URL=" + gated.URL, "STABLE_FOR=1", "READY_TIMEOUT=1", "GITHUB_OUTPUT=" + output}
	code, said := runPipeline(t.Context(), "realm", env)
	if raw, err := os.ReadFile(output); code != 0 || err != nil || string(raw) != "release="+tokenB+"\n" {
		t.Errorf("exit code %d, the next job is told %q, %v:\n%s", code, raw, err, said)
	}
	env[0] += " " + realmThatSays(t, func(int64) string { return tokenA })
	if code, said := runPipeline(t.Context(), "realm", env); code != 1 || !strings.Contains(said, "do not agree") {
		t.Errorf("one has it and one does not: exit code %d:\n%s", code, said)
	}
}

// TestPipelineRestartsNothingThatWasDropped: a restart would end an operator's
// pause and check nothing.
func TestPipelineRestartsNothingThatWasDropped(t *testing.T) {
	for why, restarts := range map[string]bool{
		"undone by an operator; release 3 goes on being served (it was dropped; only a newer one is promoted)": false,
		"a page breaks; release 3 goes on being served (undo drops it, restart has it checked again)":          true,
	} {
		said := t.TempDir() + "/said"
		rewarm := t.TempDir() + "/rewarm"
		script := "#!/bin/sh\necho \"$*\" >>" + said + "\necho 'Next     refused release " + tokenB + " was refused: " + why + "'\n"
		if err := os.WriteFile(rewarm, []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		code, out := runPipeline(t.Context(), "recycle", []string{"REALM_URLS=http://127.0.0.1:1", "REWARM_MANAGER_URL=http://127.0.0.1:1", "RELEASE=" + tokenB, "REWARM=" + rewarm})
		raw, err := os.ReadFile(said)
		if code != 0 || err != nil || strings.Contains(string(raw), "rollout restart") != restarts {
			t.Errorf("%s: exit code %d, %v, commands:\n%s\n%s", why, code, err, raw, out)
		}
	}
}

// realmThatSays is a server whose n-th answer about its release is a text.
func realmThatSays(t *testing.T, text func(n int64) string) string {
	t.Helper()
	var asked atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/readyz":
			fmt.Fprint(w, `{"ready":true,"host":"served"}`)
		case "/_host-shell-hash":
			fmt.Fprint(w, text(asked.Add(1)))
		case "/_post-deployment":
			fmt.Fprint(w, r.Header.Get("Authorization"), ` "accepted":true`)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(server.Close)
	return server.URL
}
