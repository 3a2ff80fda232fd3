// Each chunk names the release it was built in, in its own text: a page whose
// shell and chunk come from two releases shows it.
export default async ({ json, escape, picture }) => {
  const products = await json("/data/products.json");
  const cards = products.slice(0, 3).map((p) => `<li><a class="card" href="/products/${escape(p.id)}" style="--tint:${p.hue}">
${picture(p.icon)}<strong>${escape(p.name)}</strong><small>${escape(p.tagline)}</small></a></li>`).join("");
  return {
    title: "Things that keep warm",
    description: "A small shop for kettles, blankets and lanterns, and a page that is never a deploy behind.",
    html: `<section class="hero"><p class="eyebrow">Prerendered, and never a deploy behind</p>
<h1>Things that keep warm</h1>
<p>This page was rendered by a warm browser before you asked for it, then taken over by the application in yours. Deploy another version and watch every warm page move to it.</p>
<p><a class="button" href="/products">See all ${products.length} products</a> <a class="quiet" href="/about">How it works</a></p></section>
<h2>New this week</h2><ul class="grid">${cards}</ul>
<p class="chunk">This chunk: <span>release %RELEASE%</span></p>`,
  };
};
