export default async ({ json, escape, picture }) => {
  const products = await json("/data/products.json");
  const cards = products.map((p) => `<li><a class="card" href="/products/${escape(p.id)}" style="--tint:${p.hue}">
${picture(p.icon)}<strong>${escape(p.name)}</strong><small>${escape(p.tagline)}</small><b class="price">€ ${p.price.toFixed(2)}</b></a></li>`).join("");
  return {
    title: "Products",
    description: `All ${products.length} things that keep warm: ${products.map((p) => p.name).join(", ")}.`,
    html: `<h1>Products</h1><ul class="grid">${cards}</ul>
<p class="chunk">This chunk: <span>release %RELEASE%</span></p>`,
  };
};
