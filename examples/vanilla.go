package examples

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"io/fs"
	"path"
	"strings"
)

//go:embed vanilla/src
var vanillaSources embed.FS

// vanillaRoutes are the lazily loaded chunks, by the placeholder that the
// application imports them under.
var vanillaRoutes = map[string]string{
	"%HOME%":     "home",
	"%ABOUT%":    "about",
	"%PRODUCTS%": "products",
	"%PRODUCT%":  "product",
	"%NOTFOUND%": "notfound",
}

// Vanilla is a small shop without a framework: one shell, an application
// script that finds the route and loads its chunk, data fetched at run time.
//
//	index.html                 the shell; mounts into <main id="app">
//	favicon.svg
//	assets/app-<hash>.js       window.prerenderTransitionTo lives here
//	assets/<route>-<hash>.js   home, about, products, product, notfound
//	assets/style-<hash>.css
//	data/products.json         fetched by the routes
//
// Its routes are /, /about, /products, /products/<id> and /_standby; any other
// is its not-found page, which asks for the status 404. Every name with a hash
// differs between releases. The same release gives the same bytes.
//
// Any release of 1 to 32 characters of a-z, 0-9, dot and dash is built, not
// only those of [Releases]: tests that deploy twenty times ask for r1 to r20.
func Vanilla(release string) (fs.FS, error) {
	if err := checkRelease(release); err != nil {
		return nil, err
	}
	b := &vanillaBuild{files: map[string][]byte{}, names: []string{"%RELEASE%", release, "%HUE%", hue(release)}}
	for placeholder, route := range vanillaRoutes {
		b.hashed(placeholder, "routes/"+route+".js", route, ".js")
	}
	b.hashed("%STYLE%", "styles.css", "style", ".css")
	// After its chunks: the application names them, so its own name follows.
	b.hashed("%APP%", "app.js", "app", ".js")
	for _, name := range []string{"index.html", "favicon.svg", "data/products.json"} {
		b.files[name] = b.source(name)
	}
	if b.err != nil {
		return nil, fmt.Errorf("build vanilla example %s: %w", release, b.err)
	}
	return memory(b.files)
}

// vanillaBuild fills in the sources' placeholders. The first error sticks.
type vanillaBuild struct {
	files map[string][]byte
	names []string // placeholder, value, placeholder, value...
	err   error
}

// hashed builds a source into assets/ under a name that carries the hash of
// its content, and lets the sources built after it use the name.
func (b *vanillaBuild) hashed(placeholder, source, stem, ext string) {
	content := b.source(source)
	sum := sha256.Sum256(content)
	name := stem + "-" + hex.EncodeToString(sum[:5]) + ext
	b.files["assets/"+name] = content
	b.names = append(b.names, placeholder, name)
}

func (b *vanillaBuild) source(name string) []byte {
	content, err := vanillaSources.ReadFile(path.Join("vanilla/src", name))
	if err != nil && b.err == nil {
		b.err = err
	}
	return []byte(strings.NewReplacer(b.names...).Replace(string(content)))
}

// hue is a release's accent colour in degrees, so that a deploy shows at a
// glance. The two releases that everyone sees first are set by hand.
func hue(release string) string {
	switch release {
	case "v1":
		return "18"
	case "v2":
		return "172"
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(release)) // a hash never fails to be written to
	return fmt.Sprint(h.Sum32() % 360)
}
