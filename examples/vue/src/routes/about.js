import { h } from "vue";
import { chunk } from "../root.js";

export default {
  head: () => ({ title: "About", description: "An ordinary Vue application that knows nothing of being prerendered." }),
  setup: () => () => [
    h("h1", "About"),
    h("p", "An ordinary single-page application: lazy routes, data that is fetched before a route is shown, a not-found page."),
    chunk(`release ${__RELEASE__}`),
  ],
};
