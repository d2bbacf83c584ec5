/** What is the matter, in words, gravest first. The first one is the page's head line. */

import type { Wire } from "./live";
import { LOST_AFTER_MS, silentFor } from "./live";
import type { Override, Sections, Target } from "./types";
import { clock, count, list, percent, span } from "./words";

export type Gravity = "good" | "note" | "warn" | "bad" | "lost";

export interface Condition {
  gravity: Gravity;
  text: string;
  /** What it means for whoever reads it. */
  more?: string;
}

export const conditions = (wire: Wire, now: number): Condition[] => {
  const { about } = wire.sections;
  const me = about.all;
  const cut = wire.state !== "live" && (wire.state !== "lost" || silentFor(wire) * 1000 > LOST_AFTER_MS);
  if (!me) {
    if (wire.state === "refused")
      return [{ gravity: "lost", text: "This replica wants a token", more: "Give one with “Token” above." }];
    if (wire.state === "lost")
      return [{ gravity: "lost", text: "The replica does not answer", more: `${wire.problem}. It is asked again by itself.` }];
    return [{ gravity: "note", text: "Asking the replica …" }];
  }
  const found: Condition[] = [];
  if (cut)
    found.push({
      gravity: "lost",
      text: `The page has lost the replica: what you see is ${span(silentFor(wire))} old`,
      more:
        wire.state === "refused"
          ? "It wants a token now."
          : "Edges do not need this page, nor this replica. It is asked again by itself; any other replica shows the same page.",
    });
  if (me.unready.length && !me.etcd.followed)
    found.push({ gravity: "lost", text: "This replica has not read etcd yet", more: me.unready.join("; ") });
  else if (!me.etcd.followed) {
    const age = (me.etcd.age_s ?? 0) + (performance.now() - wire.aboutAt) / 1000;
    found.push({
      gravity: "lost",
      text: `This replica has lost etcd: what you see of decisions and orders is ${age < 5 ? "seconds" : span(age)} old`,
      more: "Health is still seen live, and edges serve on by the last decision they have. Nothing new is decided or ordered here until etcd answers.",
    });
  } else if (!me.leader)
    found.push({
      gravity: "bad",
      text: "Nobody leads: nothing new is decided",
      more: `Edges serve on by decision ${me.version}. A successor usually takes over within 7 s.`,
    });
  found.push(...trouble(wire.sections, now));
  if (!found.some(({ gravity }) => gravity !== "note")) found.push(allClear(wire.sections));
  const order: Gravity[] = ["lost", "bad", "warn", "good", "note"];
  return found.sort((one, other) => order.indexOf(one.gravity) - order.indexOf(other.gravity));
};

const trouble = (s: Sections, now: number): Condition[] => [
  ...shedding(s),
  ...downRegions(s, now),
  ...downTargets(s),
  ...frozen(s, now),
  ...drained(s, now),
  ...doubtful(s),
  ...edgeTrouble(s),
  ...observerTrouble(s),
  ...drilling(s),
];

const allClear = (s: Sections): Condition => {
  const targets = Object.values(s.targets);
  const healthy = targets.filter((target) => target.verdict === "HEALTHY").length;
  const edges = Object.values(s.edges);
  const version = s.about.all!.version;
  if (version === "0.0") return { gravity: "note", text: "Nothing is decided yet: edges serve in the configuration's own order" };
  const total = s.about.all!.shown.targets;
  const well = healthy === targets.length ? total : healthy;
  const follow = edges.length ? `${count(edges.length, "edge")} follow${edges.length === 1 ? "s" : ""} decision ${version}` : "no edge has reported yet";
  return { gravity: "good", text: `All clear: ${well} of ${count(total, "target")} healthy, ${follow}` };
};

const drillIn = (s: Sections, region: string): string =>
  Object.values(s.drills).some((drill) => drill.state === "RUNNING" && (drill.region === region || drill.region === null))
    ? " (a drill is under way)"
    : "";

