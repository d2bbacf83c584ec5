/** Who is there: edges with what they serve, and the replicas. */

import { useState } from "preact/hooks";
import type { Edge, Sections } from "./types";
import { ms, span } from "./words";

const MODES: Record<Edge["mode"], string> = {
  FRESH: "hears the leader",
  STALE: "has heard no leader for 30 s, or not yet since it started",
  STATIC: "has heard no leader for 5 min: serves by what it has, and by its own sight",
};
const FIRST = 12;

export const Fleet = ({ sections }: { sections: Sections }) => {
  const [all, setAll] = useState(false);
  const worth = (edge: Edge) => (edge.silent ? 0 : edge.mode !== "FRESH" ? 1 : edge.behind !== 0 ? 2 : 3);
  const edges = Object.entries(sections.edges).sort(([a, one], [b, other]) => worth(one) - worth(other) || (a < b ? -1 : 1));
  return (
    <section class="panel fleet" aria-labelledby="fleet-title">
      <header><h2 id="fleet-title">Edges</h2></header>
      {edges.length ? (
        <div class="scroll">
          <table>
            <thead>
              <tr><th scope="col">edge</th><th scope="col">mode</th><th scope="col">serves</th><th scope="col" class="number" title="From the decision to its application, by the two clocks">applied after</th></tr>
            </thead>
            <tbody>
              {edges.slice(0, all ? undefined : FIRST).map(([id, edge]) => (
                <tr key={id}>
                  <th scope="row">{id}{id.includes(edge.region) ? "" : <span class="quiet"> {edge.region}</span>}</th>
                  <td>{edge.silent ? <span class="mode SILENT" title="Nothing is heard of it">silent {span(edge.heard_age_s)}</span> : <span class={`mode ${edge.mode}`} title={MODES[edge.mode]}>{edge.mode}</span>}</td>
                  <td>{edge.decision}{edge.behind === null ? <span class="quiet"> another generation</span> : edge.behind > 0 && <span class="quiet"> {edge.behind} behind</span>}</td>
                  <td class="number">{edge.lag_ms === null ? "–" : ms(edge.lag_ms)}</td>
                </tr>
              ))}
            </tbody>
          </table>
          <p class="quiet note">FRESH: {MODES.FRESH}. “Applied after”: from a decision to its use at the edge.</p>
          {edges.length > FIRST && <button class="small more" onClick={() => setAll(!all)}>{all ? "show fewer" : `show ${edges.length - FIRST} more`}</button>}
        </div>
      ) : <p class="empty">No edge has been heard of.</p>}
      <Replicas sections={sections} />
    </section>
  );
};

const Replicas = ({ sections }: { sections: Sections }) => {
  const me = sections.about.all!;
  const replicas = new Map(Object.entries(sections.sources).filter(([, source]) => source.role === "control-plane").map(([id, source]) => [id, { region: source.region, fresh: source.fresh }]));
  replicas.set(me.replica, { region: me.region, fresh: true });
  if (me.leader && !replicas.has(me.leader.id)) replicas.set(me.leader.id, { region: me.leader.region, fresh: true });
  const probers = Object.entries(sections.sources).filter(([, source]) => source.role === "prober");
  const heard = probers.filter(([, source]) => source.fresh).length;
  return (
    <>
      <h3>Control plane</h3>
      <ul class="replicas">
        {[...replicas].sort().map(([id, replica]) => (
          <li key={id}>
            {id}
            {me.leader?.id === id && <span class={me.etcd.followed ? "badge good" : "badge"} title={`epoch ${me.leader.epoch}`}>{me.etcd.followed ? "leads" : "led, when last heard"}</span>}
            {id === me.replica && <span class="badge">you ask it</span>}
            {!replica.fresh && <span class="badge bad">silent</span>}
            {me.leader?.id === id && id !== me.replica && me.leader.url && <a href={me.leader.url}>its page</a>}
          </li>
        ))}
      </ul>
      <p class="quiet">
        {me.leader ? "" : "Nobody leads. "}
        {probers.length > 0 && `${heard} of ${probers.length} probers heard. `}
        {`${Object.values(sections.buses).filter((bus) => bus.reachable).length} of ${Object.keys(sections.buses).length} buses reached. `}
        Configuration {me.config_version}.
      </p>
    </>
  );
};
