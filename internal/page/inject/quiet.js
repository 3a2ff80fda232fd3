// What moves in the page, and the proof that nothing does.

// At most one message in four milliseconds, the first at once: a page that
// builds a table row by row must not spend its time on telling us so, and one
// that has just said that it is ready is waited for. Whatever is said meanwhile
// tells what there was to note.
let sent = -1e9, timer = 0;
const note = () => {
  unsaid = true;
  if (timer || going) return;
  const wait = sent + 4 - now();
  const due = () => { timer = 0; if (unsaid && !going) { sent = now(); say('m') } };
  if (wait <= 0) due();
  else timer = later(due, wait);
};
// What changes again and again without growing is a ticker: a clock, a counter,
// a carousel. It is waited for no longer than what is drawn in a few dozen steps.
// ticks counts the changes of each node.
const often = 30;
let ticks = bag(new WeakMap());
const progress = node => {
  const size = node.childNodes.length, tick = ticks.get(node);
  if (!tick) { ticks.set(node, { n: 1, size }); return true }
  const grew = size > tick.size;
  if (grew) tick.size = size;
  return ++tick.n <= often || grew;
};
const take = records => {
  let changed = false;
  for (const r of records) {
    if (r.type !== 'attributes') changed = progress(r.target) || changed;
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

// What scripts have asked to be called for: each kind in a map from its id to
// { due, depth }, the time at which it is due and how many such calls led to it.
// One that was asked for by a call that was asked for by a call ... is a loop.
const loop = 5;
let depth = 0;
const timers = bag(), frames = bag(), idles = bag();
const called = (f, known, entry, keep) => new Proxy(f, { apply(f, self, args) {
  if (!keep) known.delete(entry.id);
  else { entry.depth++; entry.due = now() + entry.every }
  const before = depth;
  depth = entry.depth;
  try { return apply(f, self, args) } finally { depth = before }
} });
const ask = (known, name, every) => wrap(window, name, { apply(f, self, args) {
  if (typeof args[0] !== 'function') return apply(f, self, args);
  const ms = known === timers && args[1] > 0 ? +args[1] : 0;
  const entry = { id: 0, due: now() + ms, depth: depth + 1, every: ms };
  const ours = [...args];
  ours[0] = called(args[0], known, entry, every);
  entry.id = apply(f, self, ours);
  known.set(entry.id, entry);
  return entry.id;
} });
const drop = (known, name) => wrap(window, name, { apply(f, self, args) {
  known.delete(args[0]);
  return apply(f, self, args);
} });
ask(timers, 'setTimeout'); drop(timers, 'clearTimeout');
ask(timers, 'setInterval', true); drop(timers, 'clearInterval');
ask(frames, 'requestAnimationFrame'); drop(frames, 'cancelAnimationFrame');
ask(idles, 'requestIdleCallback'); drop(idles, 'cancelIdleCallback');

// Work whose end the page does not show: after any of it, silence is kept for a
// while. And what is told with a frame only: one is waited for.
let elsewhere = -1, watching = false;
const away = before(() => { elsewhere = now() }), seen = before(() => { watching = true });
for (const name of ['SharedWorker', 'BroadcastChannel', 'FileReader', 'createImageBitmap']) wrap(window, name, away);
for (const name of ['compile', 'instantiate', 'compileStreaming', 'instantiateStreaming']) wrap(window.WebAssembly, name, away);
wrap(window.IDBFactory && IDBFactory.prototype, 'open', away);
wrap(window.CacheStorage && CacheStorage.prototype, 'open', away);
wrap(window.CacheStorage && CacheStorage.prototype, 'match', away);
wrap(window.LockManager && LockManager.prototype, 'request', away);
wrap(HTMLImageElement.prototype, 'decode', away);
wrap(Document.prototype, 'startViewTransition', away);
// A worker that was started, or was told something, has something to say; one
// that does not say it within a second is one that only listens.
let awaited = -1, woken = null;
const tell = () => { elsewhere = now(); awaited = elsewhere + 1000 };
const told = () => { elsewhere = now(); awaited = -1; if (woken) woken() };
wrap(window, 'Worker', { construct(f, args, as) {
  const worker = construct(f, args, as);
  tell();
  listen(worker, 'message', told);
  listen(worker, 'error', told);
  return worker;
} });
wrap(window.Worker && Worker.prototype, 'postMessage', before(tell));
for (const name of ['IntersectionObserver', 'ResizeObserver']) wrap(window, name, seen);

// drain calls f, with how long it took, once every task that was ready has run,
// or after a tenth of a second on a page whose tasks never end.
const drain = f => {
  const began = now();
  let over = false;
  const end = () => { if (!over) { over = true; f(now() - began) } };
  if (post) post(end, { priority: 'background' });
  else later(end, 0);
  later(end, 100);
};
// turn is drain after the frame that somebody waits for, unless it never comes.
const turn = f => {
  let wanted = watching;
  for (const e of frames.values()) wanted = wanted || e.depth <= loop;
  if (!wanted) return drain(f);
  let over = false;
  const end = () => { if (!over) { over = true; drain(f) } };
  raf(end);
  later(end, 400);
};
// coming is in how many milliseconds the next call is due that is due within the
// window; -1 when none is. Loops count while the page grows by them.
const coming = window => {
  const at = now();
  let next = -1;
  for (const known of [timers, frames, idles]) {
    for (const e of known.values()) {
      if (e.due - at > window || e.depth > loop && at - lastMut > window) continue;
      // A thread that we keep busy is never idle.
      const ms = e.due > at ? e.due - at : known === idles ? 10 : 0;
      if (next < 0 || ms < next) next = ms;
    }
  }
  return next;
};
// detour calls f after a way through other threads and another process and back:
// what was under way there before it, a script being compiled or an answer being
// handed over, has mostly arrived by then, however busy the machine is.
const { then: whenDone } = P.prototype, { Blob: B } = window, { text: readBlob } = B.prototype;
const digest = window.crypto && crypto.subtle && crypto.subtle.digest.bind(crypto.subtle, 'SHA-1', new Uint8Array(1));
let blob; // to make one asks another process, so not for each document
const detour = f => {
  let ways = 1, over = false;
  const end = () => { if (!over && --ways <= 0) { over = true; f() } };
  if (digest) { ways++; apply(whenDone, digest(), [end, end]) }
  blob ||= construct(B, [['']]);
  apply(whenDone, apply(readBlob, blob, []), [end, end]);
  later(() => { ways = 0; end() }, 2000);
};
// prove calls then with whether the page is quiet: its thread had a turn in
// which nothing changed, no call is due within the window, and, after work that
// cannot be seen, nothing changed for as long; and so once more after a detour.
// Where a turn takes long, because the machine is busy, three more are given. A
// page that moves for too long is not quiet; one that is slow is waited for.
const prove = (window, then) => {
  const until = now() + 3 * window + 100;
  let before = muts, extra = 3, sure = false;
  const pause = ms => {
    let over = false;
    woken = () => { if (!over) { over = true; turn(look) } };
    later(woken, ms);
  };
  const look = lag => {
    take(observer.takeRecords());
    const at = now(), due = coming(window), silent = at - (lastMut > elsewhere ? lastMut : elsewhere);
    const wait = due >= 0 ? due : awaited > at ? awaited - at : elsewhere >= 0 && silent < window ? window - silent : -1;
    const still = muts === before && wait < 0;
    before = muts;
    if (!still) sure = false;
    if (still && sure && (lag < 5 || !extra--)) return then(true);
    if (!still && at >= until) return then(false);
    if (still && !sure) { sure = true; detour(() => turn(look)) }
    else if (wait > 1) pause(wait);
    else turn(look);
  };
  take(observer.takeRecords());
  before = muts;
  turn(look);
};
const unmoved = () => { ticks = bag(new WeakMap()); elsewhere = awaited = -1; watching = false };
