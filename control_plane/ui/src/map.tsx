/** The world: regions where they stand, and traffic from client regions to target regions, as decided and as measured. */

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { VERDICT_WORDS, VerdictMark, VerdictSign } from "./glyphs";
import { LAND } from "./land";
import { placeOf } from "./places";
import { HEIGHT, WIDTH, project } from "./projection.js";
import { tip } from "./tip";
import type { Items, Region, Sections } from "./types";
import { percent, thousands } from "./words";

interface Point {
  x: number;
  y: number;
  placed: boolean;
}
interface Frame {
  x: number;
  y: number;
  width: number;
  height: number;
}

const LEAST = 8; // permille: smaller parts are in the table, and would be a thicket on the map

interface Ring extends Point {
  radius: number;
}

export const layout = (regions: Items<Region>): { points: Items<Point>; ring: Ring | null } => {
  const points: Items<Point> = {};
  const lost: string[] = [];
  for (const [id, region] of Object.entries(regions)) {
    const place =
      region.latitude !== null && region.longitude !== null
        ? { latitude: region.latitude, longitude: region.longitude }
        : placeOf(id);
    if (!place) lost.push(id);
    else {
      const [x, y] = project(place.longitude, place.latitude);
      points[id] = { x, y, placed: true };
    }
  }
  if (!lost.length) return { points, ring: null };
  const right = Math.max(0, ...Object.values(points).map((point) => point.x + 120));
  const radius = lost.length > 1 ? Math.min(150, 30 + lost.length * 16) : 0;
  const centre = { x: right + radius + 60, y: HEIGHT / 2, placed: false, radius };
  lost.forEach((id, n) => {
    const angle = (2 * Math.PI * n) / lost.length - Math.PI / 2;
    points[id] = { x: centre.x + radius * Math.cos(angle), y: centre.y + radius * Math.sin(angle), placed: false };
  });
  return { points, ring: centre };
};

/** Regions of one city stand on one spot: move them apart, so that each can be seen and pointed at. */
const apart = (points: Items<Point>, least: number): Items<Point> => {
  const moved = Object.fromEntries(Object.entries(points).map(([id, point]) => [id, { ...point }]));
  const all = Object.values(moved);
  for (let round = 0; round < 12; round++)
    for (let i = 0; i < all.length; i++)
      for (let j = 0; j < i; j++) {
        const one = all[i]!, other = all[j]!;
        const dx = one.x - other.x || 0.1, dy = one.y - other.y || 0.1;
        const distance = Math.hypot(dx, dy);
        if (distance >= least) continue;
        const push = (least - distance) / 2 / distance;
        one.x += dx * push;
        one.y += dy * push;
        other.x -= dx * push;
        other.y -= dy * push;
      }
  return moved;
};

/** What of the world is shown: all regions with room around them, in the shape of the space there is. */
const framed = (points: Point[], ring: Ring | null, shape: number): Frame => {
  const xs = points.map((point) => point.x), ys = points.map((point) => point.y);
  if (!points.length) return { x: 0, y: 0, width: WIDTH, height: HEIGHT };
  let left = Math.min(...xs) - 110, right = Math.max(...xs) + (ring ? 190 : 130);
  let top = Math.min(...ys) - 80, bottom = Math.max(...ys) + 80;
  if (ring && points.every((point) => !point.placed)) [left, right, top, bottom] = [ring.x - 260, ring.x + 260, ring.y - ring.radius - 80, ring.y + ring.radius + 80];
  let width = Math.max(right - left, 480), height = Math.max(bottom - top, 200);
  if (width / height > shape) height = width / shape;
  else width = height * shape;
  return { x: (left + right - width) / 2, y: (top + bottom - height) / 2, width, height };
};

const arc = (from: Point, to: Point): { path: string; at: [number, number] } => {
  const dx = to.x - from.x, dy = to.y - from.y, length = Math.hypot(dx, dy) || 1;
  const bend = Math.min(70, 14 + length * 0.16) * (dx >= 0 ? -1 : 1);
  const cx = (from.x + to.x) / 2 - (dy / length) * -bend, cy = (from.y + to.y) / 2 + (dx / length) * bend;
  const stop = (end: Point, gap: number): [number, number] => {
    const ex = end.x - cx, ey = end.y - cy, away = Math.hypot(ex, ey) || 1;
    return [end.x - (ex / away) * gap, end.y - (ey / away) * gap];
  };
  const [x1, y1] = stop(from, 14), [x2, y2] = stop(to, 20);
  return {
    path: `M${x1.toFixed(1)},${y1.toFixed(1)}Q${cx.toFixed(1)},${cy.toFixed(1)} ${x2.toFixed(1)},${y2.toFixed(1)}`,
    at: [(x1 + 2 * cx + x2) / 4, (y1 + 2 * cy + y2) / 4],
  };
};

