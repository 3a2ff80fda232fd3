// Command rewarm is a prerender fleet that is never a deploy behind; every role
// is one of its subcommands.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/rewarm/rewarm/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the process at once: the first one's handler is
	// taken away as soon as it has been heard.
	go func() {
		<-ctx.Done()
		stop()
	}()
	os.Exit(cli.Main(ctx, os.Args[1:], cli.Streams{Out: os.Stdout, Err: os.Stderr}))
}
