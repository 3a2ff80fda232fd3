// What a settled page gives.

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

// links are where the page leads within its realms, each once, without fragments.
const maxLinks = 5000, maxLinkChars = 2 << 20;
// A path in which the URL parser would change nothing: parsing is what links cost.
const plainPath = /^(?:\/[\w~-][\w~.-]*)+\/?(?:\?[\w~.=&-]*)?$/;
const linksOf = (roots, realms) => {
  const seen = new Set(), links = new Set(), base = document.baseURI, at = new URL(base).origin;
  const inRealm = u => realms.some(r => u.startsWith(r) && (u.length === r.length || u[r.length] === '/' || u[r.length] === '?'));
  let room = maxLinkChars;
  for (const root of roots) {
    for (const a of root.querySelectorAll('a[href]')) {
      const raw = a.getAttribute('href'), end = raw.indexOf('#'), path = end < 0 ? raw : raw.slice(0, end);
      if (seen.has(path)) continue;
      seen.add(path);
      const u = plainPath.test(path) ? at + path : (URL.parse(path, base) || { href: '' }).href;
      if (u.length > 8192 || !inRealm(u)) continue;
      links.add(u);
      if (links.size >= maxLinks || (room -= u.length) < 0) return [...links];
    }
  }
  return [...links];
};

// capture gives what is wanted of the page; every text that it chose is bounded.
const capture = (realms, limit, wanted) => {
  if (!document.documentElement) throw new Error('the page has removed its document');
  const c = { pre: '', head: '', mid: '', body: '', post: '', links: [], headers: [], code: '' };
  if (wanted === 'document') {
    const w = writer(residue.leftOut()), parts = pieces(w), size = parts.reduce((n, p) => n + p.length, 0);
    if (size > limit) return { big: size };
    [c.pre, c.head, c.mid, c.body, c.post] = parts;
    c.links = linksOf(w.roots, realms);
  }
  if (wanted === 'module') c.module = moduleResult(limit);
  for (const m of document.querySelectorAll('meta[name^="prerender-"]')) {
    const text = String(m.content).slice(0, 16384);
    if (m.name === 'prerender-status-code') c.code ||= text;
    else if (m.name === 'prerender-header' && c.headers.length < 50) c.headers.push(text);
  }
  const said = document.querySelector('[data-prerender-status]'), err = document.querySelector('[data-prerender-error]');
  c.url = location.href.slice(0, 8192);
  c.title = document.title.slice(0, 8192);
  c.attr = said ? said.getAttribute('data-prerender-status').slice(0, 64) : '';
  c.err = err ? err.textContent.slice(0, 4096) : null;
  c.empty = !document.body || !document.body.firstElementChild && !document.body.textContent.trim();
  c.residue = residue.left();
  c.told = messages;
  return c;
};
