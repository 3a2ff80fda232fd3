package realm

import (
	"maps"
	"net/http"
	"strconv"
	"strings"

	"github.com/rewarm/rewarm/internal/coding"
	"github.com/rewarm/rewarm/internal/web"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

const (
	// maxEncodedBytes bounds the encoded bodies kept in memory, of pages and
	// assets.
	maxEncodedBytes = 64 << 20
	// maxEncodedAsset is the size in bytes above which a file is sent as it is:
	// encoding it would keep its first visitor waiting.
	maxEncodedAsset = 8 << 20
	// entryBytes is about what a cached value weighs beside its bytes; without
	// it small ones would be free.
	entryBytes = 2 << 10
)

// body is what is sent, with the headers that go with it. It never changes, and
// its headers are shared by all answers: nothing is made anew for each of them.
type body struct {
	tag    string // the ETag, without quotes
	header http.Header
	bytes  []byte
}

// newBody makes a body with headers beside those that describe its bytes. tag
// is strong: no other bytes may have it.
func newBody(tag string, bytes []byte, header http.Header) *body {
	b := &body{tag: tag, header: maps.Clone(header), bytes: bytes}
	b.header["Etag"] = []string{`"` + tag + `"`}
	b.header["Content-Length"] = []string{strconv.Itoa(len(bytes))}
	return b
}

// htmlBody is a body of HTML of a release.
func htmlBody(token words.Token, tag string, html []byte, more map[string]string) *body {
	header := http.Header{
		wire.HeaderDocumentShell: {string(token)},
		"Cache-Control":          {"no-cache"},
		"Content-Type":           {htmlType},
		"Vary":                   {"Accept-Encoding"},
	}
	for name, value := range more {
		header[name] = []string{value}
	}
	return newBody(tag, html, header)
}

// encodedKey names a body in a coding by the ETag of the body itself, so it is
// good for whatever has these bytes.
type encodedKey struct {
	tag    string
	coding coding.Coding
}

// encoded is the body in the coding that the caller takes, encoded once for all
// of them. read gives the bytes to encode.
func (s *Server) encoded(r *http.Request, b *body, read func() ([]byte, error)) (*body, error) {
	c := coding.Accepted(r.Header["Accept-Encoding"])
	if c == coding.Identity {
		return b, nil
	}
	key := encodedKey{b.tag, c}
	in, known := s.encodings.get(key)
	if !known {
		var err error
		in, err = s.encodings.once(r.Context(), key, func() (*body, error) {
			s.encoding <- struct{}{} // else many large files at once would take the memory
			defer func() { <-s.encoding }()
			raw, err := read()
			if err != nil {
				return nil, err
			}
			var in *body // nil: the body itself is as good
			if bytes := s.encoder.Encode(c, raw); bytes != nil {
				in = newBody(b.tag+c.Suffix(), bytes, b.header)
				in.header["Content-Encoding"] = []string{c.String()}
			}
			s.encodings.put(key, in, entryBytes+in.size())
			return in, nil
		})
		if err != nil {
			return nil, err
		}
	}
	if in == nil {
		return b, nil
	}
	return in, nil
}

func (b *body) size() int {
	if b == nil {
		return 0
	}
	return len(b.bytes)
}

// sendHTML sends a body of HTML in the coding that the caller takes.
func (s *Server) sendHTML(w http.ResponseWriter, r *http.Request, code int, b *body) error {
	b, err := s.encoded(r, b, func() ([]byte, error) { return b.bytes, nil })
	if err != nil {
		return err
	}
	send(w, r, code, b)
	return nil
}

// send answers with a body, or with 304 to a caller who has it.
func send(w http.ResponseWriter, r *http.Request, code int, b *body) {
	h := w.Header()
	maps.Copy(h, b.header)
	if code == http.StatusOK && matches(r, b.header["Etag"][0]) {
		for _, name := range []string{"Content-Type", "Content-Length", "Content-Encoding"} {
			delete(h, name)
		}
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.WriteHeader(code)
	if r.Method != http.MethodHead {
		web.WriteWhole(w, r, b.bytes)
	}
}

// matches reports whether the caller has exactly this already (RFC 9110,
// 13.1.2). Weak marks, put on by proxies, compare as equal. What follows a
// malformed entry is not read.
func matches(r *http.Request, etag string) bool {
	for _, list := range r.Header["If-None-Match"] {
		if strings.TrimSpace(list) == "*" {
			return true
		}
		for {
			list = strings.TrimPrefix(strings.TrimLeft(list, " \t,"), "W/")
			if !strings.HasPrefix(list, `"`) {
				break
			}
			end := strings.IndexByte(list[1:], '"') + 2
			if end < 2 {
				break
			}
			if list[:end] == etag {
				return true
			}
			list = list[end:]
		}
	}
	return false
}

// writeBody answers with bytes that nobody keeps.
func writeBody(w http.ResponseWriter, r *http.Request, code int, kind string, bytes []byte) error {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Length", strconv.Itoa(len(bytes)))
	w.WriteHeader(code)
	if r.Method != http.MethodHead {
		_, _ = w.Write(bytes) // the peer may be gone; nothing to do about it
	}
	return nil
}
