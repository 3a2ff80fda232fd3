import { Link } from "react-router";

export function Cards({ birds }) {
  return (
    <ul className="grid">
      {birds.map((bird) => (
        <li key={bird.id}>
          <Link className="card" to={`/birds/${bird.id}`} style={{ "--tint": bird.hue }}>
            <strong>{bird.name}</strong>
            <em>{bird.latin}</em>
            <small>{bird.where}. {bird.when}</small>
          </Link>
        </li>
      ))}
    </ul>
  );
}
