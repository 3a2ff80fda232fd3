import { Chunk, useHead } from "../root.jsx";

export function Component() {
  useHead({ title: "About", description: "An ordinary React application that knows nothing of being prerendered." });
  return (
    <>
      <h1>About</h1>
      <p>An ordinary single-page application: lazy routes, a loader that fetches JSON, a not-found page. It was not changed to be prerendered.</p>
      <Chunk>{`release ${__RELEASE__}`}</Chunk>
    </>
  );
}
