package pool_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rewarm/rewarm/internal/pool"
)

const deepest = 8

// chains are renders whose pages ask for other renders and wait for them.
type chains struct {
	*world
	waits map[pool.RequestID]int            // for so many renders that are not done
	above map[pool.RequestID]pool.RequestID // that waits for the render
}

// mayFinish are the pages whose renders wait for nothing.
func (c *chains) mayFinish() (pages []pool.PageID) {
	for _, id := range slices.Sorted(maps.Keys(c.busy)) {
		if c.waits[c.busy[id]] == 0 {
			pages = append(pages, id)
		}
	}
	return pages
}

func (c *chains) finish(id pool.PageID) {
	c.waits[c.above[c.busy[id]]]--
	c.finishRender(id, true)
}

// nest has the page that renders on id ask for a render.
func (c *chains) nest(id pool.PageID, owner pool.Owner) {
	above := c.busy[id]
	if depth := c.asked[above].Depth + 1; depth <= deepest {
		c.waits[above]++
		c.above[c.next+1] = above // before it is answered
		c.ask(pool.Request{Owner: owner, Depth: depth, Deadline: c.now.Add(time.Hour)})
	}
}

// However many pages wait for how many others, of which affinity, during a
// recycle or not: nothing waits for ever, and the pool has its size afterwards.
func TestF04_ModelChainsOfRendersEnd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := &chains{world: newWorld(t), waits: map[pool.RequestID]int{}, above: map[pool.RequestID]pool.RequestID{}}
		c.do(c.pool.Learn(c.now, 1, "r1"))
		c.do(c.pool.Permit(c.now, "r1"))
		c.settleFor(20)
		for range rapid.IntRange(1, 12).Draw(t, "callers") {
			c.ask(pool.Request{Owner: owners(t), Deadline: c.now.Add(time.Hour)})
		}
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 5).Draw(t, "step") {
			case 0, 1, 2:
				if ids := slices.Sorted(maps.Keys(c.busy)); len(ids) > 0 {
					c.nest(rapid.SampledFrom(ids).Draw(t, "page that asks"), owners(t))
				}
			case 3:
				if ids := c.mayFinish(); len(ids) > 0 {
					c.finish(rapid.SampledFrom(ids).Draw(t, "page that is done"))
				}
			case 4:
				if ids := slices.Sorted(maps.Keys(c.warming)); len(ids) > 0 {
					c.finishWarmUp(rapid.SampledFrom(ids).Draw(t, "page that is warm"))
				}
			case 5:
				c.host = "r2"
				c.do(c.pool.Learn(c.now, 2, "r2"))
				c.do(c.pool.Permit(c.now, "r2"))
			}
			c.pass(100 * time.Millisecond)
		}
		for n := 0; len(c.answered) < len(c.asked) || len(c.busy) > 0; n++ {
			if n > 200 {
				t.Fatalf("renders wait for each other for ever: %d of %d answered, busy %v, %+v", len(c.answered), len(c.asked), c.busy, c.pool.Status())
			}
			for _, id := range slices.Sorted(maps.Keys(c.warming)) {
				c.finishWarmUp(id)
			}
			for _, id := range c.mayFinish() {
				c.finish(id)
			}
			c.pass(time.Second)
		}
		c.settle()
		if s := c.pool.Status(); s.Capacity != c.options.Min || len(c.open) != c.options.Min {
			t.Fatalf("status in the end: %+v", s)
		}
	})
}

// One page, an owner that may have no other, a full queue: what its page waits
// for is rendered beside it.
func TestF04_NestedRequestIsNotQueuedBehindItsOwn(t *testing.T) {
	p := pool.New(pool.Options{Size: 1, PerOwner: 1, Queue: 2})
	p.Learn(t0, 1, "r1")
	p.Permit(t0, "r1")
	p.Warmed(t0, 1, "r1")
	for id := range pool.RequestID(3) { // one renders, two wait
		submit(p, id+1)
	}
	warm := kinds(p.Submit(t0, pool.Request{ID: 4, Owner: owner, Depth: 1, Deadline: t0.Add(time.Minute)}), pool.Warm)
	if len(warm) != 1 {
		t.Fatalf("%d pages are warmed for it", len(warm))
	}
	actions := p.Warmed(t0, warm[0], "r1")
	if len(actions) != 1 || actions[0].Kind != pool.Grant || actions[0].Request != 4 {
		t.Fatalf("%+v when its page is warm", actions)
	}
	actions = p.Done(t0, warm[0], true)
	if len(actions) != 1 || actions[0].Kind != pool.Close || actions[0].Page != warm[0] {
		t.Fatalf("%+v when it is done", actions)
	}
}

// A page that was warmed beside all others for what a nested render waits for
// does not stay for one less deep: the next as deep would need one more, and so
// on, as long as any wait.
func TestF04_APageForDeepRendersDoesNotStayForOthers(t *testing.T) {
	p := pool.New(pool.Options{Size: 1, PerOwner: 1, Queue: 2})
	p.Learn(t0, 1, "r1")
	p.Permit(t0, "r1")
	p.Warmed(t0, 1, "r1")
	submit(p, 1)
	ask := func(id pool.RequestID, depth int) []pool.PageID {
		return kinds(p.Submit(t0, pool.Request{ID: id, Owner: owner, Depth: depth, Deadline: t0.Add(time.Minute)}), pool.Warm)
	}
	one := ask(2, 1)
	p.Warmed(t0, one[0], "r1")
	ask(3, 1) // waits for the page that renders 2
	two := ask(4, 2)
	p.Warmed(t0, two[0], "r1")
	actions := p.Done(t0, two[0], true)
	if len(actions) != 1 || actions[0].Kind != pool.Close || actions[0].Page != two[0] {
		t.Errorf("%+v when the deep render is done", actions)
	}
	actions = p.Done(t0, one[0], true)
	if len(actions) != 1 || actions[0].Kind != pool.Grant || actions[0].Request != 3 {
		t.Errorf("%+v when the other is done", actions)
	}
}
