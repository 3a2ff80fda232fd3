export default () => ({
  title: "About",
  description: "How this page came to be in the HTML that your browser was sent.",
  html: `<div class="prose"><h1>About this page</h1>
<p>Hearth is a single-page application without a framework: one shell, one chunk a route, data from a JSON file. On its own, a crawler would be sent an empty page.</p>
<ol><li>The realm server sends the shell with the prerendered page in it.</li>
<li>The prerendered page came from a warm Chrome page that went to this route.</li>
<li>The application boots, renders the same page, and takes over.</li></ol>
<p>After a deploy each of those three must be of the new version, all at once. The line below and the one in the footer name the versions that this page was made of: they are always the same.</p></div>
<p class="chunk">This chunk: <span>release %RELEASE%</span></p>`,
});
