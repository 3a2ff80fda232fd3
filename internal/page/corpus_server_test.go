package page

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // what a web socket's handshake needs
	"encoding/base64"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/http/httptest"
	"path"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// corpusServer serves every page of the corpus on a host name of its own, so
// that paths are absolute and storage is not shared; and its files below
// stranger/ on another site. A path that begins with a verb says how it is
// answered:
//
//	/-late/MS/rest     what rest gives, MS milliseconds later
//	/-hang/...         never
//	/-stall/rest       half of rest, then nothing more
//	/-broken/rest      half of rest, then the connection is closed
//	/-dribble/rest     rest in eight pieces, 20 ms apart
//	/-status/N/rest    rest with the status N
//	/-type/a/b/rest    rest with the content type a/b
//	/-cached/rest      rest, to be kept an hour
//	/-to/...           a redirect to /...
//	/-circle/...       a redirect to itself
//	/-download/rest    rest as an attachment
//	/-stream/...       server-sent events that never end
//	/-media/...        a body that never ends
//	/-socket           a web socket that says nothing
//	/-echo/text        text
//	/-huge/N           N bytes
type corpusServer struct {
	*httptest.Server
	mu    sync.Mutex
	pages map[string]map[string][]byte
}

func newCorpusServer(t *testing.T) *corpusServer {
	s := &corpusServer{pages: map[string]map[string][]byte{}}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	t.Cleanup(s.CloseClientConnections)
	return s
}

// url is the origin of a page. Every name below localhost is this machine.
func (s *corpusServer) url(name string) string {
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	return "http://" + name + ".localhost:" + port
}

// put adds a page's files.
func (s *corpusServer) put(name string, files map[string][]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pages[name] = files
}

func (s *corpusServer) file(host, name string) ([]byte, bool) {
	page, site, _ := strings.Cut(host, ".")
	if strings.HasPrefix(site, "stranger.") {
		name = "/stranger" + name
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	data, ok := s.pages[page][name]
	return data, ok
}

func (s *corpusServer) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Access-Control-Allow-Origin", "*")
	_, _ = io.Copy(io.Discard, r.Body) // until it is read the end of the connection is not noticed
	s.answer(w, r, r.URL.Path, http.StatusOK)
}

// answer answers as the path says, one verb at a time.
func (s *corpusServer) answer(w http.ResponseWriter, r *http.Request, at string, status int) {
	verb, rest := "", at
	if strings.HasPrefix(at, "/-") {
		verb, rest, _ = strings.Cut(at[2:], "/")
		rest = "/" + rest
	}
	first, after, _ := strings.Cut(rest[1:], "/")
	after = "/" + after
	switch verb {
	case "late":
		ms, _ := strconv.Atoi(first)
		select {
		case <-time.After(time.Duration(ms) * time.Millisecond):
			s.answer(w, r, after, status)
		case <-r.Context().Done():
		}
	case "hang":
		<-r.Context().Done()
	case "status":
		code, _ := strconv.Atoi(first)
		s.answer(w, r, after, code)
	case "type":
		second, third, _ := strings.Cut(after[1:], "/")
		w.Header().Set("Content-Type", first+"/"+second)
		s.answer(w, r, "/"+third, status)
	case "cached":
		w.Header().Set("Cache-Control", "max-age=3600")
		s.answer(w, r, rest, status)
	case "to":
		http.Redirect(w, r, rest, http.StatusFound)
	case "circle":
		http.Redirect(w, r, at, http.StatusFound)
	case "download":
		w.Header().Set("Content-Disposition", "attachment")
		s.answer(w, r, rest, status)
	case "stream":
		pieces(w, r, "text/event-stream", "data: tick\n\n")
	case "media":
		pieces(w, r, "video/mp4", "\x00\x00\x00\x18ftypmp42")
	case "socket":
		socket(w, r)
	case "echo":
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, rest[1:])
	case "huge":
		n, _ := strconv.Atoi(first)
		_, _ = w.Write(make([]byte, n))
	default:
		s.body(w, r, verb, rest, status)
	}
}

// body sends a file, whole or as the verb has it.
func (s *corpusServer) body(w http.ResponseWriter, r *http.Request, verb, name string, status int) {
	data, ok := s.file(r.Host, name)
	if !ok && status == http.StatusOK {
		http.NotFound(w, r)
		return
	}
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", mime.TypeByExtension(path.Ext(name)))
	}
	if verb == "broken" || verb == "stall" {
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	}
	w.WriteHeader(status)
	flush := http.NewResponseController(w).Flush
	switch verb {
	case "":
		_, _ = w.Write(data)
	case "broken", "stall":
		_, _ = w.Write(data[:len(data)/2])
		_ = flush()
		if verb == "broken" {
			panic(http.ErrAbortHandler)
		}
		<-r.Context().Done()
	case "dribble":
		for piece := range bytes.SplitSeq(data, []byte("|")) {
			_, _ = w.Write(piece)
			_ = flush()
			select {
			case <-time.After(20 * time.Millisecond):
			case <-r.Context().Done():
				return
			}
		}
	}
}

// pieces sends a piece ten times a second until the page is closed.
func pieces(w http.ResponseWriter, r *http.Request, kind, piece string) {
	w.Header().Set("Content-Type", kind)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		_, _ = io.WriteString(w, piece)
		_ = http.NewResponseController(w).Flush()
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		}
	}
}

// socket shakes hands and then says nothing.
func socket(w http.ResponseWriter, r *http.Request) {
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // see the import
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, "no web socket", http.StatusBadRequest)
		return
	}
	defer conn.Close()
	_, _ = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
		base64.StdEncoding.EncodeToString(sum[:]))
	_, _ = io.Copy(io.Discard, conn) // until the page is closed
}
