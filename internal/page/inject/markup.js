// The document as markup that parses to what the page shows. Chrome's own
// serialiser does nearly all of it; a writer knows the elements that it gets
// wrong ("odd": they, and all that they are in) and writes those itself. The
// page is only read: even a clone in its document would start images, build
// custom elements and set the window's handlers anew, so shallow copies are
// made in a document that is nobody's.
const entities = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', '\u00a0': '&nbsp;' };
const quoted = s => s.replace(/[&<>"\u00a0]/g, c => entities[c]);
const escaped = s => s.replace(/[&<>\u00a0]/g, c => entities[c]);
const rawText = /^(STYLE|SCRIPT|XMP|IFRAME|NOEMBED|NOFRAMES|NOSCRIPT|PLAINTEXT)$/;
// A parser drops the line break that such an element begins with.
const losesBreak = el => /^(PRE|TEXTAREA|LISTING)$/.test(el.nodeName) && el.firstChild && el.firstChild.nodeType === 3 && el.firstChild.data[0] === '\n';

// Whether there may be shadow roots: to look for them is to ask every element.
let shadows = cfg.shadows;
const shaded = before(() => { shadows = true });
wrap(Element.prototype, 'attachShadow', shaded);
for (const owner of [Element.prototype, ShadowRoot.prototype]) wrap(owner, 'setHTMLUnsafe', shaded);

let inert;
// tags are an element's own tags, without its nonce; a void one has no end tag.
const tags = el => {
  inert ||= document.implementation.createHTMLDocument('');
  const copy = inert.importNode(el, false);
  copy.removeAttribute('nonce');
  const text = copy.outerHTML, end = text.lastIndexOf('</');
  return end >= 0 && /^<\/[^"]*>$/.test(text.slice(end)) ? [text.slice(0, end), text.slice(end)] : [text, null];
};

// writer reads the document once, without the elements that are left out: roots are its trees, the document first, then
// the open shadow roots; a closed one shows itself to nobody.
const writer = left => {
  const odd = new Set(), css = new Map(), roots = [], sheets = new Map();
  const add = el => { for (; el && !odd.has(el); el = el.parentNode) odd.add(el) };
  const addAll = (root, selector, isOdd) => { for (const el of root.querySelectorAll(selector)) if (isOdd(el)) add(el) };
  const scan = root => {
    const before = odd.size;
    addAll(root, 'style', el => {
      const text = styleText(el);
      if (text !== undefined) css.set(el, text);
      return css.has(el);
    });
    for (const name of ['pre', 'textarea', 'listing']) addAll(root, name, losesBreak);
    addAll(root, '[nonce]', el => el.getAttribute('nonce') !== '');
    addAll(root, 'template', el => el.content && scan(el.content));
    return odd.size > before;
  };
  const scanTree = root => {
    roots.push(root);
    scan(root);
    if (!shadows) return;
    const walk = document.createTreeWalker(root.documentElement || root, NodeFilter.SHOW_ELEMENT);
    for (let el; (el = walk.nextNode());) if (el.shadowRoot) { add(el); scanTree(el.shadowRoot) }
  };
  scanTree(document);
  for (const el of left) add(el);

  // A sheet that a thousand components share would be repeated in each: beyond
  // a bound they go without.
  let room = 4 << 20;
  const adopted = root => {
    let out = '';
    for (const sheet of root.adoptedStyleSheets) {
      if (!sheets.has(sheet)) sheets.set(sheet, sheetMarkup(sheet));
      room -= sheets.get(sheet).length;
      if (room >= 0) out += sheets.get(sheet);
    }
    return out;
  };
  const shadow = root => '<template shadowrootmode="open"' + (root.delegatesFocus ? ' shadowrootdelegatesfocus=""' : '') +
    (root.slotAssignment === 'manual' ? ' shadowrootslotassignment="manual"' : '') + (root.serializable ? ' shadowrootserializable=""' : '') +
    (root.clonable ? ' shadowrootclonable=""' : '') + '>' + all(root) + adopted(root) + '</template>';
  const inner = el => {
    if (!odd.has(el)) return el.innerHTML;
    if (css.has(el)) return el.nodeName === 'STYLE' ? css.get(el) : escaped(css.get(el)); // the other is SVG's
    return (el.shadowRoot ? shadow(el.shadowRoot) : '') + (losesBreak(el) ? '\n' : '') + all(el.content || el);
  };
  const all = el => {
    let out = '';
    for (const n of el.childNodes) out += write(n);
    return out;
  };
  const write = n => {
    if (left.has(n)) return '';
    switch (n.nodeType) {
      case 1: {
        if (!odd.has(n)) return n.outerHTML;
        const [start, end] = tags(n);
        return end === null ? start : start + inner(n) + end;
      }
      case 3: return n.parentNode && rawText.test(n.parentNode.nodeName) ? n.data : escaped(n.data);
      case 7: return `<?${n.target} ${n.data}>`;
      case 8: return `<!--${n.data}-->`;
      case 10: return new XMLSerializer().serializeToString(n) + '\n';
    }
    return '';
  };
  return { roots, adopted, inner, write };
};

// pieces are the document around the inner HTML of head and body, so that
// nothing is written or sent twice: what stands before the head's, between the
// two, and after the body's.
const pieces = w => {
  const root = document.documentElement, head = document.head, body = document.body;
  const out = ['', '', '', '', ''];
  let at = 0;
  const part = (el, i) => {
    const [start, end] = tags(el);
    out[at] += start; out[i] = w.inner(el); out[i + 1] = end; at = i + 1;
  };
  for (const top of document.childNodes) {
    if (top !== root) { out[at] += w.write(top); continue }
    const [start, end] = tags(root);
    out[at] += start;
    for (const n of root.childNodes) {
      if (n === head && at < 1) part(head, 1);
      else if (n === body && at < 3 && body.nodeName === 'BODY') part(body, 3);
      else out[at] += w.write(n);
    }
    out[at] += end || '';
  }
  out[at > 0 ? 1 : 0] += w.adopted(document);
  // What a parser has read after plaintext is text to the end, tags or not.
  const end = document.querySelector('plaintext') ? out[3].lastIndexOf('</plaintext>') : -1;
  if (end >= 0) { out[3] = out[3].slice(0, end); out[4] = '' }
  return out;
};