/** `us-east (70 %) and ap-south (30 %)`: where the clients of a region are sent. */
export const destinations = (s: Sections, region: string): string => {
  const to = Object.entries(s.routes[`*>${region}`]?.to ?? {}).sort((one, other) => other[1] - one[1]);
  if (to.length === 1 && to[0]![1] >= 995) return to[0]![0];
  return list(to.map(([place, permille]) => `${place} (${percent(permille)})`));
};

const downRegions = (s: Sections, now: number): Condition[] => {
  const down = Object.entries(s.regions).filter(([, region]) => region.verdict === "DOWN" && region.targets).map(([id]) => id);
  if (!down.length) return [];
  if (down.length === Object.keys(s.regions).length)
    return [{ gravity: "bad", text: "Every region is down: no target answers", more: whatStays(s) }];
  if (down.length > 1) return [{ gravity: "bad", text: `${list(down)} are down${drillIn(s, down[0]!)}: ${moved(s, down)}` }];
  const region = down[0]!;
  const since = Object.values(s.targets).filter((target) => target.region === region && target.since).map((target) => target.since!).sort().pop();
  return [{
    gravity: "bad",
    text: `${region} is down${drillIn(s, region)}: ${moved(s, down)}`,
    more: since ? `Since ${clock(since, now)}. ${reasonOf(s, region)}` : reasonOf(s, region),
  }];
};

const moved = (s: Sections, regions: string[]): string => {
  const known = regions.filter((region) => s.routes[`*>${region}`]);
  const stuck = known.filter((region) => Object.keys(s.routes[`*>${region}`]!.to).some((place) => regions.includes(place)));
  if (stuck.length) return "its traffic is on the move";
  const said = [...new Set(known.map((region) => destinations(s, region)))];
  if (!said.length || said.includes("")) return "nobody takes its traffic";
  return `${regions.length > 1 ? "their" : "its"} traffic goes to ${said.join("; ")}`;
};

const whatStays = (s: Sections): string =>
  `Edges answer what they can by decision ${s.about.all!.version}; see the timeline for what came before.`;

const reasonOf = (s: Sections, region: string): string => {
  const reasons = new Set(Object.values(s.targets).filter((target) => target.region === region && target.reason).map((target) => target.reason));
  return reasons.size ? `Seen: ${list([...reasons], 2)}.` : "";
};

const named = (s: Sections, test: (target: Target) => boolean): string[] =>
  Object.entries(s.targets).filter(([, target]) => test(target)).map(([id]) => id);

const downTargets = (s: Sections): Condition[] => {
  const elsewhere = (target: Target) => s.regions[target.region]?.verdict !== "DOWN";
  const down = named(s, (target) => target.verdict === "DOWN" && elsewhere(target));
  if (!down.length) return [];
  const reason = s.targets[down[0]!]!.reason;
  return [{
    gravity: "warn",
    text: `${list(down)} ${down.length === 1 ? "is" : "are"} down: others serve in ${down.length === 1 ? "its" : "their"} place`,
    more: down.length === 1 && reason ? `Seen: ${reason}.` : undefined,
  }];
};

const doubtful = (s: Sections): Condition[] => {
  const found: Condition[] = [];
  const degraded = named(s, (target) => target.verdict === "DEGRADED");
  const unknown = named(s, (target) => target.verdict === "UNKNOWN");
  const warned = named(s, (target) => target.verdict === "HEALTHY" && target.warning !== "");
  if (degraded.length)
    found.push({ gravity: "warn", text: `${list(degraded)} ${degraded.length === 1 ? "is" : "are"} degraded`, more: s.targets[degraded[0]!]!.reason });
  if (unknown.length)
    found.push({ gravity: "warn", text: `Nothing is known of ${list(unknown)}`, more: "Silence takes nobody out of the traffic." });
  if (warned.length) found.push({ gravity: "note", text: `${list(warned)} may soon be degraded`, more: s.targets[warned[0]!]!.warning });
  return found;
};

