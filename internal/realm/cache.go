package realm

import (
	"container/list"
	"sync"

	"github.com/rewarm/rewarm/internal/words"
)

// maxPageBytes bounds the composed pages kept in memory.
const maxPageBytes = 64 << 20

// pageKey is a page's identity; the token is part of it, so a page of one
// release can never be found under another.
type pageKey struct {
	token words.Token
	url   string
}

// page is a snapshot as it is served. It never changes.
type page struct {
	key      pageKey
	snapshot words.Snapshot // without its HTML
	html     []byte         // nil: nothing to show, the bare shell is served
	etag     string
}

// pageCache keeps the pages asked for last.
type pageCache struct {
	mu    sync.Mutex
	byKey map[pageKey]*list.Element
	order *list.List // front: last used
	bytes int
	limit int
}

func newPageCache(limit int) *pageCache {
	return &pageCache{byKey: map[pageKey]*list.Element{}, order: list.New(), limit: limit}
}

func (c *pageCache) get(key pageKey) *page {
	c.mu.Lock()
	defer c.mu.Unlock()
	element := c.byKey[key]
	if element == nil {
		return nil
	}
	c.order.MoveToFront(element)
	return element.Value.(*page)
}

func (c *pageCache) put(p *page) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(c.byKey[p.key])
	c.byKey[p.key] = c.order.PushFront(p)
	c.bytes += size(p)
	for c.bytes > c.limit {
		c.remove(c.order.Back())
	}
}

func (c *pageCache) drop(key pageKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(c.byKey[key])
}

// remove needs the lock.
func (c *pageCache) remove(element *list.Element) {
	if element == nil {
		return
	}
	p := element.Value.(*page)
	delete(c.byKey, p.key)
	c.order.Remove(element)
	c.bytes -= size(p)
}

// size counts the entry's own weight too, else empty pages would be free.
func size(p *page) int { return len(p.html) + len(p.key.url) + 512 }
