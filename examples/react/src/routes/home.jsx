import { Link, useLoaderData } from "react-router";
import { Cards } from "../card.jsx";
import { Chunk, fetchBirds, useHead } from "../root.jsx";

export const loader = fetchBirds;

export function Component() {
  const birds = useLoaderData();
  useHead({ title: "Birds to look out for", description: "A pocket guide, rendered before you asked for it." });
  return (
    <>
      <h1>Birds to look out for</h1>
      <p className="lead">A pocket guide that is one page in your browser and a whole document for everyone else.</p>
      <p><Link className="button" to="/birds">All {birds.length} birds</Link></p>
      <Cards birds={birds.slice(0, 3)} />
      <Chunk>{`release ${__RELEASE__}`}</Chunk>
    </>
  );
}
