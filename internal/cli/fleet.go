package cli

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/rewarm/rewarm/internal/app"
	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/web"
)

// secretFlags say who may call; every role has them.
type secretFlags struct {
	Secret               []string `help:"Fleet secret that callers must show; two, separated by a comma, while one replaces the other. Without it only this machine is served." placeholder:"S"`
	Insecure             bool     `help:"Serve other machines without a secret."`
	AllowUnauthenticated []string `help:"Networks whose peers need no secret, for peers that cannot send one." placeholder:"CIDR"`
}

// storeFlags say where the state is.
type storeFlags struct {
	NATS     []string `name:"nats" help:"URLs of a NATS cluster with JetStream; without it the store is embedded." placeholder:"URL"`
	Replicas int      `name:"nats-replicas" help:"Copies of the state in a cluster." default:"1"`
}

// dataFlags say where files are kept.
type dataFlags struct {
	Data string `help:"Directory for state, releases and Chrome's profiles (default: rewarm in the user's cache directory)." placeholder:"DIR" type:"path"`
}

func (d dataFlags) dir() string {
	if d.Data != "" {
		return d.Data
	}
	base, err := os.UserCacheDir()
	if err != nil {
		base = os.TempDir()
	}
	return filepath.Join(base, "rewarm")
}

func (s secretFlags) guard() (web.Guard, error) {
	guard := web.Guard{Secrets: s.Secret, Insecure: s.Insecure}
	if len(s.Secret) > 2 {
		return guard, fault.New(fault.Usage, "--secret takes two secrets at most: the one in force and the one before it")
	}
	// Given but empty is what an unset variable looks like: a fleet that was
	// meant to be closed must not come up open.
	if s.Secret != nil && len(s.Secret) == 0 {
		return guard, errEmptySecret()
	}
	for _, secret := range s.Secret {
		if strings.TrimSpace(secret) == "" {
			return guard, errEmptySecret()
		}
		// A file's line end is the usual one: no header could show such a secret.
		if strings.TrimSpace(secret) != secret || strings.ContainsFunc(secret, unicode.IsControl) {
			return guard, fault.New(fault.Usage, "--secret begins or ends with white space, or has control characters in it, a line end perhaps")
		}
	}
	for _, network := range s.AllowUnauthenticated {
		prefix, err := netip.ParsePrefix(network)
		if err != nil {
			return guard, fault.New(fault.Usage, "--allow-unauthenticated %q is no network such as 10.0.0.0/8", network)
		}
		guard.AllowUnauthenticated = append(guard.AllowUnauthenticated, prefix)
	}
	return guard, nil
}

func errEmptySecret() error {
	return fault.New(fault.Usage, "--secret is empty; leave it out to serve this machine only")
}

func newFleet(r *run, secrets secretFlags, store storeFlags, data string) (app.Fleet, error) {
	guard, err := secrets.guard()
	if err != nil {
		return app.Fleet{}, err
	}
	if len(guard.AllowUnauthenticated) > 0 {
		r.log.Warn("peers of these networks need no secret", "networks", fmt.Sprint(guard.AllowUnauthenticated))
	}
	return app.Fleet{
		Secrets: secrets.Secret, Guard: guard, NATS: store.NATS, Replicas: store.Replicas, DataDir: data, Log: r.log,
	}, nil
}
