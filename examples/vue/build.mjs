// Builds the two releases of this example into dist/. The builds are in the
// repository, so that nothing has to be installed to try them:
//
//   npm ci && npm run build
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "vite";

const root = fileURLToPath(new URL(".", import.meta.url));

for (const release of ["v1", "v2"]) {
  await build({
    root,
    configFile: false,
    logLevel: "warn",
    define: {
      __RELEASE__: JSON.stringify(release),
      __VUE_OPTIONS_API__: "false",
      __VUE_PROD_DEVTOOLS__: "false",
      __VUE_PROD_HYDRATION_MISMATCH_DETAILS__: "false",
    },
    plugins: [{
      name: "name-the-release",
      transformIndexHtml: (html) => html.replace("%RELEASE%", release),
    }],
    build: {
      outDir: `dist/${release}`,
      emptyOutDir: true,
      rollupOptions: {
        // Libraries change less often than the application: their chunk has the
        // same name in all builds, as it would between deploys.
        output: { manualChunks: (id) => (id.includes("node_modules") ? "vendor" : undefined) },
      },
    },
  });
}

// A test compares this with the sources, and fails when dist/ is behind them.
function files(path) {
  return statSync(join(root, path)).isDirectory()
    ? readdirSync(join(root, path)).flatMap((name) => files(`${path}/${name}`))
    : [path];
}
const hash = createHash("sha256");
const sources = ["build.mjs", "index.html", "package-lock.json", "public", "src"].flatMap(files);
for (const name of sources.sort()) {
  hash.update(`${name}\0`).update(readFileSync(join(root, name))).update("\0");
}
writeFileSync(join(root, "dist/sources.sha256"), `${hash.digest("hex")}\n`);
