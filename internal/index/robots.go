package index

import (
	"bytes"
	"fmt"
	"net/url"
	"time"

	"github.com/temoto/robotstxt"
)

const (
	// Agent is the name under which robots rules address us.
	Agent = "rewarm"
	// MaxRobotsBytes bounds a robots.txt, as search engines do.
	MaxRobotsBytes = 500 << 10
	// maxCrawlDelay bounds what a robots.txt may ask for: beyond it a realm would
	// never be done.
	maxCrawlDelay = 30 * time.Second
)

// Robots are a realm's rules for us. The zero value allows everything.
type Robots struct {
	group    *robotstxt.Group
	Sitemaps []string
	// Delay is the least time between two renders, 0 when the rules name none.
	Delay time.Duration
}

// ReadRobots reads a robots.txt that was answered with an HTTP status: none
// (4xx) allows everything. A status of 500 or more is an error: the rules are
// not known.
func ReadRobots(status int, body []byte) (Robots, error) {
	if status >= 500 {
		return Robots{}, fmt.Errorf("robots.txt: answered %d", status)
	}
	if len(body) > MaxRobotsBytes {
		body = body[:MaxRobotsBytes]
	}
	data, err := robotstxt.FromStatusAndBytes(status, body)
	if err != nil {
		data, err = robotstxt.FromStatusAndBytes(status, tidy(body))
	}
	if err != nil {
		return Robots{}, nil // no rules in any sense
	}
	group := data.FindGroup(Agent)
	return Robots{group: group, Sitemaps: data.Sitemaps, Delay: min(max(group.CrawlDelay, 0), maxCrawlDelay)}, nil
}

// tidy leaves out what makes no sense, as crawlers do: one wrong line must
// neither lift the other rules nor keep the realm from being indexed.
func tidy(body []byte) []byte {
	const anyone = "User-agent: *\n"
	var kept bytes.Buffer
	addressed := false
	for line := range bytes.Lines(body) {
		if _, err := robotstxt.FromBytes(append([]byte(anyone), line...)); err != nil {
			continue
		}
		field, _, _ := bytes.Cut(bytes.ToLower(bytes.TrimSpace(line)), []byte(":"))
		switch string(bytes.TrimSpace(field)) {
		case "user-agent", "useragent":
			addressed = true
		}
		if addressed || bytes.Equal(field, []byte("sitemap")) {
			kept.Write(line)
		}
	}
	return kept.Bytes()
}

// Allow reports whether the rules let a page be indexed.
func (r Robots) Allow(page string) bool {
	u, err := url.Parse(page)
	if err != nil {
		return false
	}
	return r.group == nil || r.group.Test(u.RequestURI())
}
