// wrap puts a function of ours in the place of a native one. A proxy looks like
// what it stands for: it has its name, its length and its properties, throws
// what it throws, and prints as native code. part is that of the property when
// it is an accessor.
const wrap = (owner, name, trap, part = 'value') => {
  const d = owner && Object.getOwnPropertyDescriptor(owner, name);
  if (!d || typeof d[part] !== 'function') return;
  d[part] = new Proxy(d[part], trap);
  Object.defineProperty(owner, name, d);
  return d[part];
};
// The traps that only look on: before is told of each call and each new, after
// of each call that did not throw.
const before = look => ({
  apply(f, self, args) { look(self, args); return apply(f, self, args) },
  construct(f, args, as) { look(); return construct(f, args, as) },
});
const after = look => ({ apply(f, self, args) {
  const r = apply(f, self, args);
  try { look(self, args, r) } catch { /* never the page's concern */ }
  return r;
} });
