package page

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rewarm/rewarm/internal/words"
)

// dumpJS lists a tree as scripts and style see it, a line a node: what adopted
// sheets say counts as a last style element, and rules count, not text.
const dumpJS = `const dump = (root, depth = '') => {
  const lines = [], put = s => lines.push(depth + s);
  const rules = s => [...s.cssRules].map(r => r.cssText).join(' ');
  const fragment = s => { const t = document.createElement('template'); t.innerHTML = s; return t.innerHTML };
  const below = n => lines.push(...dump(n, depth + '  '));
  for (const n of root.childNodes) {
    if (n.nodeType === 10) put('doctype ' + [n.name, n.publicId, n.systemId]);
    else if (n.nodeType === 8) put('comment ' + n.data);
    else if (n.nodeType === 3) put(n.data);
    else if (n.nodeName === 'NOSCRIPT') put('noscript ' + fragment(n.firstElementChild ? n.innerHTML : n.textContent));
    else if (n.nodeName === 'HEAD' && !n.firstChild) continue; // no parser leaves it out
    else {
      put('<' + n.namespaceURI.slice(-4) + ' ' + n.nodeName + [...n.attributes].filter(a => a.name !== 'nonce').map(a => ' ' + a.name + '=' + a.value).join(''));
      if (n.shadowRoot) { const s = n.shadowRoot; put(['shadow', s.mode, s.delegatesFocus, s.slotAssignment, s.serializable, s.clonable]); below(s) }
      if (/^style$/i.test(n.nodeName) && n.sheet) put(n.sheet.disabled ? '' : rules(n.sheet));
      else below(n.content || n);
      if (n === document.head) for (const s of document.adoptedStyleSheets) { put('  <html STYLE data-rewarm-prerendered=' + (s.media.mediaText && ' media=' + s.media.mediaText)); put('  ' + rules(s)) }
    }
  }
  if (root.host) for (const s of root.adoptedStyleSheets) { put('<html STYLE data-rewarm-prerendered='); put(rules(s)) }
  return lines;
};`

// wantSame renders a document and compares what its capture parses to with what
// the page has.
func wantSame(t *testing.T, h *host, p *Page) words.Capture {
	t.Helper()
	c := h.render(t, p, "/x", navigating)
	if c.Status != words.StatusReady {
		t.Fatalf("%s", brief(c))
	}
	var live, parsed evaluated[[]string]
	if err := p.evaluate(t.Context(), "(()=>{"+dumpJS+"return dump(document)})()", &live); err != nil {
		t.Fatal(err)
	}
	expression := "(()=>{" + dumpJS + "return dump(Document.parseHTMLUnsafe(" + quote(c.HTML) + ", {sanitizer: {comments: true, removeElements: []}}))})()"
	if err := p.evaluate(t.Context(), expression, &parsed); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(live.Result.Value, parsed.Result.Value); d != "" {
		t.Errorf("the page (-) and what its capture parses to (+): %s\n%s", d, c.HTML)
	}
	if !strings.Contains(c.HTML, c.Head) || !strings.Contains(c.HTML, c.Body) {
		t.Errorf("head or body is not the document's: %q %q", c.Head, c.Body)
	}
	return c
}

