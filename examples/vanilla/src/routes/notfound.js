export default ({ pathname, escape }) => ({
  title: "Not found",
  description: "There is no page at this address.",
  status: 404,
  html: `<div class="prose"><p class="eyebrow">404</p><h1>Nothing warm here</h1>
<p>There is no page at <code>${escape(pathname)}</code>.</p><p><a class="button" href="/">Home</a></p></div>
<p class="chunk">This chunk: <span>release %RELEASE%</span></p>`,
});
