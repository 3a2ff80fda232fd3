package egress

import "strings"

// collectors are hosts, with what is below them, that only count visits: a
// render is none, and would be counted at each. What can also carry a part of
// the page is not here: tag managers, consent banners, feature flags, ads,
// and hosts that serve pixels beside widgets.
var collectors = map[string]bool{
	"google-analytics.com":         true, // the collector of GA4 and of what came before, with its regions
	"analytics.google.com":         true,
	"stats.g.doubleclick.net":      true,
	"bat.bing.com":                 true,
	"clarity.ms":                   true,
	"px.ads.linkedin.com":          true,
	"analytics.tiktok.com":         true,
	"ct.pinterest.com":             true,
	"tr.snapchat.com":              true,
	"analytics.twitter.com":        true,
	"mc.yandex.ru":                 true,
	"mc.yandex.com":                true,
	"hm.baidu.com":                 true,
	"plausible.io":                 true,
	"cdn.usefathom.com":            true,
	"queue.simpleanalyticscdn.com": true,
	"cloudflareinsights.com":       true,
	"matomo.cloud":                 true,
	"api.segment.io":               true,
	"api.amplitude.com":            true,
	"api2.amplitude.com":           true,
	"heapanalytics.com":            true,
	"rs.fullstory.com":             true,
	"metrics.hotjar.io":            true,
	"in.hotjar.com":                true,
	"bam.nr-data.net":              true,
	"sb.scorecardresearch.com":     true,
	"pixel.quantserve.com":         true,
	"sc.omtrdc.net":                true,
}

// Collects is whether all that a host does is to count visits.
func Collects(host string) bool {
	for host = strings.TrimSuffix(strings.ToLower(host), "."); ; {
		if collectors[host] {
			return true
		}
		_, above, ok := strings.Cut(host, ".")
		if !ok {
			return false
		}
		host = above
	}
}