interface Row {
  client: string;
  to: string;
  decided: number;
  measured: number | null;
}

const rowsOf = (s: Sections, route: string): Row[] => {
  const rows: Row[] = [];
  for (const client of Object.keys(s.regions)) {
    const decided = s.routes[`${route}>${client}`]?.to ?? {};
    const seen = s.measured[client];
    const places = new Set([...Object.keys(decided), ...(route === "*" ? Object.keys(seen?.to ?? {}) : [])]);
    for (const to of places)
      rows.push({ client, to, decided: decided[to] ?? 0, measured: seen && route === "*" ? (seen.to[to] ?? 0) : null });
  }
  return rows;
};

export const WorldMap = ({ sections, onRegion }: { sections: Sections; onRegion: (id: string) => void }) => {
  const [route, setRoute] = useState("*");
  const [bright, setBright] = useState<string | null>(null);
  const [width, setWidth] = useState(760);
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const watch = new ResizeObserver(([entry]) => setWidth(entry!.contentRect.width));
    watch.observe(box.current!);
    return () => watch.disconnect();
  }, []);
  const names = Object.keys(sections.regions).sort().join(" ");
  const { points: places, ring } = useMemo(() => layout(sections.regions), [names]);
  const frame = framed(Object.values(places), ring, width < 520 ? 1.45 : 2.05);
  const unit = frame.width / Math.max(width, 200); // map units in one pixel
  const points = useMemo(() => apart(places, 40 * unit), [places, unit]);
  const rows = rowsOf(sections, route);
  const routes = [...new Set(Object.keys(sections.routes).map((key) => key.split(">")[0]!))].filter((name) => name !== "*").sort();
  const chosen = routes.includes(route) ? route : "*";
  const arcs = rows.filter((row) => row.client !== row.to && (row.decided >= LEAST || (row.measured ?? 0) >= LEAST) && points[row.client] && points[row.to]);
  const labels = labelled(points, unit, frame, sections, arcs.map((row) => arc(points[row.client]!, points[row.to]!).at));

  return (
    <section class="panel map" aria-labelledby="map-title">
      <header>
        <h2 id="map-title">Where traffic goes</h2>
        <label class="choice">
          <span class="unseen">Route</span>
          <select value={chosen} onChange={(event) => setRoute(event.currentTarget.value)}>
            <option value="*">all routes</option>
            {routes.map((name) => <option value={name}>{name}</option>)}
          </select>
        </label>
      </header>
      <div ref={box} class="world">
        <svg
          viewBox={`${frame.x} ${frame.y} ${frame.width} ${frame.height}`}
          role="group"
          aria-label="World map of regions and their traffic; the same is in the table below it"
        >
          <defs>
            <marker id="tip-of-arc" viewBox="0 0 8 8" refX="5" refY="4" markerWidth={11 * unit} markerHeight={11 * unit} markerUnits="userSpaceOnUse" orient="auto">
              <path class="arrow" d="M0 0.6L7.4 4 0 7.4z" />
            </marker>
          </defs>
          {Object.values(points).some((point) => point.placed) && <path class="land" d={LAND} />}
          {ring && <circle class="ring" cx={ring.x} cy={ring.y} r={ring.radius} />}
          {ring && <text class="aside" x={ring.x} y={ring.y - ring.radius - 26 * unit} font-size={11 * unit} text-anchor="middle">no place known</text>}
          {arcs.map((row) => (
            <Arc key={`${row.client}>${row.to}`} row={row} points={points} unit={unit} dim={bright !== null && bright !== row.client && bright !== row.to} />
          ))}
          {Object.entries(points).map(([id, point]) => (
            <Spot
              key={id}
              id={id}
              point={point}
              unit={unit}
              sections={sections}
              own={rows.find((row) => row.client === id && row.to === id)}
              label={labels[id] ?? (bright === id ? { x: point.x, y: point.y + 32 * unit, anchor: "middle", counted: true } : null)}
              dim={bright !== null && bright !== id && !rows.some((row) => row.decided > 0 && ((row.client === bright && row.to === id) || (row.client === id && row.to === bright)))}
              onBright={setBright}
              onRegion={onRegion}
            />
          ))}
        </svg>
      </div>
      <p class="legend">
        <span><svg width="34" height="8" aria-hidden="true"><path class="decided" d="M1 4h32" stroke-width="4" /></svg> as decided</span>
        <span><svg width="34" height="8" aria-hidden="true"><path class="measured" d="M1 4h32" stroke-width="2" /></svg> as edges measure it</span>
        <span class="quiet">ring: served where it is asked; arrow: served elsewhere; thicker: more</span>
      </p>
      <Shares rows={rows} route={chosen} sections={sections} />
    </section>
  );
};

