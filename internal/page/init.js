// Runs in every document before any of its own scripts. CONFIG is replaced by
// {origins, auth}. Whatever the page may patch later is taken here.
(() => {
  const raw = window.__rewarmSend;
  delete window.__rewarmSend;
  if (window !== window.top || !raw) return;
  const cfg = CONFIG;
  const stringify = JSON.stringify, now = performance.now.bind(performance);
  const later = window.setTimeout.bind(window), P = Promise;
  const say = (t, more) => {
    const el = document.querySelector('[data-prerender-status]');
    const value = el ? el.getAttribute('data-prerender-status') : '';
    let sel = false;
    if (want) { try { sel = !!document.querySelector(want) } catch { sel = false } }
    raw(stringify({ t, e: epoch, r: sig, a: value, n: value !== '' && (touched || el !== oldEl), s: sel,
      w: !!document.getElementById('standby-ready'), m: muts, x: more === undefined ? '' : String(more).slice(0, 1024) }));
  };
  let epoch = 0, sig = '', want = '', muts = 0, touched = true, oldEl = null, lastMut = now();

  if (cfg.origins.includes(location.origin) && cfg.auth) {
    try { localStorage.setItem('boxel-session', cfg.auth) } catch { /* no storage here */ }
  }

  let ready;
  Object.defineProperty(window, 'prerenderReady', {
    configurable: true, enumerable: true, get: () => ready,
    set: v => { ready = v; sig = v === undefined ? '' : v ? 'true' : 'false'; say('m') },
  });
  window.open = () => null;
  window.print = () => {};
  window.addEventListener('vite:preloadError', ev => say('skew', ev.payload && ev.payload.message));

  // At most one message in ten milliseconds, the first at once: a page that
  // builds a table row by row must not spend its time on telling us so.
  let sent = -1e9, timer = 0;
  const note = () => {
    if (timer) return;
    const wait = sent + 10 - now();
    if (wait <= 0) { sent = now(); say('m') }
    else timer = later(() => { timer = 0; sent = now(); say('m') }, wait);
  };
  const take = records => {
    let changed = false;
    for (const r of records) {
      if (r.type !== 'attributes') changed = true;
      else if (r.attributeName === 'data-prerender-status') { changed = true; touched = true }
    }
    if (changed) { muts++; lastMut = now() }
    return changed;
  };
  const observer = new MutationObserver(records => { if (take(records) || want) note() });
  const observe = () => {
    const o = { subtree: true, childList: true, characterData: true, attributes: true };
    if (!want) o.attributeFilter = ['data-prerender-status', 'id'];
    observer.observe(document, o);
  };
  observe();
  const expect = selector => { want = selector; observe() };

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

  const io = {
    // begin starts an epoch: what the last route said is void from here on.
    begin(e, selector) {
      take(observer.takeRecords());
      epoch = e; sig = ''; touched = false;
      oldEl = document.querySelector('[data-prerender-status]');
      expect(selector);
      say('start');
    },
    go(e, path, selector) {
      const f = typeof window.prerenderTransitionTo === 'function' ? window.prerenderTransitionTo
        : typeof window.boxelTransitionTo === 'function' ? window.boxelTransitionTo : null;
      if (!f) return 'none';
      io.begin(e, selector);
      const end = (t, err) => { if (epoch === e) { take(observer.takeRecords()); say(t, err && err.message || err) } };
      try { P.resolve(f.call(window, path)).then(() => end('done'), err => end('fail', err)) }
      catch (err) { end('fail', err) }
      return 'ok';
    },
    expect(selector) { expect(selector); say('m') },
    capture(quiet, realms, limit) {
      take(observer.takeRecords());
      if (quiet && now() - lastMut < quiet) return { unquiet: true };
      const c = pieces(limit);
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
    },
  };
  const own = { prerender: true };
  Object.defineProperty(own, 'io', { value: Object.freeze(io) });
  Object.defineProperty(window, '__rewarm', { value: own, enumerable: true });
  window.__boxelRenderContext = true;
  document.addEventListener('DOMContentLoaded', () => say('m'));
  window.addEventListener('load', () => say('m'));
})();
