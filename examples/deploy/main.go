// Command deploy puts a release of an example into a directory, as a pipeline
// would: new files first, then the shell, then the old files are
// deleted. With -to it then calls the realm server's deployment hook and shows
// what that answered.
//
//	go run ./examples/deploy -release v2 -dir build/host -to http://127.0.0.1:4201
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/rewarm/rewarm/examples"
)

// hookTimeout bounds the call of the hook: the realm server copies the host
// and reports before it answers.
const hookTimeout = 30 * time.Second

func main() {
	release := flag.String("release", "v1", "the `name` of the release; "+strings.Join(examples.Releases(), " and ")+" are made to be told apart at a glance")
	example := flag.String("example", "vanilla", "vanilla, react, react-transition or vue")
	dir := flag.String("dir", "", "the host `directory`; what is in it and not in the release is deleted")
	to := flag.String("to", "", "the `URL` of a realm server whose deployment hook is called (default: none)")
	flag.Parse()
	if *dir == "" || flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "deploy: -dir is required, and nothing beside the flags")
		flag.Usage()
		os.Exit(2)
	}
	if err := run(options{example: *example, release: *release, dir: *dir, to: *to}); err != nil {
		fmt.Fprintln(os.Stderr, "deploy:", err)
		os.Exit(1)
	}
}

type options struct{ example, release, dir, to string }

func run(o options) error {
	host, err := build(o.example, o.release)
	if err != nil {
		return err
	}
	if err := examples.Deploy(o.dir, host); err != nil {
		return err
	}
	fmt.Printf("%s holds %s, release %s\n", o.dir, o.example, o.release)
	if o.to == "" {
		return nil
	}
	return callHook(o.to)
}

func build(example, release string) (fs.FS, error) {
	switch example {
	case "vanilla":
		return examples.Vanilla(release)
	case "react":
		return examples.React(release, false)
	case "react-transition":
		return examples.React(release, true)
	case "vue":
		return examples.Vue(release)
	}
	return nil, fmt.Errorf("there is no example %q: vanilla, react, react-transition or vue", example)
}

func callHook(realm string) error {
	ctx, cancel := context.WithTimeout(context.Background(), hookTimeout)
	defer cancel()
	url := strings.TrimSuffix(realm, "/") + "/_post-deployment"
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, nil)
	if err != nil {
		return err
	}
	if secret := os.Getenv("REWARM_SECRET"); secret != "" {
		request.Header.Set("Authorization", "Bearer "+secret)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("call the deployment hook: %w (is rewarm running?)", err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if err != nil {
		return fmt.Errorf("read the answer of %s: %w", url, err)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s: %s", url, response.Status, answer)
	}
	fmt.Printf("%s\n", strings.TrimSpace(string(answer)))
	return nil
}
