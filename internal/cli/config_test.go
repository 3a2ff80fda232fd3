package cli

import (
	"io"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/rewarm/rewarm/internal/config"
)

// The example that operators copy has only keys that there are, with values
// that their flags take.
func TestExampleConfigurationIsTaken(t *testing.T) {
	const example = "../../deploy/rewarm.yaml"
	if f, err := config.Read(example); err != nil || len(f.Realms) < 3 {
		t.Fatalf("%v, %v", f, err)
	}
	for _, command := range []string{"realm-server", "prerender-server", "worker", "doctor"} {
		var parsed root
		var file configured
		parser, err := kong.New(&parsed, kong.Writers(io.Discard, io.Discard), kong.Exit(func(int) {}), kong.Bind(&file))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parser.Parse([]string{command, "--config", example}); err != nil || file.err != nil {
			t.Errorf("%s: %v, %v", command, err, file.err)
		}
	}
}
