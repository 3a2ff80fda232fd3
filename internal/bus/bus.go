// Package bus is the connection to the fleet's store, NATS JetStream: embedded
// in this process, or a cluster.
//
// The embedded store syncs every write, because what it was told is answered
// to realm servers as stored. It opens no port unless asked to.
package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

const (
	// readyWithin bounds the embedded store's start. It reads its own files, so
	// a large store on a slow disk needs more than the usual milliseconds.
	readyWithin = 30 * time.Second
	// connectWithin bounds the first connection to a cluster.
	connectWithin = 10 * time.Second
	// dialWithin bounds one attempt at one server.
	dialWithin = 2 * time.Second
	// reconnectEvery is the pause between rounds of attempts: short, for a
	// realm server without a store serves bare shells.
	reconnectEvery = 500 * time.Millisecond
	// pingEvery, twice unanswered, finds a peer that is gone without a word.
	pingEvery = 5 * time.Second
)

// Options of a bus.
type Options struct {
	// URLs of a cluster; then nothing is embedded and Listen and DataDir are
	// not used.
	URLs []string
	// Listen is where the embedded store takes peers, host:port; "" is
	// in-process only.
	Listen string
	// DataDir: the embedded store lives in DataDir/nats.
	DataDir string
	// Secret is the fleet's: what peers of Listen must show, and what a cluster
	// is shown. "" is no authentication.
	Secret string
	Log    *slog.Logger // default: discarded
	// Name of this client in the store's own logs.
	Name string
	// Lazy: a cluster that cannot be reached now is no error; the connection
	// comes when it can. For roles that work without a store.
	Lazy bool
}

func (o *Options) validate() error {
	if len(o.URLs) == 0 && o.DataDir == "" {
		return errors.New("bus: DataDir is needed for the embedded store")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

// Bus is a running connection, with the store behind it when embedded.
type Bus struct {
	conn   *nats.Conn
	server *server.Server // nil when the store is a cluster
	addr   string
	lock   *os.File
}

// Start connects, after starting the embedded store if there is one. Its
// errors say what to do.
func Start(ctx context.Context, o Options) (*Bus, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	if len(o.URLs) > 0 {
		conn, err := dial(ctx, o)
		if err != nil {
			return nil, err
		}
		return &Bus{conn: conn}, nil
	}
	return embed(ctx, o)
}

// Conn is the connection. It reconnects for ever; while it is away, publishing
// fails at once instead of being sent later.
func (b *Bus) Conn() *nats.Conn { return b.conn }

// Addr is where the embedded store listens as host:port, "" if nowhere.
func (b *Bus) Addr() string { return b.addr }

// Close ends the connection and the embedded store, and returns when both have
// ended and the data directory is free.
func (b *Bus) Close() error {
	if b.conn != nil {
		b.conn.Close()
	}
	if b.server != nil {
		b.server.Shutdown()
		b.server.WaitForShutdown()
	}
	if b.lock != nil {
		if err := b.lock.Close(); err != nil {
			return fmt.Errorf("bus: release the data directory: %w", err)
		}
	}
	return nil
}

// connectOptions are those of every connection of ours.
func connectOptions(o Options) []nats.Option {
	log := o.Log
	options := []nats.Option{
		nats.Name(o.Name),
		nats.Timeout(dialWithin),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(reconnectEvery),
		nats.ReconnectJitter(reconnectEvery/5, reconnectEvery/5),
		nats.RetryOnFailedConnect(true),
		// A secret that is being rotated must not end the connection for good.
		nats.IgnoreAuthErrorAbort(),
		// What a realm server asks the others for it does not ask itself.
		nats.NoEcho(),
		nats.PingInterval(pingEvery),
		nats.MaxPingsOutstanding(2),
		// No buffer: what was published while away would be sent after its
		// caller was told that it failed.
		nats.ReconnectBufSize(-1),
		nats.DisconnectErrHandler(func(c *nats.Conn, err error) {
			if err != nil && !c.IsClosed() {
				log.Warn("store connection lost", "err", err)
			}
		}),
		nats.ReconnectHandler(func(c *nats.Conn) { log.Info("store connected again", "url", c.ConnectedUrlRedacted()) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { log.Debug("store connection", "err", err) }),
	}
	if o.Secret != "" {
		options = append(options, nats.Token(o.Secret))
	}
	return options
}
