import { computed, h, ref } from "vue";
import { useRoute } from "vue-router";
import { list } from "../list.js";
import { chunk, fetchHarbours } from "../root.js";

export default {
  load: fetchHarbours,
  head: (to) => ({ title: "All harbours", description: to.meta.data.map(({ name }) => name).join(", ") }),
  setup() {
    const harbours = useRoute().meta.data;
    const text = ref("");
    const found = computed(() => harbours.filter(({ name }) => name.toLowerCase().includes(text.value.toLowerCase())));
    return () => [
      h("h1", "All harbours"),
      h("label", ["Filter ", h("input", { value: text.value, onInput: (event) => { text.value = event.target.value } })]),
      list(found.value),
      chunk(`release ${__RELEASE__}`),
    ];
  },
};
