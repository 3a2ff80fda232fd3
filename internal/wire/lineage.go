package wire

import (
	"fmt"
	"regexp"
	"strconv"
)

// maxRoot bounds what a descendant's id keeps of the first id: both together
// are no longer than an id may be.
const maxRoot = 64 - len("--1") - len("00000000")

var descendant = regexp.MustCompile(`^(.+)--([1-9a-f])[0-9a-f]{8}$`)

// Descendant is the id that the requests of a page carry while it renders the
// request with the given id: "<root>--<depth><tag>". Whoever passes it on with
// a render tells that a page waits for that render, and which; an id that a
// caller merely uses twice does not say so. The tag names the waiting render.
func Descendant(id string, tag uint32) string {
	root, depth := Lineage(id)
	return fmt.Sprintf("%s--%x%08x", root, min(depth+1, 15), tag)
}

// Lineage is the id of the first request of a chain of renders that wait for
// each other, and how many wait for the one with this id.
func Lineage(id string) (root string, depth int) {
	root = id
	if m := descendant.FindStringSubmatch(id); m != nil {
		n, _ := strconv.ParseUint(m[2], 16, 8)
		root, depth = m[1], int(n)
	}
	return root[:min(len(root), maxRoot)], depth
}
