// The application: finds the route, loads its chunk, renders into #app.
// A host needs nothing of this for Rewarm; the three things it says all the
// same are marked with "Rewarm:" below.

const release = "%RELEASE%";

// Each route is a chunk of its own, loaded when it is first needed. The names
// carry the hash of their content, so each release has other names.
const routes = [
  { pattern: /^\/$/, load: () => import("./%HOME%") },
  { pattern: /^\/about$/, load: () => import("./%ABOUT%") },
  { pattern: /^\/products$/, load: () => import("./%PRODUCTS%") },
  { pattern: /^\/products\/([^/]+)$/, load: () => import("./%PRODUCT%") },
  // Rewarm: /_standby is where a warm page waits; #standby-ready says it is up.
  { pattern: /^\/_standby$/, load: async () => ({ default: () => ({ title: "Standing by", html: `<p id="standby-ready" class="prose">Standing by.</p>` }) }) },
];
const notFound = { load: () => import("./%NOTFOUND%") };

const app = document.getElementById("app");
let current = 0; // the newest navigation; an older one must not overwrite it
let basket = 0;

const escapes = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
const escape = (value) => String(value).replace(/[&<>"']/g, (c) => escapes[c]);

const picture = (path) => `<svg class="picture" viewBox="-6 -3 36 30" aria-hidden="true"><path d="${escape(path)}"></path></svg>`;

async function json(url) {
  const response = await fetch(url, { headers: { Accept: "application/json" } });
  if (!response.ok) throw new Error(`${url} answered ${response.status}`);
  return response.json();
}

async function page(pathname) {
  const path = pathname.length > 1 ? pathname.replace(/\/+$/, "") : pathname;
  for (const route of routes) {
    const match = route.pattern.exec(path);
    if (!match) continue;
    const chunk = await route.load();
    const result = await chunk.default({ params: match.slice(1), json, escape, picture });
    if (result) return result;
    break; // the route exists, what it should show does not
  }
  return (await notFound.load()).default({ pathname, escape });
}

function frame(pathname, status, html) {
  const link = (href, text) => {
    const here = href === "/" ? pathname === "/" : pathname.startsWith(href);
    return `<a href="${href}"${here ? ' aria-current="page"' : ""}>${text}</a>`;
  };
  // Rewarm: data-prerender-status tells when the page has settled, and how.
  return `<div class="frame" data-prerender-status="${status}">
<header><a class="brand" href="/"><img src="/favicon.svg" width="28" height="28" alt="">Hearth</a>
<nav>${link("/", "Home")}${link("/products", "Products")}${link("/about", "About")}</nav>
<span class="basket">Basket <b>${basket}</b></span></header>
<article>${html}</article>
<footer><span>Hearth keeps things warm.</span><span class="release">release ${release}</span></footer>
</div>`;
}

function setHead({ title, description, status, data }) {
  document.title = title ? `${title} · Hearth` : "Hearth";
  element("meta", "name", "description").content = description ?? "Things that keep warm.";
  element("link", "rel", "canonical").href = location.origin + location.pathname;
  const code = element("meta", "name", "prerender-status-code");
  if (status) code.content = status;
  else code.remove();
  const ld = element("script", "type", "application/ld+json");
  // "<" is escaped so that no value can end the element.
  if (data) ld.textContent = JSON.stringify(data).replace(/</g, "\\u003c");
  else ld.remove();
}

function element(tag, attribute, value) {
  let found = document.head.querySelector(`${tag}[${attribute}="${value}"]`);
  if (!found) {
    found = document.createElement(tag);
    found.setAttribute(attribute, value);
    document.head.append(found);
  }
  return found;
}

// put replaces what #app shows. When the prerendered page is already there and
// says the same, nothing is touched: the visitor sees no flash, keeps the
// scroll position and any selected text. Clicks are handled at the document,
// so the markup is alive either way.
function put(html) {
  const next = document.createElement("template");
  next.innerHTML = html;
  if (app.childElementCount === 1 && app.firstElementChild.isEqualNode(next.content.firstElementChild)) return;
  app.replaceChildren(next.content);
}

// show renders a route. It rejects when the route cannot be rendered, or when
// a newer navigation has taken its place.
async function show(url, commit) {
  const mine = ++current;
  const superseded = () => mine !== current && new Error(`navigation to ${url.pathname} was superseded`);
  try {
    const result = await page(url.pathname);
    if (superseded()) throw superseded();
    commit();
    setHead(result);
    put(frame(url.pathname, "ready", result.html));
  } catch (error) {
    if (superseded()) throw superseded();
    commit();
    setHead({ title: "Not loaded" });
    put(frame(url.pathname, "error", `<div class="prose"><h1>This page could not be loaded</h1>
<p data-prerender-error>${escape(error.message)}</p><p><a href="${escape(url.pathname)}" data-reload>Try again</a></p></div>`));
    throw error;
  }
}

// Rewarm: a warm page goes to a route without loading the document again. The
// promise resolves once the route is rendered. The history entry is replaced,
// or the history of a page that renders for days would only grow.
window.prerenderTransitionTo = (path) => {
  const url = new URL(path, location.origin);
  return show(url, () => history.replaceState(null, "", url));
};

// go is a visitor's navigation. After a deploy the next chunk may be gone:
// loading the document gets the new release instead of an error.
function go(url) {
  const mine = current + 1;
  show(url, () => history.pushState(null, "", url)).then(
    () => scrollTo(0, 0),
    () => { if (mine === current) location.reload(); },
  );
}

document.addEventListener("click", (event) => {
  const add = event.target.closest("[data-add]");
  if (add) {
    basket++;
    app.querySelector(".basket b").textContent = basket;
    return;
  }
  const link = event.target.closest("a[href]");
  if (!link || link.target || link.origin !== location.origin || "reload" in link.dataset) return;
  if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  if (link.hash && link.pathname === location.pathname) return;
  event.preventDefault();
  go(new URL(link.href));
});

addEventListener("popstate", () => {
  show(new URL(location.href), () => {}).catch((error) => console.error(error));
});

show(new URL(location.href), () => {}).catch((error) => console.error(error));
