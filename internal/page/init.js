// Runs in every document before any of its own scripts. CONFIG is replaced by
// {origins, auth}. Whatever the page may patch later is taken here.
(() => {
  const raw = window.__rewarmSend;
  delete window.__rewarmSend;
  if (window !== window.top || !raw) return;
  const cfg = CONFIG;
  const stringify = JSON.stringify, parse = JSON.parse, now = performance.now.bind(performance);
  const later = window.setTimeout.bind(window), P = Promise;
  const say = (t, more, shot) => {
    const el = document.querySelector('[data-prerender-status]');
    const value = el ? el.getAttribute('data-prerender-status') : '';
    let sel = false;
    if (want) { try { sel = !!document.querySelector(want) } catch { sel = false } }
    const isNew = value !== '' && (touched || el !== oldEl);
    const isReady = sig === 'true' || sig === '' && value === 'ready' && isNew;
    raw(stringify({ t, e: epoch, r: sig, a: value, n: isNew, s: sel, w: !!document.getElementById('standby-ready'), m: muts,
      x: more === undefined ? '' : String(more).slice(0, 1024), c: shot && isReady && !want ? shot() : undefined }));
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
  // Data that the last route left behind says nothing about this one.
  let data, dataOf = -1;
  const getData = () => data;
  Object.defineProperty(window, 'prerenderData', {
    configurable: true, enumerable: true, get: getData, set: v => { data = v; dataOf = epoch },
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
  // Frames that were asked for and have not come: a page that draws from frame
  // to frame looks quiet for as long as a busy machine gives it none.
  const raf = window.requestAnimationFrame.bind(window), dropFrame = window.cancelAnimationFrame.bind(window);
  const frames = new Set();
  window.requestAnimationFrame = f => {
    if (typeof f !== 'function') return raf(f);
    const id = raf(t => { frames.delete(id); f(t) });
    frames.add(id);
    return id;
  };
  window.cancelAnimationFrame = id => { frames.delete(id); dropFrame(id) };
  // A turn of the event loop: every timer that was due before it has run by
  // then, also on a machine so busy that none ran for longer than the window;
  // and so has the frame that is waited for, if any, unless it never comes.
  const turn = then => new P((done, fail) => {
    let over = false;
    const end = () => {
      if (over) return;
      over = true;
      try { done(then()) } catch (err) { fail(err) }
    };
    later(() => {
      if (!frames.size) return end();
      raf(() => later(end, 0));
      later(end, 400);
    }, 0);
  });

  const io = {
    // begin starts an epoch: what the last route said is void from here on.
    begin(e, selector) {
      take(observer.takeRecords());
      epoch = e; sig = ''; touched = false;
      oldEl = document.querySelector('[data-prerender-status]');
      expect(selector);
      say('start');
    },
    // go tells the outcome of the transition; and when the application says that
    // it is ready, the capture with it: asking for it would wait until the page
    // has been laid out and painted, which nobody looks at.
    go(e, path, selector, realms, limit) {
      const f = typeof window.prerenderTransitionTo === 'function' ? window.prerenderTransitionTo
        : typeof window.boxelTransitionTo === 'function' ? window.boxelTransitionTo : null;
      if (!f) return 'none';
      io.begin(e, selector);
      const end = (t, err, shot) => { if (epoch === e) { take(observer.takeRecords()); say(t, err && err.message || err, shot) } };
      const snap = () => { const c = io.take(realms, limit, 'document'); return c.big ? undefined : c };
      try { P.resolve(f.call(window, path)).then(() => end('done', undefined, limit ? snap : undefined), err => end('fail', err)) }
      catch (err) { end('fail', err) }
      return 'ok';
    },
    expect(selector) { expect(selector); say('m') },
    // capture gives a promise when quiet has to be proved: that the document did
    // not change for so long counts only if its scripts had their turn.
    capture(quiet, realms, limit, wanted) {
      take(observer.takeRecords());
      if (!quiet) return io.take(realms, limit, wanted);
      if (now() - lastMut < quiet) return { unquiet: true };
      const before = muts;
      return turn(() => {
        take(observer.takeRecords());
        return muts !== before ? { unquiet: true } : io.take(realms, limit, wanted);
      });
    },
    // command starts a command at most once: every answer but ready, error and
    // result says that it has not been started.
    command(at, name, input, limit) {
      const all = window.prerenderCommands;
      if (location.origin !== at) return { s: 'elsewhere' };
      if (!all || typeof all[name] !== 'function' || all[name] === Object.prototype[name]) return { s: 'none' };
      const threw = err => ({ s: 'error', t: String(err && err.name || 'Error').slice(0, 200),
        x: String(err && err.message || err).slice(0, 4096), k: String(err && err.stack || '').slice(0, 4096) });
      const ran = v => {
        try {
          const text = stringify(v);
          return text && text.length > limit ? { s: 'result', x: 'is over ' + limit + ' characters long' } : { s: 'ready', v: text || 'null' };
        } catch (err) { return { s: 'result', x: 'is no JSON: ' + (err && err.message) } }
      };
      try { return P.resolve(all[name](input === '' ? undefined : parse(input))).then(ran, threw) }
      catch (err) { return threw(err) }
    },
    take(realms, limit, wanted) {
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
    },
  };
  const own = { prerender: true };
  Object.defineProperty(own, 'io', { value: Object.freeze(io) });
  Object.defineProperty(window, '__rewarm', { value: own, enumerable: true });
  window.__boxelRenderContext = true;
  document.addEventListener('DOMContentLoaded', () => say('m'));
  window.addEventListener('load', () => say('m'));
})();
