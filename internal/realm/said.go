package realm

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/words"
)

// What a page may say about its own answer (protocol, "What a host page can
// say"). It is said in the document, where whatever writes into the page can
// say it too, so what is not known to be harmless is left out: no list of the
// harmful is ever complete, for proxies in front of us act on names of their
// own (X-Accel-Redirect gives away files, Surrogate-Control keeps a document
// beyond its release).

// status is what the page asked to be answered with, 200 when it makes no sense.
func status(s words.Snapshot) int {
	code := s.HTTPStatus
	switch code {
	case http.StatusCreated, http.StatusAccepted, http.StatusNonAuthoritativeInfo:
		return code
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		if pageHeaders(s.Headers, nil)["Location"] != "" {
			return code
		}
	}
	if code >= 400 && code < 600 {
		return code
	}
	return http.StatusOK
}

// harmless are the headers that any page may set on its answer.
var harmless = [...]string{"Link", "Content-Language", "X-Robots-Tag", "Retry-After", "Location"}

// pageHeaders are those that the page may set: harmless ones, and those that
// the operator allows. One page has one answer, in whatever spelling it says a
// name twice.
func pageHeaders(asked map[string]string, allowed []string) map[string]string {
	kept := map[string]string{}
	for said, value := range asked {
		name := http.CanonicalHeaderKey(strings.TrimSpace(said))
		if !slices.Contains(harmless[:], name) && !slices.Contains(allowed, name) {
			continue
		}
		if strings.ContainsFunc(value, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }) {
			continue
		}
		if u, err := url.Parse(value); name == "Location" && (err != nil || value == "" || u.Scheme != "" && u.Scheme != "http" && u.Scheme != "https") {
			continue
		}
		kept[name] = max(kept[name], value)
	}
	return kept
}

// refusals are the headers that no page may set; a name that ends in "-" stands
// for all that begin so.
var refusals = [...]struct {
	why   string
	names []string
}{
	{"it would change what the application may do, and who may use it", []string{
		"Content-Security-Policy", "Content-Security-Policy-Report-Only", "Strict-Transport-Security", "X-Frame-Options", "X-Content-Type-Options", "X-Xss-Protection",
		"Referrer-Policy", "Permissions-Policy", "Feature-Policy", "Origin-Agent-Cluster", "Service-Worker-Allowed", "Refresh", "Sourcemap", "X-Sourcemap",
		"Access-Control-", "Cross-Origin-", "Document-Policy", "Timing-Allow-Origin", "Reporting-Endpoints", "Report-To", "Nel", "Speculation-Rules"}},
	{"it would sign visitors in or out", []string{"Set-Cookie", "Set-Cookie2", "Clear-Site-Data", "Www-Authenticate", "Authentication-Info"}},
	{"the realm server says what the bytes are, and how long they may be kept", []string{
		"Content-", "Cache-Control", "Surrogate-Control", "Cdn-Cache-Control", "Cloudflare-Cdn-Cache-Control", "Expires", "Pragma", "Age", "Date",
		"Etag", "Last-Modified", "Vary", "Accept-Ranges", "Server-Timing", "X-Rewarm-", "X-Boxel-"}},
	{"it is between two machines", []string{"Connection", "Keep-Alive", "Proxy-", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Via", "Alt-Svc"}},
	{"proxies in front act on it", []string{"X-Accel-", "X-Sendfile", "X-Lighttpd-Send-File", "X-Reproxy-Url"}},
}

// CheckPageHeaders refuses names of headers that no page may set, whatever the
// operator wishes, and returns the others as they are compared.
func CheckPageHeaders(names []string) ([]string, error) {
	var allowed []string
	for _, name := range names {
		canonical := http.CanonicalHeaderKey(strings.TrimSpace(name))
		if why := refused(canonical); why != "" {
			return nil, fault.New(fault.Usage, "--page-header %s: %s", name, why)
		}
		allowed = append(allowed, canonical)
	}
	return allowed, nil
}

// refused is why no page may set the header, "" when the operator decides.
func refused(name string) string {
	if name == "" || strings.ContainsFunc(name, func(c rune) bool { return c <= ' ' || c >= 0x7f || strings.ContainsRune(`:,;"()/<>=?@[\]{}`, c) }) {
		return "no name of a header"
	}
	if slices.Contains(harmless[:], name) {
		return ""
	}
	for _, r := range refusals {
		for _, refused := range r.names {
			if name == refused || strings.HasSuffix(refused, "-") && strings.HasPrefix(name, refused) {
				return r.why
			}
		}
	}
	return ""
}
