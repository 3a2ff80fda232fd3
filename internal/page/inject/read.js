// What a visitor can read and follow: the lines of text that are shown, and the
// links. A line ends where the layout ends it, so it does not matter how the
// text is cut into nodes. What matches allow may differ and is left out.
const read = allow => {
  const lines = [], links = [];
  let line = "", nodes = 0, size = 0;
  const end = () => {
    const text = line.replace(/\s+/g, " ").trim();
    line = "";
    if (text) { lines.push(text); size += text.length }
  };
  const walk = (node, visible, depth) => {
    if (++nodes > 50000 || size > 1 << 20 || depth > 1000) return;
    if (node.nodeType === 3) { if (visible) line += node.data.slice(0, 1 << 16); return }
    if (node.nodeType !== 1 || /^(script|style|noscript|template|textarea|select|iframe|object)$/i.test(node.nodeName)) return;
    if (allow && node.matches(allow)) return;
    const style = getComputedStyle(node);
    if (style.display === "none") return;
    const block = node.nodeName === "BR" || !/^(inline|contents|ruby)/.test(style.display);
    if (block) end();
    if (node.nodeName === "A" && typeof node.href === "string" && node.href && links.length < 5000) links.push(node.href.slice(0, 2048));
    const slotted = node.nodeName === "SLOT" ? node.assignedNodes() : [];
    const inside = slotted.length ? slotted : (node.shadowRoot || node).childNodes;
    for (const child of inside) walk(child, style.visibility === "visible", depth + 1);
    if (block) end();
  };
  if (document.body) walk(document.body, true, 0);
  end();
  return { lines, links, size };
};
// The places of what may differ, in the viewport, to be left out of pictures.
const places = allow => !allow ? [] : [...document.querySelectorAll(allow)].slice(0, 100).map(e => {
  const r = e.getBoundingClientRect();
  return [r.left, r.top, r.right, r.bottom].map(Math.round);
});
