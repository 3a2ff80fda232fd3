package pool

import "slices"

// nestedWarmUp is the page to warm for a request that a render waits for, be
// it beyond the size: one at a time for each depth. So of all renders that wait
// the deepest gets a page, as soon as those as deep as it are done, which wait
// for nothing; and every chain ends. The page is closed when there is no more
// use for it. The memory budget does not count it: it is there for a moment, and
// without it the pages that wait would be held for longer.
func (p *Pool) nestedWarmUp(waiting []*Request, due func(purpose) bool) *page {
	for _, r := range waiting {
		if r.Depth == 0 || p.nests(r.Depth) {
			continue
		}
		if p.stockServes(r) && due(forNested) {
			return &page{purpose: forNested, depth: r.Depth}
		}
		if !p.stockServes(r) && due(forPin) {
			return &page{purpose: forPin, depth: r.Depth, pin: p.pin(r)}
		}
	}
	return nil
}

// nests reports whether a page is there, or on its way, for renders of the
// depth or deeper.
func (p *Pool) nests(depth int) bool {
	for _, pg := range p.pages {
		if pg.depth >= depth {
			return true
		}
	}
	return false
}

// nested counts the pages that render what other renders wait for.
func (p *Pool) nested() int {
	n := 0
	for _, pg := range p.pages {
		if pg.state != warming && pg.depth > 0 {
			n++
		}
	}
	return n
}

// isReserve reports whether the page, whose render of the depth is done, is beyond
// the size for renders like that, and no other such waits for it. For those less
// deep it does not stay: they have a page of their own, and for each that such
// pages took the next one as deep as this would need one more.
func (p *Pool) isReserve(pg *page, depth int) bool {
	return depth > 0 && p.live() > p.size && !slices.ContainsFunc(p.queue, func(r *Request) bool { return r.Depth >= depth && p.suits(pg, r) })
}
