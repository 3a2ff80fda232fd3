import { createApp } from "vue";
import { createRouter, createWebHistory } from "vue-router";
import { Root, useHead } from "./root.js";
import "./styles.css";

// Each route module is a chunk of its own, with its component, and what it
// loads before it is shown.
const route = (path, load) => ({ path, component: () => load().then((module) => module.default) });
const router = createRouter({
  history: createWebHistory(),
  routes: [
    route("/", () => import("./routes/home.js")),
    route("/harbours", () => import("./routes/harbours.js")),
    route("/harbours/:id", () => import("./routes/harbour.js")),
    route("/about", () => import("./routes/about.js")),
    route("/:rest(.*)*", () => import("./routes/notfound.js")),
  ],
});

// When the guards run the chunk is there; its data comes before it is shown.
router.beforeResolve(async (to) => {
  const component = to.matched[0].components.default;
  if (component.load) to.meta.data = await component.load();
});
router.afterEach((to) => useHead(to.matched[0].components.default.head(to)));

// An application that waits for its first route before it mounts replaces what
// it finds in one step: nothing is blank in between.
const app = createApp(Root).use(router);
router.isReady().then(() => app.mount("#app"));
