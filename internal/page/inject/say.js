// What the page says of itself, and how we are told: say, which returns whether
// the page says that it is ready. Whatever the page may patch
// later is taken here, before it runs.
const raw = window.__rewarmSend;
delete window.__rewarmSend;
if (window !== window.top || !raw) return;
const stringify = JSON.stringify, parse = JSON.parse, now = performance.now.bind(performance);
const { apply, construct } = Reflect;
const later = window.setTimeout.bind(window), raf = window.requestAnimationFrame.bind(window), P = Promise;
const post = window.scheduler && scheduler.postTask.bind(scheduler);
const say = (t, more, shot, always) => {
  const el = document.querySelector('[data-prerender-status]');
  const value = el ? el.getAttribute('data-prerender-status') : '';
  let sel = false;
  if (want) { try { sel = !!document.querySelector(want) } catch { sel = false } }
  const isNew = value !== '' && (touched || el !== oldEl);
  const isReady = sig === 'true' || sig === '' && value === 'ready' && isNew;
  raw(stringify({ t, e: epoch, r: sig, a: value, n: isNew, s: sel, w: !!document.getElementById('standby-ready'), m: muts,
    x: more === undefined ? '' : String(more).slice(0, 1024), c: shot && (isReady && !want || always) ? shot() : undefined }));
  return isReady;
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
