import { useLayoutEffect } from "react";
import { NavLink, Link, Outlet, useLocation, useRouteError } from "react-router";

// What React has put on the screen: the key of the last location. The router's
// state runs ahead of it.
let shown;
let waiting = [];
export const isShown = (key) => shown === key;
export const nextCommit = () => new Promise((resolve) => waiting.push(resolve));

export function Root() {
  const { key } = useLocation();
  useLayoutEffect(() => {
    shown = key;
    for (const resolve of waiting) resolve();
    waiting = [];
  }, [key]);
  return (
    <div className={`frame ${__RELEASE__}`}>
      <header>
        <Link className="brand" to="/">Fieldbook</Link>
        <nav>
          <NavLink to="/birds">Birds</NavLink>
          <NavLink to="/about">About</NavLink>
        </nav>
      </header>
      <main><Outlet /></main>
      <footer>
        <span>Built with Vite, React and React Router.</span>
        <span className="release">{`release ${__RELEASE__}`}</span>
      </footer>
    </div>
  );
}

// Chunk names the release that a lazily loaded module was built in. Each route
// passes its own, so that a mix of two builds shows.
export function Chunk({ children }) {
  return <p className="chunk">This chunk: <span>{children}</span></p>;
}

// useHead sets what search engines read of a page.
export function useHead({ title, description, status }) {
  useLayoutEffect(() => {
    document.title = title ? `${title} · Fieldbook` : "Fieldbook";
    document.querySelector("meta[name=description]").content = description ?? "Birds to look out for.";
    if (!status) return undefined;
    // The convention of prerender services for a page that is not a 200.
    const meta = document.createElement("meta");
    meta.name = "prerender-status-code";
    meta.content = status;
    document.head.append(meta);
    return () => meta.remove();
  }, [title, description, status]);
}

export function NotLoaded() {
  const error = useRouteError();
  useHead({ title: "Not loaded", status: 500 });
  return (
    <>
      <h1>This page could not be loaded</h1>
      <p>{String(error?.message ?? error)}</p>
      <p><button type="button" className="button" onClick={() => location.reload()}>Load it again</button></p>
    </>
  );
}

export function Standby() {
  return <p id="standby-ready">Standing by.</p>;
}

export async function fetchBirds({ request }) {
  const response = await fetch("/data/birds.json", { signal: request.signal });
  if (!response.ok) throw new Error(`the list of birds answered ${response.status}`);
  return response.json();
}