interface Label {
  x: number;
  y: number;
  anchor: "start" | "middle" | "end";
  counted: boolean;
}

/** A place for each name where it hides nothing; those in trouble choose first, and who finds none is named
 * when pointed at. */
const labelled = (points: Items<Point>, unit: number, frame: Frame, sections: Sections, shares: [number, number][]): Items<Label> => {
  const ids = Object.keys(points).sort((one, other) => Number(sections.regions[one]?.verdict === "HEALTHY") - Number(sections.regions[other]?.verdict === "HEALTHY") || (one < other ? -1 : 1));
  const roomy = ids.length <= 6;
  const taken = Object.values(points).map(({ x, y }) => [x - 19 * unit, y - 19 * unit, x + 19 * unit, y + 19 * unit]);
  for (const [x, y] of shares) taken.push([x - 20 * unit, y - 11 * unit, x + 20 * unit, y + 3 * unit]);
  const found: Items<Label> = {};
  const said = (id: string) => `${sections.regions[id]?.targets_healthy} of ${sections.regions[id]?.targets} healthy`;
  const fits = (id: string, counted: boolean): boolean => {
    const { x, y } = points[id]!;
    const width = Math.max(id.length * 7.6, counted ? said(id).length * 6.3 : 0) * unit, height = (counted ? 30 : 16) * unit;
    const spots: [number, number, Label["anchor"]][] = [
      [x, y + 21 * unit, "middle"],
      [x, y - 21 * unit - height, "middle"],
      [x + 23 * unit, y - height / 2, "start"],
      [x - 23 * unit, y - height / 2, "end"],
    ];
    for (const [at, top, anchor] of spots) {
      const left = anchor === "middle" ? at - width / 2 : anchor === "start" ? at : at - width;
      const box = [left, top, left + width, top + height] as const;
      if (left < frame.x || left + width > frame.x + frame.width || top < frame.y || top + height > frame.y + frame.height) continue;
      if (taken.some((other) => box[0] < other[2]! && other[0]! < box[2] && box[1] < other[3]! && other[1]! < box[3])) continue;
      taken.push([...box]);
      found[id] = { x: at, y: top + 12 * unit, anchor, counted };
      return true;
    }
    return false;
  };
  for (const id of ids) {
    const wordy = roomy || sections.regions[id]?.verdict !== "HEALTHY";
    if (!wordy || !fits(id, true)) fits(id, false);
  }
  return found;
};

const thickness = (permille: number, unit: number): number => (1.2 + (5.3 * permille) / 1000) * unit;

const Arc = ({ row, points, unit, dim }: { row: Row; points: Items<Point>; unit: number; dim: boolean }) => {
  const from = points[row.client], to = points[row.to];
  if (!from || !to) return null;
  const { path, at } = arc(from, to);
  return (
    <g class={dim ? "arc dim" : "arc"}>
      {row.decided >= LEAST && <path class="decided" d={path} stroke-width={thickness(row.decided, unit)} marker-end="url(#tip-of-arc)" />}
      {(row.measured ?? 0) >= LEAST && <path class="measured" d={path} stroke-width={Math.max(1.5 * unit, thickness(row.measured!, unit) * 0.4)} stroke-dasharray={`${5 * unit} ${6 * unit}`} />}
      <text class="share" x={at[0]} y={at[1]} font-size={11.5 * unit} stroke-width={3.5 * unit} text-anchor="middle">{percent(row.decided)}</text>
    </g>
  );
};

interface SpotProps {
  id: string;
  point: Point;
  unit: number;
  sections: Sections;
  own: Row | undefined;
  label: Label | null;
  dim: boolean;
  onBright: (id: string | null) => void;
  onRegion: (id: string) => void;
}

