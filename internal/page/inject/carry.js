// What the page asks of its own origin carries the id of the render that it is
// for, while one is set. A header for everything (Network.setExtraHTTPHeaders)
// would make requests to other origins ask for permission first, and fail.
let carried = '';
if (cfg.origins.includes(location.origin)) {
  const { Headers, Request, URL } = window, home = location.origin;
  const isOwn = url => { try { return new URL(url, document.baseURI).origin === home } catch { return false } };
  wrap(window, 'fetch', { apply(f, self, args) {
    const [input, init] = args, asked = input instanceof Request;
    if (!carried || !isOwn(asked ? input.url : input)) return apply(f, self, args);
    try {
      const headers = new Headers(init && init.headers || (asked ? input.headers : undefined));
      headers.set(cfg.header, carried);
      return apply(f, self, [input, Object.assign({}, init, { headers })]);
    } catch { return apply(f, self, args) } // it will say itself what is wrong
  } });
  const set = XMLHttpRequest.prototype.setRequestHeader;
  wrap(XMLHttpRequest.prototype, 'open', { apply(f, self, args) {
    const opened = apply(f, self, args);
    if (carried && isOwn(args[1])) apply(set, self, [cfg.header, carried]);
    return opened;
  } });
}
