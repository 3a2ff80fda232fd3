// What a settled page gives.
const serialise = node => {
  const t = document.createElement('template');
  t.content.appendChild(node.cloneNode(true));
  return t.innerHTML;
};
// The pieces of the document around the inner HTML of head and body, so that
// nothing is serialised or sent twice.
const pieces = limit => {
  const root = document.documentElement, head = document.head, body = document.body;
  const type = document.doctype ? new XMLSerializer().serializeToString(document.doctype) + '\n' : '';
  if (!root || !head || !body || head.parentNode !== root || body.parentNode !== root || body.tagName !== 'BODY') {
    return { pre: type + (root ? root.outerHTML : ''), head: '', mid: '', body: '', post: '' };
  }
  const open = el => { const s = el.cloneNode(false).outerHTML; return s.slice(0, s.lastIndexOf('</')) };
  const out = { pre: type + open(root), head: head.innerHTML, mid: '', body: body.innerHTML, post: '' };
  if (out.head.length + out.body.length > limit) return { big: out.head.length + out.body.length };
  let at = 'pre';
  for (const n of root.childNodes) {
    if (n === head) { out[at] += open(head); at = 'mid'; out.mid = '</head>' }
    else if (n === body) { out[at] += open(body); at = 'post'; out.post = '</body>' }
    else out[at] += serialise(n);
  }
  out.post += '</html>';
  return out;
};

// The module result as JSON text: {} when the page offers none.
const moduleResult = limit => {
  const own = Object.getOwnPropertyDescriptor(window, 'prerenderData');
  const pre = document.querySelector('[data-prerender-module] pre');
  let text;
  try {
    if (window.prerenderData !== undefined && (dataOf === epoch || !own || own.get !== getData)) text = stringify(window.prerenderData);
    else if (pre) text = stringify(parse(pre.textContent));
  } catch (err) { return { fault: 'is no JSON: ' + (err && err.message) } }
  if (text && text.length > limit) return { fault: 'is over ' + limit + ' characters long' };
  return { json: text };
};
const nothing = { pre: '', head: '', mid: '', body: '', post: '' };

const capture = (realms, limit, wanted) => {
  const c = wanted === 'document' ? pieces(limit) : Object.assign({}, nothing);
  if (wanted === 'module') c.module = moduleResult(limit);
  if (c.big) return c;
  const status = document.querySelector('meta[name="prerender-status-code"]');
  const said = document.querySelector('[data-prerender-status]');
  const err = document.querySelector('[data-prerender-error]');
  c.url = location.href; c.title = document.title;
  c.code = status ? status.content : '';
  c.headers = Array.from(document.querySelectorAll('meta[name="prerender-header"]'), m => m.content).slice(0, 50);
  c.attr = said ? said.getAttribute('data-prerender-status') : '';
  c.err = err ? err.textContent.slice(0, 4096) : null;
  c.empty = !document.body || !document.body.firstElementChild && !document.body.textContent.trim();
  const links = new Set();
  for (const a of document.querySelectorAll('a[href]')) {
    if (links.size >= 5000 || typeof a.href !== 'string') continue;
    const u = a.href.split('#')[0];
    if (u.length <= 8192 && realms.some(r => u === r || u.startsWith(r + '/') || u.startsWith(r + '?'))) links.add(u);
  }
  c.links = [...links];
  return c;
};
