package examples_test

import (
	"testing"
	"testing/fstest"

	"github.com/rewarm/rewarm/examples"
)

func TestVueBuildsAreWhole(t *testing.T) {
	for _, release := range examples.Releases() {
		host, err := examples.Vue(release)
		if err != nil {
			t.Fatal(err)
		}
		if err := fstest.TestFS(host, "index.html", "favicon.svg", "data/harbours.json"); err != nil {
			t.Error(err)
		}
		checkVite(t, contents(t, host), release, false)
	}
	if _, err := examples.Vue("v3"); err == nil {
		t.Error("a release that is none was found")
	}
}
