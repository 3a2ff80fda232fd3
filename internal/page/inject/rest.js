// A page is frozen while it is idle and must not find out, in any frame:
// applications fetch their data again when somebody comes back to them, and here
// nobody left.
for (const name of ['freeze', 'resume', 'visibilitychange', 'webkitvisibilitychange', 'blur', 'focus']) {
  window.addEventListener(name, ev => {
    if (ev.isTrusted && (ev.target === window || ev.target === document)) ev.stopImmediatePropagation();
  }, true);
}
