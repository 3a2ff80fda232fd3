import { createRoot } from "react-dom/client";
import { createBrowserRouter } from "react-router";
import { RouterProvider } from "react-router/dom";
import { NotLoaded, Root, Standby, isShown, nextCommit } from "./root.jsx";
import "./styles.css";

// Each route module is a chunk of its own, with its component and its loader.
const children = [
  { index: true, lazy: () => import("./routes/home.jsx") },
  { path: "birds", lazy: () => import("./routes/birds.jsx") },
  { path: "birds/:id", lazy: () => import("./routes/bird.jsx") },
  { path: "about", lazy: () => import("./routes/about.jsx") },
  { path: "*", lazy: () => import("./routes/notfound.jsx") },
];
if (__TRANSITION__) children.push({ path: "_standby", Component: Standby });

const router = createBrowserRouter([{
  Component: Root,
  HydrateFallback: () => null,
  children: [{ ErrorBoundary: NotLoaded, children }],
}]);

// The variant for Rewarm's quickest mode: a warm page goes to a route without
// loading the document again. Everything else is the same application.
if (__TRANSITION__) {
  let newest = 0;
  window.prerenderTransitionTo = async (path) => {
    const mine = ++newest;
    await router.navigate(path, { replace: true });
    for (;;) {
      // The router resolves a navigation that another one interrupted, too.
      if (mine !== newest) throw new Error(`the navigation to ${path} was superseded`);
      const { location, errors } = router.state;
      if (errors) throw Object.values(errors)[0];
      if (isShown(location.key)) return;
      await nextCommit();
    }
  };
}

createRoot(document.getElementById("root")).render(<RouterProvider router={router} />);
