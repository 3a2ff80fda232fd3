package realm

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/rewarm/rewarm/internal/fault"
)

// Bounds of what is fetched from a host URL.
const (
	maxAssetBytes = 64 << 20 // one file; larger ones (videos) belong elsewhere
	maxRedirects  = 5
	fetchTimeout  = 10 * time.Second // until the answer begins, and for the whole shell
	assetTimeout  = 30 * time.Second // for a whole asset
	sniffed       = 512              // bytes that tell a page from an asset
)

// errAbsent is what a fetch gives when the host says that there is no such file.
var errAbsent = errors.New("not there")

// errTooLarge is what a fetch gives when a file exceeds its bound.
var errTooLarge = errors.New("larger than a file of a release may be")

// origin is a host that is a URL. Nothing but this origin is ever fetched, and
// nothing outside of the directory that the URL names.
type origin struct {
	index  *url.URL
	base   *url.URL // the directory; its path ends in "/"
	client *http.Client
}

// CheckHostURL says what is wrong with a host URL, before anything starts.
func CheckHostURL(raw string) error {
	_, err := newOrigin(raw)
	return err
}

func newOrigin(raw string) (*origin, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return nil, fault.New(fault.Usage, "--host %q is no http or https URL; give the URL of the directory that has index.html", raw)
	case u.User != nil:
		return nil, fault.New(fault.Usage, "--host takes a URL without user name and password")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, fault.New(fault.Usage, "--host %s: a host URL has no query and no fragment; give the URL of the directory that has index.html", raw)
	}
	o := &origin{}
	if p := path.Clean("/" + u.Path); strings.HasSuffix(p, ".html") && !strings.HasSuffix(u.Path, "/") {
		o.index = &url.URL{Scheme: u.Scheme, Host: u.Host, Path: p}
		o.base = &url.URL{Scheme: u.Scheme, Host: u.Host, Path: withSlash(path.Dir(p))}
	} else {
		o.base = &url.URL{Scheme: u.Scheme, Host: u.Host, Path: withSlash(p)}
		o.index = o.base.JoinPath(indexName)
	}
	o.client = &http.Client{
		Transport: &http.Transport{
			// A kept connection would ask the same replica behind a load balancer
			// again, and two fetches that agree would prove nothing.
			DisableKeepAlives:      true,
			DisableCompression:     true,
			TLSHandshakeTimeout:    fetchTimeout,
			ResponseHeaderTimeout:  fetchTimeout,
			MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: o.checkRedirect,
	}
	return o, nil
}

func withSlash(p string) string { return strings.TrimSuffix(p, "/") + "/" }

func (o *origin) checkRedirect(next *http.Request, via []*http.Request) error {
	switch {
	case len(via) > maxRedirects:
		return fmt.Errorf("it redirects more than %d times", maxRedirects)
	case next.URL.Scheme != o.base.Scheme || next.URL.Host != o.base.Host:
		return errors.New("it redirects to another origin")
	case !strings.HasPrefix(withSlash(path.Clean("/"+next.URL.Path)), o.base.Path):
		return errors.New("it redirects out of the host URL's directory")
	}
	return nil
}

// locate is where the host has the file that the realm serves as name. A shell
// built for a base path names its files with it, so a name below that path is
// taken as it is, any other as relative to the directory. ok is false for names
// that are no part of a release: untidy or hidden ones.
func (o *origin) locate(name string) (u *url.URL, ok bool) {
	p := "/" + name
	if name == "" || path.Clean(p) != p || strings.ContainsAny(name, "\\\x00") {
		return nil, false
	}
	for segment := range strings.SplitSeq(name, "/") {
		if strings.HasPrefix(segment, ".") && segment != ".well-known" {
			return nil, false
		}
	}
	if !strings.HasPrefix(p, o.base.Path) {
		p = o.base.Path + name
	}
	return &url.URL{Scheme: o.base.Scheme, Host: o.base.Host, Path: p}, true
}

