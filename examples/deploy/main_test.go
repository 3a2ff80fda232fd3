package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rewarm/rewarm/examples"
)

func TestDeployWritesTheReleaseBeforeItCallsTheHook(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("REWARM_SECRET", "hush")
	calls := 0
	realm := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls++
		if r.Method != http.MethodPost || r.URL.Path != "/_post-deployment" || r.Header.Get("Authorization") != "Bearer hush" {
			t.Errorf("got %s %s with Authorization %q", r.Method, r.URL.Path, r.Header.Get("Authorization"))
		}
		shell, err := os.ReadFile(filepath.Join(dir, "index.html"))
		if got := examples.ReleasesIn(string(shell)); err != nil || len(got) != 1 || got[0] != "v2" {
			t.Errorf("when the hook was called the host held %v, %v; want v2", got, err)
		}
	}))
	defer realm.Close()
	if err := run(options{example: "vanilla", release: "v2", dir: dir, to: realm.URL + "/"}); err != nil {
		t.Fatal(err)
	}
	if calls != 1 {
		t.Errorf("the hook was called %d times", calls)
	}
}

func TestDeploySaysWhatTheHookRefused(t *testing.T) {
	realm := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "no secret", http.StatusUnauthorized)
	}))
	err := run(options{example: "vanilla", release: "v1", dir: t.TempDir(), to: realm.URL})
	if err == nil || !strings.Contains(err.Error(), "401") || !strings.Contains(err.Error(), "no secret") {
		t.Errorf("a refused hook gave %v", err)
	}
	realm.Close()
	if err := run(options{example: "vanilla", release: "v1", dir: t.TempDir(), to: realm.URL}); err == nil || !strings.Contains(err.Error(), "is rewarm running?") {
		t.Errorf("no realm server gave %v", err)
	}
}

func TestDeployKnowsEveryExample(t *testing.T) {
	dir := t.TempDir()
	for _, example := range []string{"vanilla", "react", "react-transition", "vue"} {
		if err := run(options{example: example, release: "v1", dir: dir}); err != nil {
			t.Errorf("%s: %v", example, err)
		}
	}
	if err := run(options{example: "angular", release: "v1", dir: dir}); err == nil {
		t.Error("an example that is not there was deployed")
	}
}
