package ledger

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rewarm/rewarm/internal/words"
)

// FuzzSnapshot decodes what a store may hold.
func FuzzSnapshot(f *testing.F) {
	c, err := newCodec()
	if err != nil {
		f.Fatal(err)
	}
	meta := []byte(`{"v":1,"realm":"http://a","token":"t","url":"http://a/x","renderedAt":"2026-01-02T03:04:05Z","status":"ready","headers":{"Link":"<x>"}}` + "\n")
	bomb := c.encoder.EncodeAll(make([]byte, MaxSnapshotRaw), nil)
	f.Add(c.encoder.EncodeAll([]byte("<p>x"), meta))
	f.Add(append(meta, bytes.Repeat(bomb, 3)...))
	f.Add(meta)
	f.Add([]byte(`{}` + "\n\x28\xb5\x2f\xfd"))
	f.Fuzz(func(t *testing.T, value []byte) {
		s, err := c.decode(value, true)
		if err != nil {
			return
		}
		if len(s.HTML) > MaxSnapshotRaw {
			t.Errorf("%d bytes became %d", len(value), len(s.HTML))
		}
		listed, err := c.decode(value, false)
		if listed.HTML = s.HTML; err != nil || !cmp.Equal(s, listed) {
			t.Errorf("listed it is another: %v %s", err, cmp.Diff(s, listed))
		}
		stored(t, c, s)
	})
}

// FuzzStoredSnapshot stores what a page gave.
func FuzzStoredSnapshot(f *testing.F) {
	c, err := newCodec()
	if err != nil {
		f.Fatal(err)
	}
	f.Add("http://a", "t", "http://a/x", "Link", "<x>", "<p>x")
	f.Add("http://a//", " t", "http://a/%ff", "", "\n", "\x00\xff")
	f.Fuzz(func(t *testing.T, realm, token, url, name, value, html string) {
		stored(t, c, words.Snapshot{
			Realm: realm, Token: words.Token(token), URL: url, RenderedAt: time.Unix(0, 0).UTC(), Status: words.StatusReady,
			Headers: map[string]string{strings.ToValidUTF8(name, ""): strings.ToValidUTF8(value, "")}, HTML: html,
		})
		for part := range strings.SplitSeq(snapshotKey(realm, words.Token(token), url), ".") {
			if part == "" || strings.ContainsFunc(part, func(r rune) bool {
				return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && !strings.ContainsRune("-_=", r)
			}) {
				t.Errorf("%q is no part of a key", part)
			}
		}
	})
}

// stored holds that what is taken comes back as it was.
func stored(t *testing.T, c codec, s words.Snapshot) {
	t.Helper()
	value, err := c.encode(s)
	if err != nil {
		return
	}
	if len(value) > MaxSnapshotStored {
		t.Errorf("a value has %d bytes", len(value))
	}
	again, err := c.decode(value, true)
	if diff := cmp.Diff(s, again, cmpopts.EquateEmpty()); err != nil || diff != "" {
		t.Errorf("%+v came back as another: %v %s", s, err, diff)
	}
}
