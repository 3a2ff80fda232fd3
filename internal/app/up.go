package app

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"time"

	"github.com/rewarm/rewarm/internal/bus"
	"github.com/rewarm/rewarm/internal/manager"
	"github.com/rewarm/rewarm/internal/observe"
	"github.com/rewarm/rewarm/internal/pool"
	"github.com/rewarm/rewarm/internal/prerender"
	"github.com/rewarm/rewarm/internal/realm"
	"github.com/rewarm/rewarm/internal/worker"
)

// UpOptions are those of a whole fleet in one process.
type UpOptions struct {
	Host          string // directory; "" serves HostURL, else Example
	HostURL       string
	Example       fs.FS
	RealmAddr     string
	RealmURL      string // public base URL; default http://<bound address>
	Realms        Realms
	ManagerAddr   string
	PrerenderAddr string
	AllowOrigins  []string
	Pages         int // at the most
	MinPages      int // in quiet times; 0: Pages
	Chrome        string
	Watch         bool // take a release when the host changes, not by the hook only
	MaxAge        time.Duration
	QueryAllow    []string
	Answers       Answers
	Proxy         []realm.ProxyRule
	CanaryURLs    []string          // checked of each release; none: nothing is
	CanaryAllow   []string          // selectors of what may differ there
	Promotion     realm.Promotion   // when a new release is served
	Worker        *worker.Options   // nil: no worker, pages are rendered when visitors ask
	Prerender     prerender.Options // times and bounds; the rest is filled in
}

// Up is a fleet of one process: store, manager, realm server, prerender server,
// and a worker.
type Up struct {
	teardown  stack
	realm     *realmServer
	manager   *manager.Manager
	prerender *prerender.Server
	watch     *watcher       // nil: off
	worker    *worker.Worker // nil: off
}

// drainMin is how long `up` answers 410 before it stops: its callers are on
// this machine, and somebody waits at the keyboard.
const drainMin = time.Millisecond

// NewUp binds all listeners and opens the store; it starts no role.
func NewUp(ctx context.Context, fleet Fleet, o UpOptions) (up *Up, err error) {
	up = &Up{}
	teardown := &up.teardown // of a fleet that is not returned too
	defer func() {
		if err != nil {
			err = errors.Join(err, teardown.unwind())
		}
	}()
	store, err := openStore(ctx, bus.Options{URLs: fleet.NATS, DataDir: fleet.DataDir, Secret: fleet.secret(), Log: fleet.Log, Name: "up"}, fleet.Replicas, &up.teardown)
	if err != nil {
		return nil, err
	}
	shared := observe.NewRegistry() // the worker has no address of its own
	up.manager, err = newManager(fleet, ManagerOptions{Addr: o.ManagerAddr, Settings: manager.Options{DrainMin: drainMin, CanaryURLs: o.CanaryURLs, CanaryAllow: o.CanaryAllow, Registerer: shared}}, store)
	if err != nil {
		return nil, err
	}
	managerURL := reach(up.manager.Addr())
	up.realm, err = newRealm(fleet, RealmOptions{
		Addr: o.RealmAddr, Host: o.Host, HostURL: o.HostURL, NoPoll: !o.Watch, Example: o.Example, RealmURL: o.RealmURL, Realms: o.Realms, ManagerURL: managerURL, Promotion: o.Promotion,
		MaxAge: o.MaxAge, QueryAllow: o.QueryAllow, Answers: o.Answers, Proxy: o.Proxy,
	}, store, &up.teardown)
	if err != nil {
		return nil, err
	}
	up.prerender, err = newPrerender(fleet, PrerenderOptions{
		Addr: o.PrerenderAddr, URL: o.Prerender.URL, ManagerURL: managerURL, Realms: up.realm.URLs(), Chrome: o.Chrome,
		Pool: pool.Options{Size: o.Pages, Min: o.MinPages}, Settings: o.Prerender,
		AllowOrigins: o.AllowOrigins, Forbidden: []string{up.manager.Addr().String()},
	}, &up.teardown)
	if err != nil {
		return nil, err
	}
	if o.Worker != nil {
		settings := *o.Worker
		settings.Registerer = shared
		if up.worker, err = newWorker(fleet, WorkerOptions{ManagerURL: managerURL, Settings: settings}, store); err != nil {
			return nil, err
		}
	}
	if o.Watch && o.Host != "" {
		up.watch = &watcher{dir: o.Host, changed: up.redeploy, log: fleet.Log}
	}
	return up, nil
}

// redeploy takes the host directory's release now.
func (u *Up) redeploy(ctx context.Context) error {
	answer, err := u.realm.Accept(ctx, "")
	if err == nil && !answer.Accepted {
		err = errors.New(answer.Reason)
	}
	return err
}

// Run serves until ctx ends. Prerender server and realm server stop before the
// manager they call, the store last.
func (u *Up) Run(ctx context.Context) error {
	roles := []Role{u.prerender, u.realm, u.manager}
	if u.worker != nil {
		roles = append([]Role{u.worker}, roles...)
	}
	if u.watch != nil {
		roles = append([]Role{u.watch}, roles...)
	}
	return errors.Join(runAll(ctx, roles...), u.teardown.unwind())
}

// RealmURLs are the realms that are served.
func (u *Up) RealmURLs() []string { return u.realm.URLs() }

// RealmURL is the first of them.
func (u *Up) RealmURL() string { return u.realm.URL() }

// ManagerURL is where the manager answers.
func (u *Up) ManagerURL() string { return reach(u.manager.Addr()) }

// PrerenderURL is where the prerender server answers.
func (u *Up) PrerenderURL() string { return reach(u.prerender.Addr()) }

// reach is the URL at which a process of this machine reaches a listener: one
// on all addresses is reached on loopback.
func reach(addr net.Addr) string {
	tcp, ok := addr.(*net.TCPAddr)
	if ok && tcp.IP.IsUnspecified() {
		return "http://" + (&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: tcp.Port}).String()
	}
	return "http://" + addr.String()
}
