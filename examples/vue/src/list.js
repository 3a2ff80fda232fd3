import { h } from "vue";
import { link } from "./root.js";

export const list = (harbours) => h("ul", harbours.map(({ id, name, range }) =>
  h("li", { key: id }, [link(`/harbours/${id}`, name), h("small", ` range ${range}`)])));