// fetchShell is the host's index.html as it is now, over a new connection.
func (o *origin) fetchShell(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, fetchTimeout, fmt.Errorf("no answer within %s", fetchTimeout))
	defer cancel()
	var shell strings.Builder
	_, _, err := o.fetch(ctx, o.index, fetchBounds{limit: maxShellBytes, page: true}, &shell)
	return []byte(shell.String()), err
}

// fetchAsset writes a file of the host to w and returns its sum and size.
func (o *origin) fetchAsset(ctx context.Context, name string, w io.Writer) (sum string, size int64, err error) {
	u, ok := o.locate(name)
	if !ok {
		return "", 0, errAbsent
	}
	ctx, cancel := context.WithTimeoutCause(ctx, assetTimeout, fmt.Errorf("not complete within %s", assetTimeout))
	defer cancel()
	return o.fetch(ctx, u, fetchBounds{limit: maxAssetBytes}, w)
}

// fetchBounds say what is taken for an answer: at most limit bytes, and of a
// page or of anything else.
type fetchBounds struct {
	limit int64
	page  bool
}

func (o *origin) fetch(ctx context.Context, u *url.URL, bounds fetchBounds, w io.Writer) (sum string, size int64, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return "", 0, err
	}
	request.Header.Set("Accept-Encoding", "identity")
	request.Header.Set("Cache-Control", "no-cache") // a shared cache on the way asks anew
	request.Header.Set("User-Agent", "rewarm-realm-server")
	answer, err := o.client.Do(request)
	if err != nil {
		return "", 0, why(ctx, err)
	}
	defer answer.Body.Close()
	body := bufio.NewReaderSize(answer.Body, sniffed)
	if err := judge(answer, u.Path, bounds, body); err != nil {
		return "", 0, why(ctx, err)
	}
	hash := sha256.New()
	size, err = io.Copy(io.MultiWriter(w, hash), io.LimitReader(body, bounds.limit+1))
	switch {
	case err != nil:
		return "", 0, why(ctx, err)
	case size > bounds.limit:
		return "", 0, errTooLarge
	}
	return hex.EncodeToString(hash.Sum(nil)), size, nil
}

// judge says whether an answer is the file that was asked for. Buckets without
// a right to list answer 403 for what is absent; hosts made for single-page
// applications answer every path with their page.
func judge(answer *http.Response, asked string, bounds fetchBounds, body *bufio.Reader) error {
	switch answer.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound, http.StatusGone, http.StatusForbidden:
		return errAbsent
	default:
		return fmt.Errorf("it answers %d", answer.StatusCode)
	}
	if encoding := answer.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return fmt.Errorf("it answers in %q, which was not asked for", encoding)
	}
	if answer.ContentLength > bounds.limit {
		return errTooLarge
	}
	kind, _, _ := mime.ParseMediaType(answer.Header.Get("Content-Type"))
	if kind == "" || kind == "text/plain" || strings.HasSuffix(kind, "/octet-stream") {
		start, err := body.Peek(sniffed)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if strings.HasPrefix(http.DetectContentType(start), "text/html") {
			kind = "text/html"
		} else {
			kind = ""
		}
	}
	page := kind == "text/html" || kind == "application/xhtml+xml"
	switch extension := strings.ToLower(path.Ext(asked)); {
	case bounds.page && !page && kind != "":
		return fmt.Errorf("it answers %s, not a page", kind)
	case bounds.page || kind == "":
	case page:
		return errAbsent
	case (extension == ".js" || extension == ".mjs") && !strings.Contains(kind, "javascript") && !strings.Contains(kind, "ecmascript"):
		return errAbsent
	case extension == ".css" && kind != "text/css":
		return errAbsent
	}
	return nil
}

// why is the innermost reason of a failed fetch: what wraps it names ports that
// differ each time, and the same state must read the same.
func why(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if timeout, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err); ok && timeout.Timeout() {
		return fmt.Errorf("no answer within %s", fetchTimeout)
	}
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner
	}
	return err
}
