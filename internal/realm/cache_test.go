package realm

import (
	"context"
	"errors"
	"sync"
	"testing"
)

func TestCacheIsBoundedInBytes(t *testing.T) {
	c := newCache[int, string](4 << 10)
	for i := range 100 {
		c.put(i, "value", 1000)
		if c.bytes > c.limit || c.order.Len() != len(c.byKey) {
			t.Fatalf("%d bytes in %d of %d entries", c.bytes, c.order.Len(), len(c.byKey))
		}
	}
	if _, ok := c.get(99); !ok {
		t.Error("the last put is gone")
	}
	if _, ok := c.get(0); ok {
		t.Error("the first put is still there")
	}
	c.get(96)
	if c.put(100, "value", 1000); c.byKey[96] == nil || c.byKey[97] != nil {
		t.Error("what was asked for last stays, and the oldest goes")
	}
	c.put(96, "another", 1)
	if c.put(101, "too large", 5000); c.bytes != 0 || len(c.byKey) != 0 {
		t.Errorf("%d bytes of %d entries after what is larger than all", c.bytes, len(c.byKey))
	}
}

func TestCacheLoadsOnceForAll(t *testing.T) {
	c := newCache[string, int](1000)
	begun, finish := make(chan struct{}), make(chan struct{})
	loads := 0
	load := func() (int, error) {
		loads++
		close(begun)
		<-finish
		c.put("x", 7, 1)
		return 7, nil
	}
	var callers sync.WaitGroup
	callers.Go(func() { _, _ = c.once(t.Context(), "x", load) })
	<-begun
	for range 10 {
		callers.Go(func() {
			if got, err := c.once(t.Context(), "x", load); got != 7 || err != nil {
				t.Error(got, err)
			}
		})
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	if _, err := c.once(gone, "x", load); !errors.Is(err, context.Canceled) {
		t.Errorf("who is gone waits on: %v", err)
	}
	close(finish)
	callers.Wait()
	if got, _ := c.once(t.Context(), "x", load); got != 7 || loads != 1 || len(c.flights) != 0 {
		t.Errorf("%d after %d loads", got, loads)
	}
}

func TestCacheForgetsALoadThatPanicked(t *testing.T) {
	c := newCache[string, int](1000)
	func() {
		defer func() { _ = recover() }()
		_, _ = c.once(t.Context(), "x", func() (int, error) { panic("oh") })
	}()
	if got, err := c.once(t.Context(), "x", func() (int, error) { return 1, nil }); got != 1 || err != nil {
		t.Error(got, err)
	}
}
