// What a route leaves behind for the next one. Everything is tagged with the
// epoch in which it came or last changed: 0 is the document's own start, later
// ones are transitions. What is of an earlier epoch than the route that is
// being captured is told, by name; whether that matters is decided elsewhere.
const residue = (() => {
const text = Function.prototype.toString;
const brief = s => (s.length > 160 ? s.slice(0, 150) + '… ' + s.length : s).replace(/\s+/g, ' ');

// The document: head, children of the body, attributes of both and of html.
const changed = new WeakMap(), removed = new Map(), signs = new WeakMap(), attributes = new Map(), home = new Map();
let watching = false;
const roots = () => [document.documentElement, document.body].filter(Boolean);
const touch = node => { changed.set(node, epoch); signs.delete(node) };
const mark = records => {
  for (const { target, type, attributeName, addedNodes, removedNodes } of records) {
    if (type === 'attributes' && (target.tagName === 'HTML' || target === document.body)) {
      attributes.set(target.tagName.toLowerCase() + ' ' + attributeName, epoch);
      continue;
    }
    for (const n of addedNodes) {
      touch(n);
      removed.delete(n);
      if (target === document.body) watcher.observe(n, { attributes: true });
    }
    for (const n of removedNodes) if (n.nodeType === 1 && !changed.has(n)) removed.set(n, epoch);
    signs.delete(target);
    if (target === document.head || target === document.body || target.tagName === 'STYLE') continue;
    touch(target);
    if (target.nodeType === 3 && target.parentNode) touch(target.parentNode);
  }
};
const watcher = new MutationObserver(mark);
// From the moment at which the parser is done: before deferred scripts and
// modules run. What is there by then is the shell's.
const watch = () => {
  if (document.readyState === 'loading' || watching || !document.head || !document.body) return;
  for (const el of roots()) for (const a of el.attributes) home.set(el.tagName.toLowerCase() + ' ' + a.name, a.value);
  watching = true;
  watcher.observe(document.documentElement, { attributes: true });
  watcher.observe(document.head, { childList: true, subtree: true, attributes: true, characterData: true });
  watcher.observe(document.body, { childList: true, attributes: true });
  for (const el of document.body.children) watcher.observe(el, { attributes: true });
};
document.addEventListener('readystatechange', watch);

const sign = el => {
  let s = signs.get(el);
  if (s) return s;
  const own = el.tagName === 'TITLE' || el.tagName === 'SCRIPT' ? el.textContent : '';
  signs.set(el, s = brief(el.cloneNode(false).outerHTML.split('</')[0] + own));
  return s;
};
const of = node => changed.get(node) || 0;
const leftInHead = (e, found) => {
  const out = leftOut();
  for (const el of document.head.children) {
    if (out.has(el)) continue;
    if (el.tagName !== 'STYLE') {
      if (of(el) < e) found('head', sign(el));
      continue;
    }
    // One style element may be of many routes: what counts is its older text.
    let size = 0, start = '';
    for (const n of el.childNodes) if (of(changed.has(n) ? n : el) < e) { size += n.textContent.length; start = start || n.textContent.slice(0, 60) }
    if (size || !el.firstChild && of(el) < e) found('style', sign(el) + brief(start) + ' ' + size);
  }
  for (const [el, when] of removed) if (when < e && !el.isConnected) found('removed', sign(el));
};
const leftInBody = (e, found) => {
  let n = 0;
  for (const el of document.body.children) {
    if (++n > 200) break;
    if (el.tagName !== 'SCRIPT' && of(el) < e) found('body', el.tagName.toLowerCase() + (el.id && '#' + el.id) + (el.classList.length ? '.' + [...el.classList].join('.') : ''));
  }
};
const leftOnRoots = (e, found) => {
  for (const [name, when] of attributes) {
    const [tag, attribute] = name.split(' ');
    const value = (tag === 'html' ? document.documentElement : document.body).getAttribute(attribute);
    if (when < e && (value || '') !== (home.get(name) || '')) found('attribute', brief(name + '=' + value));
  }
};

// Names of what is kept in storage; those that were there when the document
// started have been seen then.
const names = new Map();
const seen = (kind, name) => { const k = kind + ': ' + brief(String(name)); if (!names.has(k)) names.set(k, epoch); return k };
const leftInStorage = (e, found) => {
  const there = new Set();
  for (const kind of ['localStorage', 'sessionStorage']) {
    try { for (const k of Object.keys(window[kind]).slice(0, 200)) if (k !== 'boxel-session') there.add(seen(kind, k)) } catch { /* none here */ }
  }
  for (const [k, when] of names) {
    if (/^(local|session)Storage/.test(k) && !there.has(k)) names.delete(k);
    else if (when < e) { const at = k.indexOf(': '); found(k.slice(0, at), k.slice(at + 2)) }
  }
};
wrap(Document.prototype, 'cookie', after((_, [line]) => {
  const name = String(line).split(/[=;]/)[0].trim();
  if (/max-age\s*=\s*(0|-)|expires\s*=[^;]*\b19[67]\d\b/i.test(line)) names.delete('cookie: ' + brief(name)); else seen('cookie', name);
}), 'set');
if (window.IDBFactory) {
  wrap(IDBFactory.prototype, 'open', after((_, [name]) => seen('indexedDB', name)));
  wrap(IDBFactory.prototype, 'deleteDatabase', after((_, [name]) => names.delete('indexedDB: ' + brief(String(name)))));
}
if (window.CacheStorage) {
  wrap(CacheStorage.prototype, 'open', after((_, [name]) => seen('cache', name)));
  wrap(CacheStorage.prototype, 'delete', after((_, [name]) => names.delete('cache: ' + brief(String(name)))));
}

let scrolled = -1;
window.addEventListener('scroll', () => { scrolled = epoch }, { passive: true, capture: true });
const leftScrolled = (e, found) => { if (scrolled >= 0 && scrolled < e && (window.scrollX || window.scrollY)) found('scroll', 'position') };

// What adds up: copies of one thing, made in several epochs and still there.
// An application cleans up after it has shown the next route, so the route
// that was left last is not looked at yet.
const pile = (kind, e, limit, all, found) => {
  const copies = new Map();
  for (const { at, key } of all) {
    if (at < 1 || at > e - 2) continue;
    if (!copies.has(key)) copies.set(key, new Set());
    copies.get(key).add(at);
  }
  for (const [key, epochs] of copies) if (epochs.size >= limit) found(kind, brief(key));
};

const heard = new Map(); // 'window resize false' -> listener -> {at, key}
const where = (self, type, options) => {
  const at = self === undefined || self === null || self === window ? 'window' : self === document ? 'document'
    : self === document.body ? 'body' : self === document.documentElement ? 'html' : '';
  return at && at + ' ' + type + ' ' + !!(options && typeof options === 'object' ? options.capture : options);
};
const hear = window.addEventListener;
wrap(EventTarget.prototype, 'addEventListener', after((self, [type, listener, options]) => {
  const key = listener && where(self, type, options);
  const { once, signal } = key && options && typeof options === 'object' ? options : {};
  if (!key || once || signal && signal.aborted) return;
  if (!heard.has(key)) heard.set(key, new Map());
  const all = heard.get(key);
  if (all.has(listener)) return;
  all.set(listener, { at: epoch, key: key + ' ' + (typeof listener === 'function' ? apply(text, listener, []).slice(0, 200) : 'handleEvent') });
  if (signal) apply(hear, signal, ['abort', () => all.delete(listener), { once: true }]);
}));
wrap(EventTarget.prototype, 'removeEventListener', after((self, [type, listener, options]) => {
  const all = heard.get(where(self, type, options));
  if (all) all.delete(listener);
}));

const timers = new Map(); // by their id, until they have fired
const prune = () => { const t = now(); for (const [id, { until }] of timers) if (until < t) timers.delete(id) };
const timed = (kind, least) => (_, [f, ms], id) => {
  if (!(ms >= least)) return;
  if (timers.size > 256) prune();
  timers.set(id, { at: epoch, until: least ? now() + +ms : Infinity,
    key: kind + ' ' + ms + ' ms ' + (typeof f === 'function' ? apply(text, f, []) : String(f)).slice(0, 200) });
};
wrap(window, 'setInterval', after((self, [f, ms = 0], id) => timed('interval', 0)(self, [f, +ms || 0], id)));
wrap(window, 'setTimeout', after(timed('timeout', 1000)));
for (const name of ['clearInterval', 'clearTimeout']) wrap(window, name, after((_, [id]) => timers.delete(+id)));

const connections = new Set(); // {ref, at, key}
for (const name of ['WebSocket', 'EventSource', 'Worker', 'SharedWorker']) {
  const made = wrap(window, name, { construct(f, args, as) {
    const o = construct(f, args, as === made ? f : as);
    connections.add({ ref: new WeakRef(o), at: epoch, key: name });
    return o;
  } });
  if (made) Object.defineProperty(made.prototype, 'constructor', { value: made, writable: true, configurable: true });
}
const ended = new WeakSet();
if (window.Worker) wrap(Worker.prototype, 'terminate', after(self => ended.add(self)));
const stillOpen = () => {
  for (const c of connections) {
    const o = c.ref.deref();
    if (!o || ended.has(o) || o.readyState >= 2) connections.delete(c);
  }
  return connections;
};

const globals = new Map(), sheets = new WeakMap();
const leftInMemory = (e, found) => {
  for (const all of heard.values()) pile('listener', e, 3, all.values(), found);
  prune();
  pile('timer', e, 3, timers.values(), found);
  pile('connection', e, 2, stillOpen(), found);
  const own = Object.keys(window);
  if (own.length !== globals.size) {
    for (const name of own) if (!globals.has(name)) globals.set(name, { at: epoch, key: 'names' });
    if (own.length < globals.size) { const there = new Set(own); for (const name of globals.keys()) if (!there.has(name)) globals.delete(name) }
  }
  pile('global', e, 4, globals.values(), found);
  for (const s of document.adoptedStyleSheets) {
    if (!sheets.has(s)) sheets.set(s, epoch);
    if (sheets.get(s) > 0 && sheets.get(s) < e) found('adopted', 'style sheet of ' + s.cssRules.length + ' rules');
  }
};

// Left out of every capture, whatever the page did before: what a loader put
// into the head to fetch files, once for the life of a document. It shows
// nothing, and which of it is there depends on the routes before. The same
// goes for a style sheet that has no say in what is shown.
const hint = /\b(modulepreload|preload|prefetch|prerender|preconnect|dns-prefetch)\b/i;
const leftOut = () => {
  const out = new Set();
  let has;
  for (const el of document.head ? document.head.children : []) {
    if (el.tagName === 'SCRIPT') {
      if (el.src && !cfg.refs.includes(el.getAttribute('src')) && /^$|javascript|module/i.test(el.type)) out.add(el);
    } else if (el.tagName === 'LINK' && !cfg.refs.includes(el.getAttribute('href'))) {
      if (el.relList.contains('stylesheet')) { if (isIdle(el, has = has || presence())) out.add(el) }
      else if (hint.test(el.rel)) out.add(el);
    }
  }
  return out;
};
// A sheet is idle when each of its selectors names a class, or an attribute as
// Vue scopes styles with, that no element has. What cannot be read, or says
// more than that, is not.
const presence = () => {
  const known = new Map();
  for (const el of document.querySelectorAll('[class]')) for (const c of el.classList) known.set('.' + c, true);
  return name => {
    if (!known.has(name)) known.set(name, name[0] === '[' && !!document.querySelector(name));
    return known.get(name);
  };
};
const wants = new WeakMap(); // sheet -> what each of its selectors names
const isIdle = (link, has) => {
  if (!link.sheet) return false;
  try {
    if (!wants.has(link.sheet)) wants.set(link.sheet, wanted(link.sheet.cssRules, []));
    return wants.get(link.sheet).every(names => !names.every(has));
  } catch { return false /* of another origin */ }
};
const isIdleRule = (rule, has) => rule instanceof CSSStyleRule && wanted([rule], []).every(names => !names.every(has));
const wanted = (rules, all) => {
  for (const rule of rules) {
    if (rule instanceof CSSStyleRule) {
      const plain = rule.selectorText.replace(/::?[\w-]+(?![\w(-])/g, '');
      if (/[(\\"]/.test(plain)) all.push([]);
      else for (const one of plain.split(',')) all.push(one.match(/\.[\w-]+|\[data-[\w-]+\]/g) || []);
    } else if (rule instanceof CSSGroupingRule) wanted(rule.cssRules, all);
    else if (!(rule instanceof CSSKeyframesRule || rule instanceof CSSFontFaceRule)) all.push([]);
  }
  return all;
};
// enter is told before an epoch begins.
const enter = () => mark(watcher.takeRecords());
// left is what is there of earlier epochs: what may show in the document, and
// what only adds up. What is known is not told. A page that cannot be looked at
// may hold anything.
const known = new Set();
const left = () => {
  mark(watcher.takeRecords());
  const list = (...parts) => {
    const all = new Set();
    const found = (kind, name) => { const k = kind + ': ' + name; if (all.size < 100 && !known.has(k)) all.add(k) };
    try { for (const part of parts) part(epoch, found) } catch (err) { found('page', brief(String(err))) }
    return [...all];
  };
  if (!document.head || !document.body) return { shown: [], grown: [] };
  return { shown: list(leftInHead, leftInBody, leftOnRoots, leftInStorage, leftScrolled), grown: list(leftInMemory) };
};
// start is what there is when the application has started.
const start = () => {
  left(); // what there is belongs to this epoch
  const was = epoch;
  try { epoch = 1; return left().shown } finally { epoch = was }
};
return { enter, left, start, leftOut, presence, isIdleRule, know: all => { known.clear(); for (const k of all) known.add(k) } };
})();
