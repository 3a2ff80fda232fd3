import { h } from "vue";
import { chunk, link } from "../root.js";

export default {
  head: () => ({ title: "Not found", description: "There is no page at this address.", status: 404 }),
  setup: () => () => [
    h("h1", "Out of soundings"),
    h("p", "There is no page at this address."),
    h("p", [link("/", "Home")]),
    chunk(`release ${__RELEASE__}`),
  ],
};
