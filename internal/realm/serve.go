package realm

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/web"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// maxPath and maxURI bound what is asked for, in bytes.
const (
	maxPath = 4 << 10
	maxURI  = 16 << 10
)

// serve is the whole server. It is a switch, not a mux: a mux redirects what it
// finds untidy, and every path here is either ours, an asset, or the
// application's.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) error {
	p := r.URL.Path
	switch {
	case len(p) > maxPath || len(r.RequestURI) > maxURI:
		return fault.New(fault.Invalid, "URL too long")
	case !strings.HasPrefix(p, "/") || strings.ContainsFunc(p, func(c rune) bool { return c < ' ' || c == 0x7f }):
		return fault.New(fault.Invalid, "Invalid path")
	}
	for segment := range strings.SplitSeq(p, "/") {
		if segment == "." || segment == ".." {
			// Not to a proxied server either: it might look outside of the prefix.
			return fault.New(fault.NotFound, "Not found")
		}
	}
	rule, proxied := s.proxyRule(p)
	if !proxied && ofServer(p) {
		return s.serveOwn(w, r, p)
	}
	at, err := s.locate(r)
	switch {
	case err != nil:
		w.Header().Set("Cache-Control", "no-store")
		return err
	case proxied:
		s.proxy(w, r, rule)
		return nil
	case at.site != nil && ofRealm(at.below(p)):
		return at.site.serveOwn(w, r, at.below(p))
	case !reads(r):
		return refuseMethod(w)
	}
	return s.servePath(w, r, at)
}

// ofServer are the paths that are the same whatever host is asked for: load
// balancers, pipelines and whoever scrapes know the server by its address.
func ofServer(path string) bool {
	switch path {
	case "/_post-deployment", "/_host-shell-hash", "/livez", "/readyz", "/metrics":
		return true
	}
	return false
}

func (s *Server) serveOwn(w http.ResponseWriter, r *http.Request, path string) error {
	if path == "/_post-deployment" {
		return s.o.Guard.Protect(s.postDeployment)(w, r)
	}
	if !reads(r) {
		return refuseMethod(w)
	}
	switch path {
	case "/_host-shell-hash":
		w.Header().Set("Cache-Control", "no-store")
		return writeBody(w, r, http.StatusOK, "text/plain; charset=utf-8", []byte(s.Token()))
	case "/readyz":
		return s.serveReady(w, r)
	case "/metrics":
		return s.serveMetrics(w, r)
	}
	return writeBody(w, r, http.StatusOK, "text/plain; charset=utf-8", []byte("ok\n"))
}

// ofRealm are the paths below a realm that are no page's. Those of the server
// are among them, but for health and metrics: who asks the realm's URL for its
// token, or calls the hook there, need not know the server's.
func ofRealm(path string) bool {
	switch path {
	case "/_standby", "/_modules", "/_post-deployment", "/_host-shell-hash":
		return true
	}
	return false
}

func (s *site) serveOwn(w http.ResponseWriter, r *http.Request, path string) error {
	switch {
	case path == "/_modules" && r.Method == http.MethodDelete:
		return s.o.Guard.Protect(s.invalidateModule)(w, r)
	case path == "/_post-deployment" || path == "/_host-shell-hash":
		return s.Server.serveOwn(w, r, path)
	case !reads(r):
		return refuseMethod(w)
	case path == "/_standby":
		return s.serveStandby(w, r)
	}
	return s.serveModule(w, r)
}

func reads(r *http.Request) bool { return r.Method == http.MethodGet || r.Method == http.MethodHead }

func refuseMethod(w http.ResponseWriter) error {
	w.Header().Set("Allow", "GET, HEAD")
	return fault.New(fault.MethodNotAllowed, "Method not allowed")
}

// servePath answers with a file or a page. The host's files are at the root of
// every realm's host, and below a realm's prefix too.
func (s *Server) servePath(w http.ResponseWriter, r *http.Request, at place) error {
	releases := s.releases.Load()
	name := strings.TrimPrefix(at.below(r.URL.Path), "/")
	if at.prefix != "" {
		whole := strings.TrimPrefix(r.URL.Path, "/")
		if f, immutable, ok := releases.find(whole); ok {
			return s.serveFile(w, r, whole, f, immutable)
		}
	}
	if name == indexName && at.site != nil {
		return at.site.serveBare(w, r, releases.current(), stateBypass, spent{})
	}
	releases, err := s.fromHost(r, releases, name)
	if err != nil {
		w.Header().Set("Cache-Control", "no-store")
		return err
	}
	if f, immutable, ok := releases.find(name); ok && name != indexName {
		return s.serveFile(w, r, name, f, immutable)
	}
	asset := isAsset(releases, r, name)
	if asset {
		if f, ok := s.borrow(r.Context(), name); ok {
			return s.serveFile(w, r, name, f, hashed(name))
		}
	}
	if asset || at.site == nil {
		w.Header().Set("Cache-Control", "no-store") // it may be there after the next deploy
		return fault.New(fault.NotFound, "Not found")
	}
	return at.site.serveApp(w, r, at, releases.current())
}

// isAsset reports whether an absent path can only have meant a file: answering
// it with the shell would give a script's loader a page.
func isAsset(releases *releaseSet, r *http.Request, name string) bool {
	first, rest, below := strings.Cut(name, "/")
	if below && (releases.isDir(first) || rest != "" && first == ".well-known") {
		return true
	}
	if knownExtension(path.Ext(name)) {
		return true
	}
	switch r.Header.Get("Sec-Fetch-Dest") {
	case "", "document", "empty":
		return false
	}
	return true
}