const Spot = ({ id, point, unit, sections, own, label, dim, onBright, onRegion }: SpotProps) => {
  const region = sections.regions[id];
  if (!region) return null;
  const hint = tip(() => <RegionHint id={id} sections={sections} />);
  const drained = Object.values(sections.overrides).some((order) => order.kind === "drain" && order.region === id);
  const size = 17 * unit;
  return (
    <g
      class={`spot ${region.verdict}${dim ? " dim" : ""}`}
      tabIndex={0}
      role="button"
      aria-label={`${id}: ${VERDICT_WORDS[region.verdict]}, ${region.targets_healthy} of ${region.targets} targets healthy${drained ? ", drained" : ""}`}
      {...hint}
      onMouseEnter={(event) => (onBright(id), hint.onMouseEnter(event))}
      onMouseLeave={() => (onBright(null), hint.onMouseLeave())}
      onFocus={(event) => (onBright(id), hint.onFocus(event))}
      onBlur={() => (onBright(null), hint.onBlur())}
      onClick={() => onRegion(id)}
      onKeyDown={(event) => (event.key === "Enter" || event.key === " ") && (event.preventDefault(), onRegion(id))}
    >
      <circle class="reach" cx={point.x} cy={point.y} r={21 * unit} />
      {own && own.decided >= LEAST && <circle class="decided" cx={point.x} cy={point.y} r={13 * unit} stroke-width={thickness(own.decided, unit) * 0.7} />}
      {own && (own.measured ?? 0) >= LEAST && <circle class="measured" cx={point.x} cy={point.y} r={17.5 * unit} stroke-width={1.5 * unit} stroke-dasharray={`${4 * unit} ${4 * unit}`} />}
      <svg class="sign" x={point.x - size / 2} y={point.y - size / 2} width={size} height={size} viewBox="0 0 16 16">
        <VerdictMark verdict={region.verdict} />
      </svg>
      {label && (
        <text class="name" x={label.x} y={label.y} font-size={12.5 * unit} stroke-width={3.5 * unit} text-anchor={label.anchor}>{id}</text>
      )}
      {label?.counted && (
        <text class="count" x={label.x} y={label.y + 14 * unit} font-size={11 * unit} stroke-width={3.5 * unit} text-anchor={label.anchor}>
          {drained ? "drained" : `${region.targets_healthy} of ${region.targets} healthy`}
        </text>
      )}
    </g>
  );
};

const RegionHint = ({ id, sections }: { id: string; sections: Sections }) => {
  const region = sections.regions[id]!;
  const flow = sections.routes[`*>${id}`];
  return (
    <>
      <strong>{id}</strong> <VerdictSign verdict={region.verdict} named />
      <br />
      {region.targets_healthy} of {region.targets} targets healthy, {region.sources_fresh} of {region.sources} observers heard
      {flow && (
        <>
          <br />
          its clients ({thousands(flow.per_s)} requests/s) go to{" "}
          {Object.entries(flow.to).map(([place, permille]) => `${place} ${percent(permille)}`).join(", ") || "nobody"}
          {flow.shed_permille > 0 && `; ${percent(flow.shed_permille)} are turned away`}
        </>
      )}
    </>
  );
};

/** The map's figures for who cannot see it, or wants them exact. */
const Shares = ({ rows, route, sections }: { rows: Row[]; route: string; sections: Sections }) => (
  <details class="shares">
    <summary>The same in figures</summary>
    <table>
      <thead>
        <tr><th scope="col">clients in</th><th scope="col">served in</th><th scope="col" class="number">decided</th><th scope="col" class="number">measured</th></tr>
      </thead>
      <tbody>
        {rows.filter((row) => row.decided || row.measured).map((row) => (
          <tr key={`${row.client}>${row.to}`}>
            <td>{row.client}</td>
            <td>{row.to}</td>
            <td class="number">{percent(row.decided)}</td>
            <td class="number">{row.measured === null ? "–" : percent(row.measured)}</td>
          </tr>
        ))}
        {Object.keys(sections.regions).filter((client) => (sections.routes[`${route}>${client}`]?.shed_permille ?? 0) > 0).map((client) => (
          <tr key={`shed ${client}`}><td>{client}</td><td>turned away</td><td class="number">{percent(sections.routes[`${route}>${client}`]!.shed_permille)}</td><td class="number">–</td></tr>
        ))}
      </tbody>
    </table>
    {route !== "*" && <p class="quiet">Edges measure all routes together.</p>}
  </details>
);
