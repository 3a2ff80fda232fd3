package realm

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"

	"github.com/rewarm/rewarm/internal/client"
	"github.com/rewarm/rewarm/internal/wire"
)

// plain is the body as it was before it was encoded.
func (a answer) plain(t *testing.T) string {
	t.Helper()
	var r io.Reader = strings.NewReader(a.body)
	var err error
	switch coding := a.header.Get("Content-Encoding"); coding {
	case "":
	case "br":
		r = brotli.NewReader(r)
	case "gzip":
		r, err = gzip.NewReader(r)
	case "zstd":
		r, err = zstd.NewReader(r, zstd.WithDecoderMaxWindow(8<<20))
	default:
		t.Fatalf("encoded in %q", coding)
	}
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

var longText = strings.Repeat("a long text that becomes shorter. ", 100)

// TestEveryBodyComesInEveryCoding asks for a page, the bare shell and an asset.
func TestEveryBodyComesInEveryCoding(t *testing.T) {
	o, f, _ := rendering(t)
	f.visited = func(_ wire.VisitRequest, call client.Call) (client.VisitAnswer, error) {
		return ready(call.Pin, longText), nil
	}
	bare := strings.Replace(shellOf("aaaaaaa1"), "</head>", "<style>/*"+longText+"*/</style></head>", 1)
	put(t, o.Host, map[string]string{"assets/long.js": "//" + longText, "index.html": bare})
	s, _ := start(t, o)
	get(t, s, "/page")
	page := hit(t, s, "/page").body
	for target, want := range map[string]string{"/page": page, "/index.html": bare, "/assets/long.js": "//" + longText} {
		tags := map[string]bool{}
		for _, accept := range []string{"identity", "gzip", "br", "zstd", "gzip, deflate, br, zstd"} {
			a := get(t, s, target, "Accept-Encoding", accept)
			coding := strings.TrimPrefix(accept[max(0, strings.LastIndex(accept, " ")+1):], "identity")
			if a.code != http.StatusOK || a.plain(t) != want || a.header.Get("Content-Encoding") != coding || a.header.Get("Vary") != "Accept-Encoding" {
				t.Errorf("%s in %s: %d %v", target, accept, a.code, a.header)
			}
			tag := a.header.Get("ETag")
			tags[tag] = true
			if head := ask(t, s, http.MethodHead, target, "Accept-Encoding", accept); head.body != "" ||
				head.header.Get("Content-Length") != a.header.Get("Content-Length") || head.header.Get("ETag") != tag || head.header.Get("Content-Encoding") != coding {
				t.Errorf("HEAD %s in %s: %v", target, accept, head.header)
			}
			for _, has := range []string{tag, "W/" + tag, `"x", "a,b" , W/` + tag, "*"} {
				b := get(t, s, target, "Accept-Encoding", accept, "If-None-Match", has)
				h := b.header
				if b.code != http.StatusNotModified || b.body != "" || h.Get("ETag") != tag || h.Get("Vary") != "Accept-Encoding" ||
					h.Get("Cache-Control") != a.header.Get("Cache-Control") || h.Get("Content-Encoding")+h.Get("Content-Type") != "" {
					t.Errorf("%s in %s, has %s: %d %v", target, accept, has, b.code, h)
				}
			}
			// Of what it has in another coding nothing may be assumed.
			if b := get(t, s, target, "Accept-Encoding", "identity", "If-None-Match", tag); (b.code == http.StatusNotModified) != (coding == "") {
				t.Errorf("%s without a coding, has %s: %d", target, tag, b.code)
			}
		}
		if len(tags) != 4 {
			t.Errorf("%s: the ETags of four codings are %v", target, tags)
		}
	}
}

func TestConditionsThatDoNotHold(t *testing.T) {
	s, _ := start(t, options(t))
	tag := get(t, s, "/").header.Get("ETag")
	for _, has := range []string{"", `"`, "x", strings.Trim(tag, `"`), `"x, *, y"`, `"x` + tag, `W/W/` + tag, `*, "x"`, strings.Repeat(`"x",`, 9000)} {
		if a := get(t, s, "/", "If-None-Match", has); a.code != http.StatusOK {
			t.Errorf("%.40q: %d", has, a.code)
		}
	}
}

func TestRangesAreOfTheFileItself(t *testing.T) {
	o := options(t)
	text := strings.Repeat("0123456789", 1000)
	put(t, o.Host, map[string]string{"data.json": text})
	s, _ := start(t, o)
	whole := get(t, s, "/data.json", "Accept-Encoding", "gzip")
	plain := get(t, s, "/data.json")
	all := "gzip, br, zstd"
	for _, c := range []struct {
		ranges, ifRange, want string
		code                  int
	}{
		{"bytes=10-14", "", "01234", http.StatusPartialContent},
		{"bytes=-3", plain.header.Get("ETag"), "789", http.StatusPartialContent},
		{"bytes=0-1", whole.header.Get("ETag"), text, http.StatusOK}, // of other bytes
		{"bytes=10000-", "", "", http.StatusRequestedRangeNotSatisfiable},
	} {
		headers := []string{"Accept-Encoding", all, "Range", c.ranges}
		if c.ifRange != "" {
			headers = append(headers, "If-Range", c.ifRange)
		}
		a := get(t, s, "/data.json", headers...)
		if a.code != c.code || c.want != "" && a.body != c.want || a.header.Get("Content-Encoding") != "" || a.header.Get("Vary") != "Accept-Encoding" {
			t.Errorf("%s of %s: %d %v", c.ranges, c.ifRange, a.code, a.header)
		}
	}
	if whole.code != http.StatusOK || whole.plain(t) != text {
		t.Errorf("%d %v", whole.code, whole.header)
	}
}

func TestWhatWouldNotBecomeSmallerIsSentAsItIs(t *testing.T) {
	o := options(t)
	var noise bytes.Buffer // what is compressed already
	w, err := zstd.NewWriter(&noise)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5000 {
		_, _ = w.Write([]byte{byte(i * i * i >> 3), byte(i * 31 >> 2)})
	}
	_ = w.Close()
	put(t, o.Host, map[string]string{"small.js": "1", "photo.png": longText, "noise.txt": noise.String()})
	s, _ := start(t, o)
	for target, vary := range map[string]string{"/small.js": "Accept-Encoding", "/photo.png": "", "/noise.txt": "Accept-Encoding"} {
		for range 2 {
			a := get(t, s, target, "Accept-Encoding", "gzip, br, zstd")
			if a.code != http.StatusOK || a.header.Get("Content-Encoding") != "" || a.header.Get("Vary") != vary {
				t.Errorf("%s: %d %v", target, a.code, a.header)
			}
		}
	}
}

// TestBodiesAreEncodedOnce has many ask at once, and looks at what is kept.
func TestBodiesAreEncodedOnce(t *testing.T) {
	o := options(t)
	put(t, o.Host, map[string]string{"long.js": "//" + strings.Repeat(longText, 100)})
	s, _ := start(t, o)
	var callers sync.WaitGroup
	for range 20 {
		callers.Go(func() { get(t, s, "/long.js", "Accept-Encoding", "br") })
	}
	callers.Wait()
	first, _ := s.encodings.get(encodedKey{s.releases.Load().current().files["long.js"].tag(), 2})
	get(t, s, "/long.js", "Accept-Encoding", "br")
	again, _ := s.encodings.get(encodedKey{first.tag[:32], 2})
	if first != again || s.encodings.order.Len() != 1 || len(s.encodings.flights) != 0 {
		t.Errorf("%d bodies are kept, %d in flight", s.encodings.order.Len(), len(s.encodings.flights))
	}
}

func TestFileThatIsGoneIsNotKeptByAnyCache(t *testing.T) {
	o := options(t)
	put(t, o.Host, map[string]string{"assets/gone-8f3a9c1d.js": "//" + longText})
	s, _ := start(t, o)
	f := s.releases.Load().current().files["assets/gone-8f3a9c1d.js"]
	if err := s.depot.root.Remove(blobName(f.Sum)); err != nil {
		t.Fatal(err)
	}
	for _, accept := range []string{"identity", "br"} {
		a := get(t, s, "/assets/gone-8f3a9c1d.js", "Accept-Encoding", accept)
		if a.code != http.StatusNotFound || a.header.Get("Cache-Control") != "no-store" || a.header.Get("ETag") != "" {
			t.Errorf("%s: %d %v", accept, a.code, a.header)
		}
	}
}
