// Runs in every document after init.js. CONFIG is replaced by {origins, header}.
// While a render's id is set, what the page asks of its own origin carries it:
// a header for everything (Network.setExtraHTTPHeaders) would make requests to
// other origins ask for permission first, and fail.
// A page is frozen while it is idle and must not find out: applications fetch
// their data again when somebody comes back to them, and here nobody left.
(() => {
  const cfg = CONFIG, own = window.__rewarm;
  for (const name of ['freeze', 'resume', 'visibilitychange', 'webkitvisibilitychange', 'blur', 'focus']) {
    window.addEventListener(name, ev => {
      if (ev.isTrusted && (ev.target === window || ev.target === document)) ev.stopImmediatePropagation();
    }, true);
  }
  if (window !== window.top || !own || !cfg.origins.includes(location.origin)) return;
  let id = '';
  Object.defineProperty(own, 'carry', { value: v => { id = v } });
  const Headers = window.Headers, Request = window.Request, URL = window.URL, home = location.origin;
  const isOwn = url => { try { return new URL(url, document.baseURI).origin === home } catch { return false } };
  const fetch = window.fetch;
  window.fetch = function (input, init) {
    const asked = input instanceof Request;
    if (!id || !isOwn(asked ? input.url : input)) return fetch.apply(this, arguments);
    try {
      const headers = new Headers(init && init.headers || (asked ? input.headers : undefined));
      headers.set(cfg.header, id);
      init = Object.assign({}, init, { headers });
    } catch { /* it will say so itself */ }
    return fetch.call(this, input, init);
  };
  const xhr = window.XMLHttpRequest.prototype, open = xhr.open, set = xhr.setRequestHeader;
  xhr.open = function (method, url) {
    const result = open.apply(this, arguments);
    if (id && isOwn(url)) set.call(this, cfg.header, id);
    return result;
  };
})();
