/** What people have ordered, and what is rehearsed. */

import { currentToken } from "./ask";
import type { Drill, Override, Sections } from "./types";
import { ago, clock, count, ms, percent, span } from "./words";

export const sayOrder = (order: Override): string => {
  const whom = order.region ?? order.target ?? "";
  const where = `${order.route ? ` on ${order.route}` : ""}${order.clients ? ` for clients in ${order.clients}` : ""}`;
  if (order.kind === "drain") return `${whom} is drained${where || " on all routes"}`;
  if (order.kind === "pin") return `${order.route} is pinned to ${whom}${order.clients ? ` for clients in ${order.clients}` : ""}`;
  if (order.kind === "freeze") return `Removals are frozen${where || " on all routes"}`;
  return `Weights by hand${where}: ${Object.entries(order.weights ?? {}).map(([id, weight]) => `${id} ${percent(weight)}`).join(", ")}`;
};

export const undoing = (order: Override): string => ({ drain: "undrain", freeze: "unfreeze", pin: "unpin", weights: "end" })[order.kind];

interface Props {
  sections: Sections;
  now: number;
  may: boolean;
  onEnd: (id: string) => void;
  onAbort: (id: string) => void;
}

export const Orders = ({ sections, now, may, onEnd, onAbort }: Props) => {
  const overrides = Object.entries(sections.overrides);
  const rollouts = Object.entries(sections.rollouts);
  return (
    <section class="panel orders" aria-labelledby="orders-title">
      <header><h2 id="orders-title">Orders and drills</h2></header>
      {!overrides.length && !rollouts.length && <p class="empty">No override, no rollout: health alone moves traffic.</p>}
      <ul>
        {overrides.map(([id, order]) => {
          const left = (Date.parse(order.expires_at) - now) / 1000;
          return (
            <li key={id}>
              <div class="what">
                <p>{sayOrder(order)}{order.forced && <span class="badge bad">forced</span>}</p>
                <p class="quiet">{order.author}: {order.reason} · {id}</p>
              </div>
              <div class="end">
                <span class="left" title={`until ${clock(order.expires_at, now)}`}>{left > 0 ? `${span(left)} left` : "over"}</span>
                <button class="small" disabled={!may} onClick={() => onEnd(id)} aria-label={`${undoing(order)} ${id}`}>{undoing(order)}</button>
              </div>
            </li>
          );
        })}
        {rollouts.map(([id, rollout]) => {
          const step = rollout.spec.steps[rollout.step];
          const baked = (now - Date.parse(rollout.step_since)) / 1000;
          const running = rollout.state === "RUNNING";
          return (
            <li key={id}>
              <div class="what">
                <p>Rollout of {rollout.spec.targets.join(", ")} on {rollout.spec.route}: {running ? `step ${rollout.step + 1} of ${rollout.spec.steps.length}, ${percent(rollout.permille)}` : rollout.state.toLowerCase().replace("_", " ")}</p>
                {running && step && <progress max={Math.max(step.bake_s, 1)} value={Math.min(baked, step.bake_s)} aria-label="bake time" />}
                <p class="quiet">{rollout.author}: {rollout.reason} · {id}{rollout.found || rollout.outcome ? ` · ${rollout.found || rollout.outcome}` : ""}</p>
              </div>
              {running && step && <div class="end"><span class="left">{baked < step.bake_s ? `${span(step.bake_s - baked)} to bake` : "baked"}</span></div>}
            </li>
          );
        })}
      </ul>
      <Drills sections={sections} now={now} may={may} onAbort={onAbort} />
    </section>
  );
};

