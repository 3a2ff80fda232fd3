package e2e

import (
	"os"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// TestPipelineWorkflowRecyclesWhateverTheHookDoes: a job that fails skips those
// that need it, and those that need them. The order of the roles holds by that;
// the recycle and the check must not hang on the hook.
func TestPipelineWorkflowRecyclesWhateverTheHookDoes(t *testing.T) {
	raw, err := os.ReadFile("../deploy/pipeline/workflow.yml")
	if err != nil {
		t.Fatal(err)
	}
	var workflow struct {
		Jobs map[string]struct {
			Needs any
			Steps []struct{ Run string }
		}
	}
	if err := yaml.Unmarshal(raw, &workflow); err != nil {
		t.Fatal(err)
	}
	var before func(job string) []string
	before = func(job string) (all []string) {
		var needs []string
		switch n := workflow.Jobs[job].Needs.(type) {
		case string:
			needs = []string{n}
		case []any:
			for _, one := range n {
				needs = append(needs, one.(string))
			}
		}
		for _, need := range needs {
			all = append(append(all, before(need)...), need)
		}
		return all
	}
	roles := []string{"prerender", "manager", "worker", "realm"}
	want := map[string][]string{
		"prerender": nil, "manager": nil, "worker": roles[:2], "realm": roles[:3], "hook": roles, "recycle": roles,
		"check": append(slices.Clone(roles), "recycle"), "rollback": nil,
	}
	for job, needs := range want {
		if got := before(job); !slices.Equal(got, needs) {
			t.Errorf("%s runs after %q, want %q", job, got, needs)
		}
		if !slices.ContainsFunc(workflow.Jobs[job].Steps, func(s struct{ Run string }) bool {
			return strings.TrimSpace(s.Run) == "deploy/pipeline/pipeline.sh "+job
		}) {
			t.Errorf("job %s does not run the step of its name", job)
		}
	}
	if len(workflow.Jobs) != len(want) {
		t.Errorf("%d jobs, %d are known here", len(workflow.Jobs), len(want))
	}
}
