import { Link } from "react-router";
import { Chunk, useHead } from "../root.jsx";

export function Component() {
  useHead({ title: "Not found", description: "There is no page at this address.", status: 404 });
  return (
    <>
      <h1>Flown away</h1>
      <p>There is no page at this address.</p>
      <p><Link className="button" to="/">Home</Link></p>
      <Chunk>{`release ${__RELEASE__}`}</Chunk>
    </>
  );
}