const Drills = ({ sections, now, may, onAbort }: { sections: Sections; now: number; may: boolean; onAbort: (id: string) => void }) => {
  const drills = Object.entries(sections.drills).sort(([, one], [, other]) => Date.parse(other.requested_at) - Date.parse(one.requested_at));
  const open = drills.filter(([, drill]) => !over(drill));
  const past = drills.filter(([, drill]) => over(drill));
  return (
    <>
      <h3>Drills</h3>
      {!drills.length && <p class="empty">None has been run. A drill is a rehearsed failure, measured and undone.</p>}
      <ul>
        {open.map(([id, drill]) => <Running key={id} id={id} drill={drill} now={now} may={may} onAbort={onAbort} />)}
        {past.slice(0, 8).map(([id, drill]) => (
          <li key={id}>
            <div class="what">
              <p><span class={`badge lead ${drill.state === "PASSED" ? "good" : "bad"}`}>{drill.state.toLowerCase()}</span> {drill.drill}{drill.region ? ` in ${drill.region}` : ""}</p>
              <p class="quiet">
                {drill.author}: {drill.reason} · {id}{drill.ended_at ? `, ${ago(drill.ended_at, now)}` : ""}
{figures(drill)}
                {drill.failures.length ? ` · ${drill.failures.join("; ")}` : drill.note ? ` · ${drill.note}` : ""}
              </p>
            </div>
            {drill.has_page && <div class="end"><Report id={id} /></div>}
          </li>
        ))}
      </ul>
    </>
  );
};

const figures = (drill: Drill): string =>
  [
    drill.detect_ms === null ? "" : ` · seen in ${ms(drill.detect_ms)}`,
    drill.apply_ms === null ? "" : ` · applied in ${ms(drill.apply_ms)}`,
    drill.recovered_ms === null ? "" : ` · recovered in ${ms(drill.recovered_ms)}`,
    drill.success_rate === null ? "" : ` · ${count(drill.requests, "request")}, ${(drill.success_rate * 100).toFixed(2)} % good`,
  ].join("");

const PHASES: Record<Drill["phase"], string> = { preparing: "preparing", warm: "steady load", fault: "fault in force", recovery: "recovering", reporting: "reporting" };

const over = (drill: Drill): boolean => drill.state !== "DUE" && drill.state !== "RUNNING";

const Running = ({ id, drill, now, may, onAbort }: { id: string; drill: Drill; now: number; may: boolean; onAbort: (id: string) => void }) => {
  const ran = drill.started_at ? (now - Date.parse(drill.started_at)) / 1000 : 0;
  return (
    <li class="running">
      <div class="what">
        <p><span class="badge lead">{drill.state === "DUE" ? "waits for a runner" : drill.stopping ? "stopping" : PHASES[drill.phase]}</span> {drill.drill}{drill.region ? ` in ${drill.region}` : ""}</p>
        {drill.state === "RUNNING" && (drill.phase === "recovery" || drill.phase === "reporting" ? <progress aria-label={`${id} is recovering`} /> : <progress max={drill.planned_s} value={Math.min(ran, drill.planned_s)} aria-label={`progress of ${id}`} />)}
        <p class="quiet">
          {drill.author}: {drill.reason} · {id}
          {drill.requests > 0 && ` · ${count(drill.requests, "request")}, ${drill.failed} failed`}
          {drill.last && ` · ${drill.last}`}
        </p>
      </div>
      <div class="end">
        <span class="left">{span(ran)}</span>
        <button class="small" disabled={!may || drill.stopping} onClick={() => onAbort(id)} aria-label={`abort ${id}`}>abort</button>
      </div>
    </li>
  );
};

/** A link cannot carry a token: with one, the report is fetched and saved. */
const Report = ({ id }: { id: string }) => {
  const href = `/v1/drills/${encodeURIComponent(id)}/report`;
  const save = async (event: Event) => {
    if (!currentToken()) return;
    event.preventDefault();
    const answer = await fetch(href, { headers: { authorization: `Bearer ${currentToken()}` } });
    if (!answer.ok) return;
    const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(await answer.blob()), download: `${id}.html` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  };
  return <a class="report" href={href} target="_blank" rel="noreferrer" onClick={save}>report</a>;
};
