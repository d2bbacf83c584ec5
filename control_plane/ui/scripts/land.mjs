// Makes src/land.ts: the world's land as one SVG path, projected and rounded, from Natural Earth (public domain).
import { readFileSync, writeFileSync } from "node:fs";
import { feature } from "topojson-client";
import { project, HEIGHT, WIDTH } from "../src/projection.js";

const SMALLEST = 2.2; // rings of less extent than this would be dust at the size they are shown
const topology = JSON.parse(readFileSync(new URL("../node_modules/world-atlas/land-110m.json", import.meta.url)));
const land = feature(topology, topology.objects.land);
const polygons = land.features.flatMap((one) =>
  one.geometry.type === "Polygon" ? [one.geometry.coordinates] : one.geometry.coordinates,
);

// Land that crosses the antimeridian goes on beyond the edge, instead of back across the whole map.
const unwrapped = (ring) => {
  let before = ring[0][0], turns = 0;
  const points = ring.map(([longitude, latitude]) => {
    turns += Math.abs(longitude - before) > 180 ? Math.sign(before - longitude) : 0;
    before = longitude;
    return [longitude + 360 * turns, latitude];
  });
  const home = -360 * Math.round(points.reduce((sum, [longitude]) => sum + longitude, 0) / points.length / 360);
  return points.map(([longitude, latitude]) => [longitude + home, latitude]);
};

const parts = [];
for (const ring of polygons.map((polygon) => polygon[0])) {
  if (Math.max(...ring.map(([, latitude]) => latitude)) < -57) continue; // Antarctica has no regions
  const points = [];
  for (const [longitude, latitude] of unwrapped(ring)) {
    const [x, y] = project(longitude, Math.max(-58, Math.min(84, latitude))).map(Math.round);
    const last = points.at(-1);
    if (!last || last[0] !== x || last[1] !== y) points.push([x, y]);
  }
  const xs = points.map(([x]) => x), ys = points.map(([, y]) => y);
  const extent = Math.max(Math.max(...xs) - Math.min(...xs), Math.max(...ys) - Math.min(...ys));
  if (points.length < 4 || extent < SMALLEST) continue;
  let text = "M" + points[0].join(",");
  for (let i = 1; i < points.length - 1; i++)
    text += "l" + (points[i][0] - points[i - 1][0]) + "," + (points[i][1] - points[i - 1][1]);
  parts.push(text + "z");
}
const path = parts.join("").replaceAll(",-", "-");
writeFileSync(
  new URL("../src/land.ts", import.meta.url),
  `// Made by scripts/land.mjs from Natural Earth 1:110m (public domain). ${WIDTH} x ${HEIGHT}.\nexport const LAND =\n  "${path}";\n`,
);
console.log(`${parts.length} pieces of land, ${path.length} bytes`);
