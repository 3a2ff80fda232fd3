// Package skew knows the words in which an application says that a part of its
// bundle is gone: what a deploy leaves behind in a page that was loaded before.
package skew

import (
	"regexp"
	"strings"
)

// chunkWords are how bundlers say that a chunk is gone, and moduleWords how
// browsers do, which those say that leave loading to them: Rollup, esbuild,
// Parcel. Only Chrome's are heard from Chrome; the others are what polyfills
// and error reporters repeat.
var (
	chunkWords = regexp.MustCompile(strings.Join([]string{
		`ChunkLoadError`, // webpack, Rspack, Turbopack, Angular
		`Loading (CSS )?chunk \S+ failed`,
		`Failed to load chunk /`,                // Turbopack
		`Failed to load (script|stylesheet): /`, // Next's router
		`Unable to preload CSS`,                 // Vite
		`SystemJS Error#3`,                      // legacy bundles of Rollup and Vite
		`requirejs\.org/docs/errors.html#scripterror`,
		`The bundle ".*" failed to load`, // Ember's engines
		`The (js|css) asset with uri ".*" failed to load`,
	}, "|"))
	moduleWords = regexp.MustCompile(`(?:Failed to fetch|error loading) dynamically imported module(?:: (\S+))?|Importing a module script failed`)
)

// Says is whether a text says that a chunk is gone; url is that of the module,
// "" when the text names none.
func Says(text string) (url string, says bool) {
	if chunkWords.MatchString(text) {
		return "", true
	}
	if said := moduleWords.FindStringSubmatch(text); said != nil {
		return said[1], true
	}
	return "", false
}
