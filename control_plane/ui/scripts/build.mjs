// Builds the page into ../api/page: index.html, app.js, app.css, and the hash of the sources they were made from.
import { createHash } from "node:crypto";
import { copyFileSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

const here = new URL("..", import.meta.url);
const out = process.argv[2] ? new URL(`file://${process.argv[2]}/`) : new URL("../api/page/", here);
const LIMIT = 500_000;

const shared = { bundle: true, minify: true, legalComments: "inline", logLevel: "warning", charset: "utf8", absWorkingDir: here.pathname };
await build({ ...shared, entryPoints: ["src/main.tsx"], outfile: new URL("app.js", out).pathname, format: "esm", target: "es2022", jsx: "automatic", jsxImportSource: "preact" });
await build({ ...shared, entryPoints: ["src/app.css"], outfile: new URL("app.css", out).pathname });
copyFileSync(new URL("src/index.html", here), new URL("index.html", out));

// The same as tests/browser/test_build.py computes: names and contents, in order.
const sources = [...readdirSync(new URL("src/", here)).sort().map((name) => `src/${name}`), "package.json", "package-lock.json", "scripts/build.mjs"];
const hash = createHash("sha256");
for (const name of sources) hash.update(`${name}\n`).update(readFileSync(new URL(name, here)));
writeFileSync(new URL("sources.sha256", out), hash.digest("hex") + "\n");

const size = ["index.html", "app.js", "app.css"].reduce((sum, name) => sum + statSync(new URL(name, out)).size, 0);
console.log(`${size} bytes in all`);
if (size > LIMIT) throw new Error(`more than ${LIMIT} bytes`);
