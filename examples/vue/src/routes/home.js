import { h } from "vue";
import { useRoute } from "vue-router";
import { list } from "../list.js";
import { chunk, fetchHarbours, link } from "../root.js";

export default {
  load: fetchHarbours,
  head: () => ({ title: "Know the tide", description: "A pilot book, rendered before you asked for it." }),
  setup() {
    const route = useRoute();
    return () => [
      h("h1", "Know the tide"),
      h("p", "A pilot book that is one page in your browser and a whole document for everyone else."),
      list((route.meta.data ?? []).slice(0, 2)),
      h("p", [link("/harbours", `All ${route.meta.data?.length} harbours`)]),
      chunk(`release ${__RELEASE__}`),
    ];
  },
};