// serveStandby gives prerender servers the shell: of the current release, or
// of a kept one when asked for by token.
func (s *Server) serveStandby(w http.ResponseWriter, r *http.Request) error {
	releases := s.releases.Load()
	served := releases.current()
	if wanted := r.URL.Query().Get("release"); wanted != "" {
		if served = releases.byToken(words.Token(wanted)); served == nil {
			return fault.New(fault.NotFound, "no such release is kept here")
		}
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set(wire.HeaderDocumentShell, string(served.token))
	return writeBody(w, r, http.StatusOK, htmlType, served.shell)
}

func (s *Server) serveFile(w http.ResponseWriter, r *http.Request, name string, f file, immutable bool) error {
	kind := cmp.Or(contentType(name), "application/octet-stream")
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("X-Content-Type-Options", "nosniff")
	if immutable {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	} else {
		h.Set("Cache-Control", "no-cache")
	}
	if compressible(kind) {
		h.Set("Vary", "Accept-Encoding")
		if sent, err := s.sendEncoded(w, r, f); sent || err != nil {
			return err
		}
	}
	content, err := s.depot.open(f)
	if err != nil {
		return unreadable(w, err)
	}
	defer content.Close()
	h.Set("ETag", `"`+f.tag()+`"`)
	http.ServeContent(w, r, "", time.Time{}, content)
	return nil
}

// sendEncoded sends a file in the coding that the caller takes, if that is
// another than the file itself. A range is one of the file itself: what it
// continues was sent without a coding, or will not match.
func (s *Server) sendEncoded(w http.ResponseWriter, r *http.Request, f file) (sent bool, err error) {
	if f.Size > maxEncodedAsset || r.Header.Get("Range") != "" {
		return false, nil
	}
	plain := &body{tag: f.tag(), header: http.Header{}}
	b, err := s.encoded(r, plain, func() ([]byte, error) { return s.depot.read(f) })
	if err != nil {
		return false, unreadable(w, err)
	}
	if b == plain {
		return false, nil
	}
	send(w, r, http.StatusOK, b)
	return true, nil
}

// unreadable is what a file that cannot be read is answered with. It says
// nothing of the file that a cache should keep.
func unreadable(w http.ResponseWriter, err error) error {
	for _, name := range []string{"Cache-Control", "Vary", "X-Content-Type-Options"} {
		w.Header().Del(name)
	}
	w.Header().Set("Cache-Control", "no-store")
	if errors.Is(err, fs.ErrNotExist) {
		return fault.New(fault.NotFound, "Not found") // pruned between the look-up and here
	}
	return fault.Wrap(fault.Internal, err, "the file cannot be read")
}

// serveReady is ready whenever a release is served that visitors may get, and
// says what is missing to be more than that.
func (s *Server) serveReady(w http.ResponseWriter, r *http.Request) error {
	answer := struct {
		Ready   bool        `json:"ready"`
		Token   words.Token `json:"token"`
		Store   string      `json:"store"`
		Manager string      `json:"manager"`
		Host    string      `json:"host"`
		Realms  string      `json:"realms"`
		// Candidate is the release that is held until its promotion.
		Candidate words.Token `json:"candidate,omitempty"`
	}{Ready: true, Token: s.Token(), Store: s.storeState(r.Context()), Manager: "configured", Host: "served", Realms: strconv.Itoa(len(s.URLs())) + " served"}
	if held := s.releases.Load().held(); held != nil {
		answer.Candidate = held.token
	}
	if s.o.Manager == nil {
		answer.Manager = "none: nothing is rendered or reported"
	}
	if note := s.hostUnseen.Load(); note != nil {
		answer.Host = "not all of it is served: " + *note
	}
	if note := s.hostNote.Load(); note != nil {
		answer.Host = "refused, the last accepted release is served: " + *note
	}
	if s.realmsRefused.Load() {
		answer.Realms += "; the configuration changed since and was refused, see the log"
	}
	status := http.StatusOK
	if why := s.unpromoted(); why != "" {
		status, answer.Ready, answer.Host = http.StatusServiceUnavailable, false, why
	}
	web.WriteJSON(w, status, wire.ContentTypeJSON, answer)
	return nil
}

func (s *Server) storeState(ctx context.Context) string {
	if s.o.Store == nil {
		return "none: bare shells only"
	}
	ctx, cancel := context.WithTimeout(ctx, storeWait)
	defer cancel()
	if s.o.Store.Ping(ctx) != nil {
		return "away: pages in memory, else bare shells"
	}
	return "answers"
}

func (s *Server) proxyRule(p string) (ProxyRule, bool) {
	for _, rule := range s.o.ProxyRules {
		prefix := strings.TrimSuffix(rule.Prefix, "/")
		if p == prefix || strings.HasPrefix(p, prefix+"/") {
			return rule, true
		}
	}
	return ProxyRule{}, false
}

func (s *Server) proxied(p string) bool {
	_, ok := s.proxyRule(p)
	return ok
}

func (s *Server) proxy(w http.ResponseWriter, r *http.Request, rule ProxyRule) {
	proxy := httputil.ReverseProxy{
		Rewrite: func(out *httputil.ProxyRequest) {
			out.SetURL(&url.URL{Scheme: rule.Target.Scheme, Host: rule.Target.Host, Path: rule.Target.Path})
			out.SetXForwarded()
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if !errors.Is(err, context.Canceled) {
				s.o.Log.Warn("proxied server cannot be reached", "target", rule.Target.Host, "error", err)
			}
			web.WriteError(w, fault.New(fault.Upstream, "the server behind %s cannot be reached", rule.Prefix))
		},
	}
	proxy.ServeHTTP(w, r)
}
