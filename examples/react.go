package examples

import (
	"embed"
	"fmt"
	"io/fs"
	"slices"
)

//go:embed all:react/dist
var reactBuilds embed.FS

// React is a pocket guide to birds, as Vite builds it from an ordinary React
// application with React Router: lazy routes, loaders that fetch JSON, a
// not-found page. With transition it is the same application with
// window.prerenderTransitionTo and #standby-ready; without, it knows nothing
// of Rewarm, and shows its not-found page at /_standby.
//
// Its routes are /, /birds, /birds/<id> and /about. All builds share a vendor
// chunk and the style sheet, names and bytes, as real deploys often do.
//
// Only the releases of [Releases] exist: their builds are in the repository,
// made by react/build.mjs.
func React(release string, transition bool) (fs.FS, error) {
	if !slices.Contains(Releases(), release) {
		return nil, fmt.Errorf("react example: no release %q, only %q", release, Releases())
	}
	dir := "react/dist/" + release
	if transition {
		dir += "-transition"
	}
	return fs.Sub(reactBuilds, dir)
}
