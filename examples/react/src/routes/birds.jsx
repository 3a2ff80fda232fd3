import { useState } from "react";
import { useLoaderData } from "react-router";
import { Cards } from "../card.jsx";
import { Chunk, fetchBirds, useHead } from "../root.jsx";

export const loader = fetchBirds;

export function Component() {
  const birds = useLoaderData();
  const [text, setText] = useState("");
  const found = birds.filter((bird) => `${bird.name} ${bird.latin} ${bird.where}`.toLowerCase().includes(text.toLowerCase()));
  useHead({ title: "All birds", description: birds.map((bird) => bird.name).join(", ") });
  return (
    <>
      <h1>All birds</h1>
      <label className="filter">Filter <input value={text} onChange={(event) => setText(event.target.value)} /></label>
      <Cards birds={found} />
      <Chunk>{`release ${__RELEASE__}`}</Chunk>
    </>
  );
}
