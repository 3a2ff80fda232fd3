package bus

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// defaultPort is NATS's own; it is also the manager's for HTTP.
const defaultPort = "4222"

// dial connects to a cluster.
func dial(ctx context.Context, o Options) (*nats.Conn, error) {
	urls := strings.Join(o.URLs, ",")
	connected := make(chan struct{}, 1)
	failed := make(chan error, 1)
	options := append(connectOptions(o), nats.ReconnectErrHandler(func(_ *nats.Conn, err error) {
		select {
		case failed <- err:
		default:
		}
	}), nats.ConnectHandler(func(*nats.Conn) {
		select {
		case connected <- struct{}{}:
		default:
		}
	}))
	conn, err := nats.Connect(urls, options...)
	if err != nil {
		return nil, fmt.Errorf("bus: connect to %s: %w", redact(o.URLs), err)
	}
	if conn.IsConnected() || o.Lazy {
		return conn, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, connectWithin, fmt.Errorf("no answer within %s", connectWithin))
	defer cancel()
	// The first round has failed: whatever is wrong can be told now, unless it
	// is a store that is just starting.
	if reason := explain(ctx, o.URLs, conn.LastError()); reason != nil {
		conn.Close()
		return nil, reason
	}
	for {
		select {
		case <-connected:
			return conn, nil
		case err := <-failed:
			if errors.Is(err, nats.ErrAuthorization) {
				conn.Close()
				return nil, refused(o.URLs, err)
			}
		case <-ctx.Done():
			last := conn.LastError()
			conn.Close()
			if last == nil {
				last = context.Cause(ctx)
			}
			return nil, fmt.Errorf("bus: the store at %s cannot be reached (is it running, is the address right?): %w", redact(o.URLs), last)
		}
	}
}

func refused(urls []string, err error) error {
	return fmt.Errorf("bus: the store at %s refuses the secret: give every role the same --secret: %w", redact(urls), err)
}

// explain returns an error for what waiting does not cure, else nil.
func explain(ctx context.Context, urls []string, last error) error {
	if errors.Is(last, nats.ErrAuthorization) {
		return refused(urls, last)
	}
	for _, raw := range urls {
		if host := hostPort(raw); host != "" && speaksHTTP(ctx, host) {
			return fmt.Errorf("bus: %s speaks HTTP, not NATS: that is probably the prerender manager; its embedded store listens where --nats-listen says, usually port 4223", host)
		}
	}
	return nil
}

// speaksHTTP asks the peer in HTTP. A NATS server speaks first and in another
// tongue.
func speaksHTTP(ctx context.Context, host string) bool {
	ctx, cancel := context.WithTimeout(ctx, dialWithin)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", host)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return false
	}
	if _, err := fmt.Fprintf(conn, "HEAD /livez HTTP/1.0\r\nHost: %s\r\n\r\n", host); err != nil {
		return false
	}
	start, err := bufio.NewReader(conn).Peek(5)
	return err == nil && string(start) == "HTTP/"
}

// hostPort is the address in a server URL, "" if there is none.
func hostPort(raw string) string {
	raw = strings.TrimSpace(raw)
	if !strings.Contains(raw, "://") {
		raw = "nats://" + raw
	}
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" {
		return ""
	}
	port := u.Port()
	if port == "" {
		port = defaultPort
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// redact names servers without the credentials that a URL may carry.
func redact(urls []string) string {
	hosts := make([]string, len(urls))
	for i, raw := range urls {
		hosts[i] = hostPort(raw)
	}
	return strings.Join(hosts, ", ")
}

// probe fails when address cannot be listened on. The store itself would say
// so only in its log.
func probe(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return listener.Close()
}