const shedding = (s: Sections): Condition[] => {
  const shed = Object.entries(s.routes).filter(([key, flow]) => flow.shed_permille > 0 && !key.startsWith("*>"));
  if (!shed.length) return [];
  const said = shed.map(([key, flow]) => {
    const [route, client] = key.split(">");
    return `${percent(flow.shed_permille)} of ${route} in ${client}`;
  });
  return [{ gravity: "bad", text: `Too little is left: turned away ${shed.length === 1 ? "is" : "are"} ${list(said, 3)}` }];
};

const frozen = (s: Sections, now: number): Condition[] => {
  const found: Condition[] = [];
  const rest = "Nobody leaves the traffic by health; returns and orders go on.";
  for (const freeze of s.health.all?.freezes ?? [])
    found.push({
      gravity: "warn",
      text: `Frozen by itself: ${freeze.cause === "MOST_SILENT" ? "most observers fell silent together" : "live traffic contradicts the probes"}`,
      more: `${freeze.detail ? `${freeze.detail}. ` : ""}${rest}`,
    });
  for (const order of ordersOf(s, "freeze"))
    found.push({
      gravity: "warn",
      text: `Frozen${order.route ? ` on ${order.route}` : ""} by ${order.author} until ${clock(order.expires_at, now)}: ${order.reason}`,
      more: rest,
    });
  return found;
};

const ordersOf = (s: Sections, kind: Override["kind"]): Override[] => Object.values(s.overrides).filter((order) => order.kind === kind);

const drained = (s: Sections, now: number): Condition[] =>
  ordersOf(s, "drain").map((order) => ({
    gravity: "note",
    text: `${order.region ?? order.target} is drained${order.route ? ` on ${order.route}` : ""} by ${order.author} until ${clock(order.expires_at, now)}: ${order.reason}`,
  }));

const edgeTrouble = (s: Sections): Condition[] => {
  const edges = Object.entries(s.edges);
  const found: Condition[] = [];
  const which = (test: (edge: Sections["edges"][string]) => boolean) => edges.filter(([, edge]) => test(edge)).map(([id]) => id);
  const silent = which((edge) => edge.silent);
  const aged = which((edge) => !edge.silent && edge.mode !== "FRESH");
  const behind = which((edge) => !edge.silent && edge.heard_age_s < 5 && edge.mode === "FRESH" && edge.behind !== 0);
  if (silent.length) found.push({ gravity: "warn", text: `Nothing is heard from ${list(silent)}`, more: "It may serve all the same: an edge needs nobody to serve." });
  if (aged.length) found.push({ gravity: "warn", text: `${list(aged)} ${aged.length === 1 ? "hears" : "hear"} no leader`, more: "Served by the last decision it has." });
  if (behind.length) found.push({ gravity: "note", text: `${list(behind)} ${behind.length === 1 ? "is" : "are"} taking up decision ${s.about.all!.version}` });
  return found;
};

const observerTrouble = (s: Sections): Condition[] => {
  const found: Condition[] = [];
  const buses = Object.values(s.buses).filter((bus) => !bus.reachable).map((bus) => bus.region);
  const silent = Object.entries(s.sources).filter(([, source]) => !source.fresh && source.role !== "edge").map(([id]) => id);
  const aside = s.health.all?.set_aside ?? [];
  if (buses.length) found.push({ gravity: "warn", text: `The bus of ${list(buses)} cannot be reached`, more: "Edges there follow over HTTP." });
  if (silent.length) found.push({ gravity: "warn", text: `Nothing is heard from ${list(silent)}` });
  if (aside.length) found.push({ gravity: "warn", text: `${list(aside)} contradicts all others and is set aside` });
  return found;
};

const drilling = (s: Sections): Condition[] =>
  Object.entries(s.drills)
    .filter(([, drill]) => drill.state === "RUNNING" || drill.state === "DUE")
    .map(([id, drill]) => ({
      gravity: "note",
      text: `Drill ${drill.state === "DUE" ? "about to begin" : "under way"}: ${drill.drill}${drill.region ? ` in ${drill.region}` : ""} (${id})`,
    }));
