package page

import (
	"testing"

	"github.com/rewarm/rewarm/internal/words"
)

// TestScriptsCannotTellThatAPageIsASpeck compares what scripts see of a window
// whose frames are drawn in one pixel with one that is drawn as it is.
func TestScriptsCannotTellThatAPageIsASpeck(t *testing.T) {
	h := newHost(t, map[string]string{"/app.js": `
document.head.innerHTML += '<meta name="viewport" content="width=device-width"><style>#far{margin-top:5000px} @media (max-width:500px){#a{width:10vw}}</style>';
document.body.innerHTML = '<p id=a>some text of a size</p><img id=lazy loading=lazy src="/far.png" style="margin-top:9000px"><p id=far>far</p>'`})
	p := open(t, h, appShell)
	const look = `new Promise(done => new IntersectionObserver(([e]) => requestAnimationFrame(() => done(JSON.stringify([
	innerWidth, innerHeight, outerWidth, outerHeight, devicePixelRatio, screen.width, screen.availHeight, screen.orientation.type,
	visualViewport.width, visualViewport.height, visualViewport.scale, e.isIntersecting, e.rootBounds.toJSON(),
	...['(min-width:500px)', '(device-width:800px)', '(resolution:1dppx)', '(hover)', '(pointer:coarse)', '(orientation:portrait)'].map(q => matchMedia(q).matches),
	a.getBoundingClientRect(), getComputedStyle(a).fontSize, document.documentElement.scrollHeight, document.elementFromPoint(12, 24).id, lazy.complete, document.visibilityState, document.hasFocus(),
])))).observe(far))`
	for name, view := range map[string]*words.Viewport{
		"default": nil, "none of its own": {}, "wide": {Width: 1600, Height: 900, DeviceScaleFactor: 2}, "phone": {Width: 390, Height: 844, DeviceScaleFactor: 3, Mobile: true},
	} {
		var seen [2]evaluated[string]
		for i, drawn := range []float64{asSpeck, asShown} {
			if err := p.session.CallAll(t.Context(), window(view, drawn)); err != nil {
				t.Fatal(err)
			}
			if err := p.evaluate(t.Context(), look, &seen[i]); err != nil {
				t.Fatal(err)
			}
		}
		if seen[0] != seen[1] || len(seen[0].Result.Value) < 100 {
			t.Errorf("%s: as a speck %+v, as it is %+v", name, seen[0], seen[1])
		}
	}
}
