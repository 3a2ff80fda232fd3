// What moves: changes of the document, and frames that were asked for.
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
