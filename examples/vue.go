package examples

import (
	"embed"
	"fmt"
	"io/fs"
	"slices"
)

//go:embed all:vue/dist
var vueBuilds embed.FS

// Vue is a pilot book of harbours, as Vite builds it from an ordinary Vue
// application with Vue Router: lazy routes, data that is fetched before a route
// is shown, a not-found page. It knows nothing of Rewarm, and mounts when its
// first route is there, so that it replaces a prerendered page in one step.
//
// Its routes are /, /harbours, /harbours/<id> and /about. Both builds share a
// vendor chunk and the style sheet, names and bytes.
//
// Only the releases of [Releases] exist: their builds are in the repository,
// made by vue/build.mjs.
func Vue(release string) (fs.FS, error) {
	if !slices.Contains(Releases(), release) {
		return nil, fmt.Errorf("vue example: no release %q, only %q", release, Releases())
	}
	return fs.Sub(vueBuilds, "vue/dist/"+release)
}
