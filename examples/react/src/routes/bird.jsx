import { Link, useLoaderData, useParams } from "react-router";
import { Chunk, fetchBirds, useHead } from "../root.jsx";

export async function loader({ params, request }) {
  const birds = await fetchBirds({ request });
  return birds.find((bird) => bird.id === params.id) ?? null;
}

export function Component() {
  const bird = useLoaderData();
  const { id } = useParams();
  useHead(bird
    ? { title: bird.name, description: bird.text }
    : { title: "No such bird", status: 404 });
  return (
    <>
      <p><Link to="/birds">All birds</Link></p>
      {bird ? (
        <>
          <h1>{bird.name}</h1>
          <p className="lead"><em>{bird.latin}</em></p>
          <p>{bird.text}</p>
          <dl><dt>Where</dt><dd>{bird.where}</dd><dt>When</dt><dd>{bird.when}</dd></dl>
        </>
      ) : <h1>No bird is called {id}</h1>}
      <Chunk>{`release ${__RELEASE__}`}</Chunk>
    </>
  );
}
