// What is seen of a visitor's page. It runs in a world of its own, so the page
// sees nothing of it: no name, no changed function.
if (self !== top || self.rewarm) return;
const marked = "data-rewarm-prerendered";
const allowed = node => {
  for (let e = node; allow && e; e = e.parentNode || e.host) if (e.nodeType === 1 && e.matches(allow)) return true;
  return false;
};
const visible = node => node.nodeType === 1
  ? !/^(script|style|link|template|noscript|meta|base|title)$/i.test(node.nodeName)
  : node.nodeType === 3 && /\S/.test(node.data);
const shifts = [], samples = [];
let frames = []; // the times of those that changed
// root is where the realm server put what was prerendered; own is whether it
// is an element of ours, which goes at the takeover, and not the application's.
let root, own = false, took = 0, dirty = true, changed = false, last = 0;

// A record tells of the takeover when it changes what was prerendered. The
// script that the realm server put behind it takes itself away first: in the
// application's mount element, or beside our own. A page without one (a bare
// shell) is taken over when something is shown that the parser did not add.
const takes = record => {
  if (root) return own ? !root.isConnected : root === record.target || root.contains(record.target) || !root.isConnected;
  for (const node of record.removedNodes) {
    if (node.nodeName === "SCRIPT" && node.textContent.includes(marked)) {
      root = document.querySelector("div[" + marked + "]");
      own = !!root;
      root ||= record.target;
      sample(); // the application may empty it before there is a frame
      return false;
    }
  }
  if (!document.body?.contains(record.target)) return false;
  return [...record.removedNodes].some(visible) || document.readyState !== "loading" && [...record.addedNodes].some(visible);
};

new MutationObserver(records => {
  dirty = true;
  for (const record of records) {
    if (!took && takes(record)) took = performance.now();
    if (record.type === "attributes" || changed || allowed(record.target)) continue;
    const nodes = [...record.addedNodes, ...record.removedNodes];
    changed = record.type === "characterData" || nodes.some(node => visible(node) && !allowed(node));
  }
  if (changed) last = performance.now();
}).observe(document, { subtree: true, childList: true, characterData: true, attributes: true });

// How much text each changed frame shows. Reading costs; it may take a tenth
// of the time.
let next = 0;
const sample = () => {
  dirty = false;
  const began = performance.now();
  samples.push([began, read(allow).size]);
  next = performance.now() + 10 * (performance.now() - began - 2);
};
const frame = now => {
  if (changed) frames.push(now);
  changed = false;
  frames = frames.filter(t => now - t < 2000);
  if (dirty && now >= next && document.body && samples.length < 2000) sample();
  requestAnimationFrame(frame);
};
requestAnimationFrame(frame);

const name = node => node.nodeType !== 1 ? "text" : node.localName + (node.id ? "#" + node.id : "") + [...node.classList].slice(0, 2).map(c => "." + c).join("");
const shifted = list => {
  for (const entry of list) {
    const nodes = entry.sources.map(s => s.node).filter(Boolean);
    if (entry.hadRecentInput || shifts.length >= 500 || nodes.length && nodes.every(allowed)) continue;
    shifts.push({ t: entry.startTime, v: entry.value, n: nodes.slice(0, 3).map(n => name(n).slice(0, 200)) });
  }
};
const watcher = new PerformanceObserver(list => shifted(list.getEntries()));
watcher.observe({ type: "layout-shift", buffered: true });

// Text that has vanished may be about to come back. A host that adopts what it
// finds takes over without a change: a listener shows that, which the DevTools
// can see and a page cannot.
self.rewarm = {
  still: ms => ({
    quiet: performance.now() - last >= ms && 2 * read(allow).size >= Math.max(0, ...samples.map(s => s[1])),
    took: took > 0,
  }),
  end: () => {
    shifted(watcher.takeRecords());
    const [navigation] = performance.getEntriesByType("navigation");
    const now = performance.now();
    return {
      ...read(allow), places: places(allow), shifts, samples, took, busy: frames.filter(t => now - t < 2000).length,
      left: !!document.querySelector("div[" + marked + "]"), response: navigation?.responseStart, load: navigation?.loadEventEnd,
    };
  },
};
