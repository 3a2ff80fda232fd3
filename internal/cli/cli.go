// Package cli is the command line: a file for each subcommand.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/alecthomas/kong"

	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/observe"
)

// Exit codes that are not an error's (design, "The command line").
const exitInterrupted = 130

// Streams are where commands write: results to Out, logs and errors to Err.
type Streams struct{ Out, Err io.Writer }

// root is the whole command line.
type root struct {
	Config    string `help:"YAML file with a key for each flag, and the realms; roles read rewarm.yaml without being told." placeholder:"FILE"`
	LogFormat string `help:"text for people, json for machines." default:"text" enum:"text,json"`
	LogLevel  string `help:"debug, info, warn or error." default:"info" enum:"debug,info,warn,error"`

	Up        upCommand        `cmd:"" help:"Run a whole fleet in one process: all roles, embedded store."`
	Realm     realmCommand     `cmd:"" name:"realm-server" help:"Run a realm server: the origin that serves the application's shell with prerendered pages in it."`
	Manager   managerCommand   `cmd:"" name:"prerender-manager" help:"Run a prerender manager: releases, registry, routing, rollout."`
	Prerender prerenderCommand `cmd:"" name:"prerender-server" help:"Run a prerender server: one Chrome with a pool of warm pages."`
	Worker    workerCommand    `cmd:"" help:"Run a worker: it renders pages before anybody asks for them, after each deploy."`
	Render    renderCommand    `cmd:"" help:"Render one URL."`
	Check     checkCommand     `cmd:"" help:"Check pages as a visitor gets them: does the application take over without a break?"`
	Index     indexCommand     `cmd:"" help:"Render a realm's pages again, see how far that is, or remove stored pages."`
	Rollout   rolloutCommand   `cmd:"" help:"Watch and steer the move of the fleet to a release."`
	Release   releaseCommand   `cmd:"" help:"List releases, or report one."`
	Doctor    doctorCommand    `cmd:"" help:"Check Chrome, sandbox, ports, directories, rewarm.yaml and its realms: each line ok, or why not and what to do."`
	Version   versionCommand   `cmd:"" help:"Print the version."`
}

// run is what a command is given.
type run struct {
	ctx     context.Context
	streams Streams
	log     *slog.Logger
	config  *configured
}

// Main runs the command line and returns its exit code. ctx ends it gently.
func Main(ctx context.Context, args []string, streams Streams) (code int) {
	var parsed root
	var file configured
	exited := false
	parser, err := kong.New(&parsed,
		kong.Name("rewarm"),
		kong.Description("A prerender fleet that is never a deploy behind.\n\nStart with: rewarm up"),
		kong.DefaultEnvars("REWARM"),
		kong.Bind(&file),
		kong.Writers(streams.Out, streams.Err),
		kong.Exit(func(c int) { code, exited = c, true }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.UsageOnError(),
	)
	if err != nil {
		fmt.Fprintln(streams.Err, "rewarm:", err)
		return fault.ExitCode(err)
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	command, err := parser.Parse(args)
	if exited {
		return code // --help
	}
	if err != nil {
		fmt.Fprintf(streams.Err, "rewarm: %s\nRun \"rewarm --help\", or \"rewarm COMMAND --help\".\n", err)
		return fault.ExitCode(fault.New(fault.Usage, "%s", err))
	}
	log, err := observe.NewLogger(streams.Err, parsed.LogFormat, parsed.LogLevel)
	if err == nil && file.role && file.file != nil {
		log.Info("configuration file read", "file", file.path, "realms", len(file.file.Realms))
	}
	if err == nil {
		err = command.Run(&run{ctx: ctx, streams: streams, log: log, config: &file})
	}
	return exitCode(ctx, err, streams.Err)
}

func exitCode(ctx context.Context, err error, w io.Writer) int {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return exitInterrupted
	}
	if err != nil {
		fmt.Fprintln(w, "rewarm:", err)
	}
	return fault.ExitCode(err)
}

// hostName names this machine in reports and logs.
func hostName() string {
	name, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return name
}
