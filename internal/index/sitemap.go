package index

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Bounds of a sitemap (sitemaps.org: 50,000 URLs and 50 MB, unfolded).
const (
	MaxSitemapBytes   = 50 << 20
	MaxSitemapEntries = 50_000
)

// Sitemap is what one sitemap file lists.
type Sitemap struct {
	Pages    []string // by falling priority, otherwise as listed
	Sitemaps []string // that an index file names
	// Cut says that the file has more than a sitemap may have.
	Cut bool
}

// ReadSitemap reads a sitemap, an index of sitemaps, or a list of URLs with one
// a line, each plain or gzipped. What is beyond the bounds is left out; a file
// that breaks off gives what came before, and an error.
func ReadSitemap(file io.Reader) (Sitemap, error) {
	return readSitemap(file, MaxSitemapBytes, MaxSitemapEntries)
}

func readSitemap(file io.Reader, maxBytes int64, maxEntries int) (Sitemap, error) {
	buffered := bufio.NewReader(file)
	if magic, err := buffered.Peek(2); err == nil && magic[0] == 0x1f && magic[1] == 0x8b {
		unfolded, err := gzip.NewReader(buffered)
		if err != nil {
			return Sitemap{}, fmt.Errorf("sitemap: %w", err)
		}
		buffered = bufio.NewReader(unfolded)
	}
	limited := &io.LimitedReader{R: buffered, N: maxBytes}
	start, _ := buffered.Peek(512)
	start = bytes.TrimPrefix(start, []byte("\xef\xbb\xbf"))
	var s Sitemap
	var err error
	if bytes.HasPrefix(bytes.TrimSpace(start), []byte("<")) {
		err = s.readXML(limited, maxEntries)
	} else {
		err = s.readLines(limited, maxEntries)
	}
	if limited.N <= 0 {
		s.Cut, err = true, nil
	}
	return s, err
}

// entry is a <url> or <sitemap>; namespaces do not matter to anyone in practice.
type entry struct {
	Loc      string `xml:"loc"`
	Priority string `xml:"priority"`
}

func (s *Sitemap) readXML(r io.Reader, maxEntries int) error {
	type listed struct {
		url      string
		priority float64
	}
	var pages []listed
	defer func() {
		slices.SortStableFunc(pages, func(a, b listed) int { return cmp.Compare(b.priority, a.priority) })
		for _, page := range pages {
			s.Pages = append(s.Pages, page.url)
		}
	}()
	decoder := xml.NewDecoder(r)
	decoder.Strict = false
	decoder.CharsetReader = func(_ string, in io.Reader) (io.Reader, error) { return in, nil }
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("sitemap: %w", err)
		}
		start, ok := token.(xml.StartElement)
		if !ok || start.Name.Local != "url" && start.Name.Local != "sitemap" {
			continue
		}
		if len(pages)+len(s.Sitemaps) >= maxEntries {
			s.Cut = true
			return nil
		}
		var e entry
		if err := decoder.DecodeElement(&e, &start); err != nil {
			return fmt.Errorf("sitemap: %w", err)
		}
		loc := strings.TrimSpace(e.Loc)
		switch {
		case loc == "" || len(loc) > MaxURL:
		case start.Name.Local == "sitemap":
			s.Sitemaps = append(s.Sitemaps, loc)
		default:
			priority, err := strconv.ParseFloat(strings.TrimSpace(e.Priority), 64)
			if err != nil || !(priority >= 0 && priority <= 1) {
				priority = 0.5 // what sitemaps.org says of one that has none
			}
			pages = append(pages, listed{loc, priority})
		}
	}
}

func (s *Sitemap) readLines(r io.Reader, maxEntries int) error {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if s.Cut = len(s.Pages) >= maxEntries; s.Cut {
			return nil
		}
		line := strings.TrimSpace(strings.TrimPrefix(lines.Text(), "\xef\xbb\xbf"))
		if len(line) <= MaxURL && (strings.HasPrefix(line, "http://") || strings.HasPrefix(line, "https://")) {
			s.Pages = append(s.Pages, line)
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("sitemap: %w", err)
	}
	return nil
}
