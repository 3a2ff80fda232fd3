package realm

import (
	"container/list"
	"context"
	"errors"
	"sync"
)

// cache keeps what was asked for last, within a bound of bytes. Values never
// change.
type cache[K comparable, V any] struct {
	mu      sync.Mutex
	byKey   map[K]*list.Element
	order   *list.List // of *cached, front: last used
	bytes   int
	limit   int
	flights map[K]*loading[V]
}

type cached[K comparable, V any] struct {
	key   K
	value V
	bytes int
}

// loading is a value being made, however many ask for it.
type loading[V any] struct {
	done  chan struct{}
	value V // read after done, as is err
	err   error
}

// errLoading is what callers get who waited for a load that panicked.
var errLoading = errors.New("not loaded")

func newCache[K comparable, V any](limit int) *cache[K, V] {
	return &cache[K, V]{byKey: map[K]*list.Element{}, order: list.New(), limit: limit, flights: map[K]*loading[V]{}}
}

func (c *cache[K, V]) get(key K) (value V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	element := c.byKey[key]
	if element == nil {
		return value, false
	}
	c.order.MoveToFront(element)
	return element.Value.(*cached[K, V]).value, true
}

// put keeps a value of so many bytes, its own overhead included.
func (c *cache[K, V]) put(key K, value V, bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(c.byKey[key])
	c.byKey[key] = c.order.PushFront(&cached[K, V]{key, value, bytes})
	for c.bytes += bytes; c.bytes > c.limit; {
		c.remove(c.order.Back())
	}
}

func (c *cache[K, V]) drop(key K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(c.byKey[key])
}

// dropAll drops what has a key that is gone.
func (c *cache[K, V]) dropAll(gone func(key K) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, element := range c.byKey {
		if gone(key) {
			c.remove(element)
		}
	}
}

// remove needs the lock.
func (c *cache[K, V]) remove(element *list.Element) {
	if element == nil {
		return
	}
	kept := element.Value.(*cached[K, V])
	delete(c.byKey, kept.key)
	c.order.Remove(element)
	c.bytes -= kept.bytes
}

// once is the value kept, or what load gives, which one caller runs: others that
// ask meanwhile get what came of it, or leave when their context ends. load must
// not depend on the context of who happens to run it, and puts what is to be
// kept.
func (c *cache[K, V]) once(ctx context.Context, key K, load func() (V, error)) (V, error) {
	c.mu.Lock()
	if element := c.byKey[key]; element != nil { // since the caller looked
		c.mu.Unlock()
		return element.Value.(*cached[K, V]).value, nil
	}
	f, flying := c.flights[key]
	if !flying {
		f = &loading[V]{done: make(chan struct{}), err: errLoading}
		c.flights[key] = f
	}
	c.mu.Unlock()
	if flying {
		select {
		case <-f.done:
			return f.value, f.err
		case <-ctx.Done():
			var none V
			return none, ctx.Err()
		}
	}
	defer func() { // after a panic too
		c.mu.Lock()
		delete(c.flights, key)
		c.mu.Unlock()
		close(f.done)
	}()
	f.value, f.err = load()
	return f.value, f.err
}
