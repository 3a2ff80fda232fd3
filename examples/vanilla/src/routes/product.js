export default async ({ params: [id], json, escape, picture }) => {
  const product = (await json("/data/products.json")).find((p) => p.id === id);
  if (!product) return null; // the application shows its not-found page
  return {
    title: product.name,
    description: product.text,
    data: {
      "@context": "https://schema.org", "@type": "Product", name: product.name, description: product.text,
      offers: { "@type": "Offer", price: product.price.toFixed(2), priceCurrency: "EUR", availability: "https://schema.org/InStock" },
    },
    html: `<p class="back"><a href="/products">Products</a></p>
<section class="product" style="--tint:${product.hue}">${picture(product.icon)}
<div><h1>${escape(product.name)}</h1><p class="lead">${escape(product.tagline)}</p><p>${escape(product.text)}</p>
<p><b class="price">€ ${product.price.toFixed(2)}</b> <button class="button" type="button" data-add>Add to basket</button></p></div></section>
<p class="chunk">This chunk: <span>release %RELEASE%</span></p>`,
  };
};
