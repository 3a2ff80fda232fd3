package worker

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/rewarm/rewarm/internal/index"
)

const (
	fetchTimeout = 30 * time.Second
	// rulesAge is how long robots rules are believed.
	rulesAge = 5 * time.Minute
	// unreadFor is how long rules that could not be read are not asked for again:
	// a realm that is down would cost each of its jobs a fetchTimeout.
	unreadFor = 5 * time.Second
	// maxSeen bounds what is remembered of the links of one realm's run; links
	// beyond it are not followed.
	maxSeen = 200_000
	// maxSites bounds the realms that are remembered.
	maxSites = 1000
)

// site is what is known of a realm: its rules, how fast it may go, and what of
// it was queued.
type site struct {
	robots index.Robots
	readAt time.Time
	pace   *pace
	queued *queued
}

// unread are rules that could not be read.
type unread struct {
	err error
	at  time.Time
}

// queued are the pages that were queued in a realm's newest run, so that a page
// that a hundred others lead to is queued once.
type queued struct {
	mu   sync.Mutex
	run  uint64
	seen map[[16]byte]struct{}
}

// newQueued is of run 0: pages that were asked for before the realm's first.
func newQueued() *queued { return &queued{seen: map[[16]byte]struct{}{}} }

// has reports whether a page need not be queued: it was in this run, or no more
// can be remembered.
func (q *queued) has(run uint64, page string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if run > q.run {
		q.run, q.seen = run, map[[16]byte]struct{}{}
	}
	_, known := q.seen[pageKey(page)]
	return known || len(q.seen) >= maxSeen
}

// add remembers pages that are in the queue.
func (q *queued) add(run uint64, pages []index.Job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if run > q.run {
		q.run, q.seen = run, map[[16]byte]struct{}{}
	}
	for _, page := range pages {
		if len(q.seen) < maxSeen && run == q.run {
			q.seen[pageKey(page.URL)] = struct{}{}
		}
	}
}

// forget takes back what add did.
func (q *queued) forget(run uint64, pages []index.Job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, page := range pages {
		if run == q.run {
			delete(q.seen, pageKey(page.URL))
		}
	}
}

func pageKey(page string) [16]byte {
	sum := sha256.Sum256([]byte(page))
	return [16]byte(sum[:16])
}

// sites are the realms that jobs were of.
type sites struct {
	rate func(realm string) float64 // pages a second
	http *http.Client

	mu      sync.Mutex
	byRealm map[string]*site
	unread  map[string]unread
}

func newSites(rate func(realm string) float64) *sites {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil
	return &sites{rate: rate, byRealm: map[string]*site{}, unread: map[string]unread{}, http: &http.Client{
		Transport: transport, Timeout: fetchTimeout,
		CheckRedirect: func(next *http.Request, via []*http.Request) error {
			if len(via) > 3 || next.URL.Host != via[0].URL.Host || next.URL.Scheme != via[0].URL.Scheme {
				return errors.New("it redirects to another origin, or too often")
			}
			return nil
		},
	}}
}

// of is a realm's site, with rules that are at most rulesAge old.
func (s *sites) of(ctx context.Context, realm string, now time.Time) (*site, error) {
	s.mu.Lock()
	known, failed := s.byRealm[realm], s.unread[realm]
	s.mu.Unlock()
	if known != nil && now.Sub(known.readAt) < rulesAge {
		return known, nil
	}
	if failed.err != nil && now.Sub(failed.at) < unreadFor {
		return nil, failed.err
	}
	robots, err := s.robots(ctx, realm)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.unread) >= maxSites {
		clear(s.unread)
	}
	if err != nil {
		if ctx.Err() == nil {
			s.unread[realm] = unread{err, now}
		}
		return nil, err
	}
	delete(s.unread, realm)
	fresh := &site{robots: robots, readAt: now, pace: newPace(), queued: newQueued()}
	if known := s.byRealm[realm]; known != nil {
		fresh.pace, fresh.queued = known.pace, known.queued
	}
	fresh.pace.limiter.SetLimit(limitOf(s.rate(realm), robots.Delay))
	if len(s.byRealm) >= maxSites {
		clear(s.byRealm)
	}
	s.byRealm[realm] = fresh
	return fresh, nil
}

// robots reads the rules at the root of the realm's origin, where robots.txt is.
func (s *sites) robots(ctx context.Context, realm string) (index.Robots, error) {
	base, err := url.Parse(realm)
	if err != nil {
		return index.Robots{}, err
	}
	answer, err := s.get(ctx, (&url.URL{Scheme: base.Scheme, Host: base.Host, Path: "/robots.txt"}).String())
	if err != nil {
		return index.Robots{}, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, index.MaxRobotsBytes))
	if err != nil {
		return index.Robots{}, err
	}
	return index.ReadRobots(answer.StatusCode, body)
}

// sitemap reads one sitemap; one that is not there lists nothing. With an error
// it is what came before.
func (s *sites) sitemap(ctx context.Context, address string) (index.Sitemap, error) {
	answer, err := s.get(ctx, address)
	if err != nil {
		return index.Sitemap{}, err
	}
	defer answer.Body.Close()
	switch {
	case answer.StatusCode >= 500:
		return index.Sitemap{}, fmt.Errorf("%s: answered %d", address, answer.StatusCode)
	case answer.StatusCode != http.StatusOK:
		return index.Sitemap{}, nil
	}
	return index.ReadSitemap(io.LimitReader(answer.Body, index.MaxSitemapBytes))
}

func (s *sites) get(ctx context.Context, address string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("User-Agent", "rewarm-worker")
	return s.http.Do(request)
}
