import { h } from "vue";
import { RouterLink, RouterView } from "vue-router";

export const link = (to, text, props) => h(RouterLink, { to, ...props }, () => text);

export const Root = () => h("div", { class: `frame ${__RELEASE__}` }, [
  h("header", [link("/", "Tideline", { class: "brand" }), h("nav", [link("/harbours", "Harbours"), link("/about", "About")])]),
  h("main", [h(RouterView)]),
  h("footer", [h("span", "Built with Vite, Vue and Vue Router."), h("span", { class: "release" }, `release ${__RELEASE__}`)]),
]);

// chunk names the release that a lazily loaded module was built in. Each route
// passes its own, so that a mix of two builds shows.
export const chunk = (release) => h("p", { class: "chunk" }, ["This chunk: ", h("span", release)]);

// useHead sets what search engines read of a page.
export function useHead({ title, description, status }) {
  document.title = title ? `${title} · Tideline` : "Tideline";
  document.querySelector("meta[name=description]").content = description ?? "Harbours and their tides.";
  let meta = document.querySelector("meta[name=prerender-status-code]");
  if (!status) return meta?.remove();
  // The convention of prerender services for a page that is not a 200.
  meta ??= document.head.appendChild(Object.assign(document.createElement("meta"), { name: "prerender-status-code" }));
  meta.content = status;
}

export async function fetchHarbours() {
  const response = await fetch("/data/harbours.json");
  if (!response.ok) throw new Error(`the list of harbours answered ${response.status}`);
  return response.json();
}
