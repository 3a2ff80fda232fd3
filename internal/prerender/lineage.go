package prerender

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"sync"

	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/wire"
)

// maxDepth is how many renders may wait for one. Each holds a page, here or on
// another server, and an application that needs as many to show one is asking
// for renders that ask for each other without end.
const maxDepth = 8

// lineage knows which renders that run here wait for which. The requests of a
// page carry an id that names its render ([wire.Descendant]); a backend that
// passes it on with a render tells that the page waits for that.
type lineage struct {
	mu      sync.Mutex
	running map[*errand]bool
}

// errand is a render that runs here.
type errand struct {
	root   string  // id of the first request of its chain
	carry  string  // id that its page's requests carry
	depth  int     // how many wait for it; 0 too when none of its chain runs here
	work   string  // what it is about: no other like it can be in its chain
	name   string  // in an error
	parent *errand // that waits for it, if that runs here
}

// begin notes a render; its page's requests are to carry the errand's id. A
// render that waits for itself, here and now, is refused with the chain.
func (l *lineage) begin(a ask) (*errand, error) {
	visit := a.task.Visit
	root, depth := wire.Lineage(visit.RequestID)
	e := &errand{
		root: root, carry: wire.Descendant(visit.RequestID, rand.Uint32()), depth: depth,
		work: fmt.Sprint(a.task.Kind, " ", a.subject, " ", string(a.task.Input)), name: nameOf(a.subject),
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if depth > maxDepth {
		return nil, fault.New(fault.Cycle, "%d renders wait for this one, more than %d: %s", depth, maxDepth, l.chain(e))
	}
	family := false
	for other := range l.running {
		family = family || other.root == root
		if depth > 0 && other.carry == visit.RequestID {
			e.parent = other
		}
	}
	if !family {
		e.depth = 0 // it waits for no page of ours, and is ordinary work here
	}
	if other := l.awaits(e); other != nil {
		return nil, fault.New(fault.Cycle, "wait-for cycle: %s", l.chain(e))
	}
	l.running[e] = true
	return e, nil
}

// awaits is a render of the same work that waits for e. Where the chain left
// this server, what is of the same chain and less deep is taken to wait for it.
func (l *lineage) awaits(e *errand) *errand {
	last := e
	for up := e.parent; up != nil; last, up = up, up.parent {
		if up.work == e.work {
			return up
		}
	}
	for other := range l.running {
		if other.root == e.root && other.depth < last.depth && other.work == e.work {
			return other
		}
	}
	return nil
}

// chain names the renders that wait for e, the first one first, and e.
func (l *lineage) chain(e *errand) string {
	names, last := []string{e.name}, e
	for up := e.parent; up != nil; last, up = up, up.parent {
		names = append([]string{up.name}, names...)
		if up.work == e.work {
			return strings.Join(names, " -> ") // what led there is not part of it
		}
	}
	if last.depth > 0 {
		names = append([]string{e.name, "..."}, names...) // elsewhere
	}
	return strings.Join(names, " -> ")
}

func (l *lineage) end(e *errand) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.running, e)
}

// nameOf is a URL without its origin, which a chain mostly has in common.
func nameOf(subject string) string {
	if u, err := url.Parse(subject); err == nil && u.Host != "" {
		return u.RequestURI()
	}
	return subject
}
