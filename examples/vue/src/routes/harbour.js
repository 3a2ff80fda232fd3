import { h } from "vue";
import { useRoute } from "vue-router";
import { chunk, fetchHarbours, link } from "../root.js";

const find = (route) => route.meta.data?.find(({ id }) => id === route.params.id);

export default {
  load: fetchHarbours,
  head: (to) => find(to) ? { title: find(to).name, description: find(to).text } : { title: "No such harbour", status: 404 },
  setup() {
    const route = useRoute();
    return () => [
      h("p", [link("/harbours", "All harbours")]),
      find(route)
        ? [h("h1", find(route).name), h("p", find(route).text), h("p", `The range is ${find(route).range}.`)]
        : h("h1", `No harbour is called ${route.params.id}`),
      chunk(`release ${__RELEASE__}`),
    ];
  },
};
