package cli

import (
	"bytes"
	"context"
	"os"
	"slices"

	"github.com/alecthomas/kong"
	kongyaml "github.com/alecthomas/kong-yaml"

	"github.com/rewarm/rewarm/internal/app"
	"github.com/rewarm/rewarm/internal/config"
	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/realm"
)

// configured is the configuration file of a run.
type configured struct {
	path  string // "" for none
	file  *config.File
	err   error // of the doctor's, who tells it as one of his lines
	known map[string]bool
	role  bool // of a command that reads the default one
}

// readsDefault are the commands that read [config.DefaultName] unasked: those
// that run a role, and the one that checks it.
var readsDefault = []string{"up", "realm-server", "prerender-manager", "prerender-server", "worker", "doctor"}

// BeforeResolve reads the configuration file, for the flags that are not given
// otherwise.
func (r *root) BeforeResolve(ctx *kong.Context, c *configured) error {
	name := r.Config
	for _, at := range ctx.Path {
		if at.Flag != nil && at.Flag.Name == "config" {
			name, _ = ctx.FlagValue(at.Flag).(string)
		}
	}
	command := ""
	if selected := ctx.Selected(); selected != nil {
		command = selected.Name
	}
	c.role = slices.Contains(readsDefault, command) && command != "doctor"
	if name == "" {
		if _, err := os.Stat(config.DefaultName); err != nil || !slices.Contains(readsDefault, command) {
			return nil
		}
		name = config.DefaultName
	}
	c.path, c.known = name, flagKeys(ctx.Model.Node, "")
	if c.file, c.err = config.Read(name); c.err == nil {
		c.err = c.file.CheckFlags(name, c.known)
	}
	if c.err != nil {
		c.file = nil
		if command == "doctor" {
			return nil
		}
		return c.err
	}
	resolver, err := kongyaml.Loader(bytes.NewReader(c.file.Raw))
	if err != nil {
		return fault.New(fault.Usage, "%s: %s", name, err)
	}
	ctx.AddResolver(resolver)
	return nil
}

// flagKeys are the keys that a file may have: each flag's name behind those of
// its commands.
func flagKeys(n *kong.Node, prefix string) map[string]bool {
	keys := map[string]bool{}
	for _, flag := range n.Flags {
		if flag.Name != "help" && flag.Name != "config" {
			keys[prefix+flag.Name] = true
		}
	}
	for _, child := range n.Children {
		for key := range flagKeys(child, prefix+child.Name+"-") {
			keys[key] = true
		}
	}
	return keys
}

// watch is what follows the file of a role that serves realms, nil without one.
// realmURL is the flag's.
func (r *run) watch(realmURL string) (*config.Watcher, error) {
	c := r.config
	if c.file == nil {
		return nil, nil
	}
	check := func(f *config.File) error {
		if len(f.Realms) > 0 && realmURL != "" {
			return fault.New(fault.Usage, "%s: has realms, and --realm-url is given too (%s); leave one of them out", c.path, realmURL)
		}
		return f.CheckFlags(c.path, c.known)
	}
	if err := check(c.file); err != nil {
		return nil, err
	}
	return config.NewWatcher(c.path, c.file, check, r.log), nil
}

// realms are those of the file, and of what becomes of it.
func (r *run) realms(watcher *config.Watcher) app.Realms {
	if watcher == nil {
		return app.Realms{}
	}
	return app.Realms{Table: r.config.file.Table(), Follow: watcher.Follow}
}

// alongside follows the file while a role runs that has no realms to set.
func alongside(ctx context.Context, watcher *config.Watcher, role func() error) error {
	if watcher == nil {
		return role()
	}
	following, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		watcher.Follow(following, func(*realm.Table) error { return nil })
	}()
	defer func() {
		stop()
		<-ended
	}()
	return role()
}
