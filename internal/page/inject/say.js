// What the page says of itself, and how we are told. Whatever the page may patch
// later is taken here, before it runs.
const raw = window.__rewarmSend;
delete window.__rewarmSend;
if (window !== window.top || !raw) return;
const stringify = JSON.stringify, parse = JSON.parse, now = performance.now.bind(performance);
const { apply, construct } = Reflect, { addEventListener } = EventTarget.prototype;
const listen = (target, name, f) => apply(addEventListener, target, [name, f]);
const { querySelector } = Document.prototype, { getAttribute } = Element.prototype, { slice } = String.prototype;
const find = selector => apply(querySelector, document, [selector]);
const cut = (text, n) => apply(slice, String(text), [0, n]);
// bag is a map that nobody but us can break.
const bag = (map = new Map()) => ({ set: map.set.bind(map), get: map.get.bind(map), delete: map.delete.bind(map), values: map.values && map.values.bind(map) });
const later = window.setTimeout.bind(window), raf = window.requestAnimationFrame.bind(window), P = Promise;
const post = window.scheduler && scheduler.postTask.bind(scheduler);
// say tells, with the capture if the page says that it is ready or always, and
// returns whether it gave one. Who has one to give and does not goes on to prove
// that the page is quiet.
const say = (t, more, shot, always) => {
  unsaid = false;
  const el = find('[data-prerender-status]');
  const value = el ? cut(apply(getAttribute, el, ['data-prerender-status']), 64) : '';
  let sel = false;
  if (want) { try { sel = !!find(want) } catch { sel = false } }
  const isNew = value !== '' && (touched || el !== oldEl);
  const isReady = sig === 'true' || sig === '' && value === 'ready' && isNew;
  const gives = !!shot && (isReady || always === true);
  raw(stringify({ t, o: ++messages, p: !!shot && !gives, e: epoch, r: sig, a: value, n: isNew, s: sel, w: !!find('#standby-ready'),
    x: more === undefined ? '' : cut(more, 1024), c: gives ? shot() : undefined }));
  return gives;
};
// messages counts what was said: a capture tells how much when it was made.
// unsaid is that something has changed since. going is that a transition is under
// way: what changes meanwhile is told with its end, for nothing is believed before.
let messages = 0, unsaid = false, going = false, epoch = 0, sig = '', want = '', muts = 0, touched = true, oldEl = null, lastMut = now();

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