func TestCaptureParsesToWhatThePageHas(t *testing.T) {
	for name, doc := range map[string]string{
		"plain":          `<!DOCTYPE html><html lang=de class="a &amp; &quot;b&quot;"><head><meta charset=utf-8><title>a &lt; b</title></head><body data-x="<>&amp;&nbsp;">a &lt;b&gt; &amp;amp; &nbsp;<p>p<p>q<br><img alt="</b>"></body></html>`,
		"comments":       `<!--0--><!DOCTYPE html><!--1--><html><!--2--><head><!--3--></head><!--4--><body><!--5--></body><!--6--></html><!--7-->`,
		"old doctype":    `<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 4.01//EN" "http://www.w3.org/TR/html4/strict.dtd"><title>x</title>`,
		"quirks":         `<p>no doctype, no head`,
		"frameset":       `<!DOCTYPE html><html><head><title>f</title></head><frameset cols="1,2"><frame name=a><noframes><p>none</noframes></frameset></html>`,
		"noscript":       `<!DOCTYPE html><head><noscript><link rel=x href=y></noscript></head><body><noscript><p title="&amp;">no <b>script</b></p></noscript>`,
		"line breaks":    "<!DOCTYPE html><pre>\n\nx</pre><textarea>\n\n&lt;y</textarea><listing>\n\n\nz</listing><pre>\nnone</pre><pre><b>\nin</b></pre><div><pre>\n\n<i>deep</i> &amp;</pre>a &lt; b</div>",
		"template":       "<!DOCTYPE html><template><p>a<template><pre>\n\nb</pre></template><script>1 < 2</script></template><template shadowrootmode=open>no host</template>",
		"foreign":        `<!DOCTYPE html><svg viewBox="0 0 1 1" xlink:href="#a"><style>.a{fill:red}</style><linearGradient/><foreignObject><p>x</p></foreignObject><title>t &lt;</title></svg><math><mi definitionURL=x>y</mi><annotation-xml encoding=text/html><p>z</annotation-xml></math>`,
		"raw text":       `<!DOCTYPE html><xmp><b>&amp;</b></xmp><iframe><p>&lt;</iframe><noembed><i></noembed><script>'<!-- &amp; <b>'</script><style>/* &amp; */ a>b{color:red}</style>`,
		"plaintext":      `<!DOCTYPE html><p>a<plaintext><b>&amp;</body></html>`,
		"removed":        `<!DOCTYPE html><body>x<script>document.head.remove()</script>`,
		"own html":       `<!DOCTYPE html><script>document.documentElement.append(document.createComment('late')); document.append(document.createComment('last'))</script>`,
		"nonce":          `<!DOCTYPE html><script nonce=secret>1</script><style nonce=secret>a{color:red}</style><link nonce=secret title="</a>"><template><script nonce=secret></script></template>`,
		"unknown":        `<!DOCTYPE html><x-a is=y>a</x-a><p is=z-z>b</p><o:p>c</o:p>`,
		"rules only":     `<!DOCTYPE html><style id=a media=screen></style><script>a.sheet.insertRule('x{color:red}'); a.sheet.insertRule('@media print{y::before{content:"</style>"}}', 1)</script>`,
		"rules changed":  `<!DOCTYPE html><style id=a>x{color:red}y{color:red}</style><style id=b>x{color:red}</style><style id=c>@media screen{x{color:red}}</style><style id=d>x{color:red}</style><style id=e>@keyframes k{from{top:0}}</style><script>a.sheet.deleteRule(0); a.sheet.insertRule('z{color:red}',0); b.sheet.cssRules[0].style.color='blue'; c.sheet.cssRules[0].insertRule('n{top:0}'); d.sheet.cssRules[0].selectorText='new'; e.sheet.cssRules[0].appendRule('to{top:1px}')</script>`,
		"rules in depth": `<!DOCTYPE html><body><div><p>a &lt; b</p><style id=a></style><!--c-->tail</div><svg><style id=s>q{top:0}</style></svg><script>a.sheet.insertRule('x{color:red}'); s.sheet.insertRule('a > b{color:red}')</script>`,
		"end in a style": `<!DOCTYPE html><body><script>const s = document.createElement('style'); s.textContent = 'a::after{content:"</style><p>"}'; document.body.append(s)</script>`,
		"disabled":       `<!DOCTYPE html><style id=a>.x{color:red}</style><style id=b>.y{color:red}</style><script>a.sheet.disabled = true</script>`,
		"text again":     `<!DOCTYPE html><style id=a>.x{color:red}</style><script>a.sheet.insertRule('.y{top:0}'); a.textContent = '.z{left:0}'</script>`,
		"adopted":        `<!DOCTYPE html><title>t</title><script>const s = new CSSStyleSheet({media: 'print'}); s.replaceSync('.x{color:red}'); const u = new CSSStyleSheet(); u.insertRule('.y::after{content:"</STYLE>"}'); document.adoptedStyleSheets = [s, u]</script>`,
		"shadow": `<!DOCTYPE html><div id=a><i slot=s>light</i></div><section id=b></section><script>
			const r = a.attachShadow({mode: 'open', delegatesFocus: true, serializable: true, clonable: true}); r.innerHTML = 'a &lt; b<slot name=s></slot><pre>\n\nx</pre><p id=in></p><style id=st></style><!--c-->';
			r.querySelector('style').sheet.insertRule('.x{color:red}');
			const s = new CSSStyleSheet(); s.replaceSync(':host{color:red}'); r.adoptedStyleSheets = [s];
			r.querySelector('p').attachShadow({mode: 'open', slotAssignment: 'manual'}).textContent = 'deep'; r.querySelector('p').shadowRoot.adoptedStyleSheets = [s];
			b.attachShadow({mode: 'closed'}).textContent = 'nobody sees it'; b.textContent = 'light'</script>`,
		"declarative": `<!DOCTYPE html><div><template shadowrootmode=open><p>by the parser</p><template><b>t</b></template></template>light</div>`,
		"unsafe":      `<!DOCTYPE html><div id=a></div><script>a.setHTMLUnsafe('<p><template shadowrootmode=open>x</template></p>')</script>`,
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, nil)
			p := open(t, h, doc)
			c := wantSame(t, h, p)
			for _, leak := range []string{"secret", "nobody sees it"} {
				if strings.Contains(strings.ReplaceAll(c.HTML, "'nobody sees it'", ""), leak) {
					t.Errorf("%q is in %s", leak, c.HTML)
				}
			}
		})
	}
}
