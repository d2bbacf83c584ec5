/** Why a decision was made, and all that is known of one target. */

import { useEffect, useState } from "preact/hooks";
import { ask } from "./ask";
import { Dialog } from "./dialogs";
import { VERDICT_WORDS, VerdictSign } from "./glyphs";
import type { Explained, Sections, Verdict } from "./types";
import { ago, clock, local, ms, percent } from "./words";

const MAX_ROUTES = 6;

type Document = Explained["documents"][number];
type Shares = Record<string, Record<string, number>>;

/** Client region -> target -> permille of the route's requests. */
const sharesOf = (document: Document | undefined): Shares => {
  const shares: Shares = {};
  for (const [region, decided] of Object.entries(document?.regions ?? {})) {
    const to: Record<string, number> = (shares[region] = {});
    for (const tier of decided.tiers)
      for (const target of tier.targets) {
        const part = Math.round((tier.share_permille * target.weight_permille) / 1000);
        if (part) to[target.id] = (to[target.id] ?? 0) + part;
      }
    if (decided.shed_permille) to["turned away"] = decided.shed_permille;
  }
  return shares;
};

/** The commit before this one that wrote a document of `route`, among those the page knows. */
const before = (sections: Sections, version: string, route: string): string | undefined => {
  const [generation, seq] = version.split(".").map(Number) as [number, number];
  return Object.entries(sections.decisions)
    .filter(([, d]) => d.routes.includes(route) && (d.generation < generation || (d.generation === generation && d.seq < seq)))
    .sort(([, one], [, other]) => other.generation - one.generation || other.seq - one.seq)[0]?.[0];
};

export const Explain = ({ version, sections, now, onClose }: { version: string; sections: Sections; now: number; onClose: () => void }) => {
  const [told, setTold] = useState<Explained | null>(null);
  const [olds, setOlds] = useState<Record<string, Document> | null>(null);
  const [problem, setProblem] = useState("");
  useEffect(() => {
    void (async () => {
      const answer = await ask<Explained>("GET", `/v1/decisions/${version}`);
      if (!answer.ok) return setProblem(answer.detail);
      setTold(answer.body);
      const routes = answer.body.documents.slice(0, MAX_ROUTES).map((document) => document.route);
      const versions = [...new Set(routes.map((route) => before(sections, version, route)))].filter((each) => each !== undefined);
      const found: Record<string, Document> = {};
      for (const each of versions.slice(0, MAX_ROUTES)) {
        const old = await ask<Explained>("GET", `/v1/decisions/${each}`);
        if (old.ok)
          for (const document of old.body.documents)
            if (before(sections, version, document.route) === each) found[document.route] = document;
      }
      setOlds(found);
    })();
  }, [version]);
  const brief = sections.decisions[version]?.said;
  const trace = told?.commit?.traceparent?.split("-")[1];
  return (
    <Dialog title={`Why decision ${version}`} onClose={onClose} wide>
      {problem && <p class="refusal">{problem}</p>}
      {!told && !problem && <p class="quiet">asking …</p>}
      {told && (
        <>
          <ul class="said">{(brief ?? told.said).map((said) => <li key={said}>{local(said, now)}</li>)}</ul>
          {brief && (
            <details>
              <summary>with the figures</summary>
              <ul class="said">{told.said.map((said) => <li key={said}>{local(said, now)}</li>)}</ul>
            </details>
          )}
          <p class="quiet">
            {told.commit && `Decided ${clock(told.commit.at, now)} by ${told.commit.term.holder}, epoch ${told.commit.term.epoch}, on configuration ${told.commit.config_version}.`}
            {trace && <> From the failed probe to the first request served elsewhere: <code>leeward trace {trace}</code>, or this trace id in your tracing backend.</>}
          </p>
          <h3>What changed</h3>
          {!olds && <p class="quiet">asking what stood before …</p>}
          {olds && told.documents.slice(0, MAX_ROUTES).map((document) => <Changed key={document.route} document={document} old={olds[document.route]} now={now} />)}
          {told.documents.length > MAX_ROUTES && <p class="quiet">and {told.documents.length - MAX_ROUTES} more routes</p>}
          <h3>The events behind it</h3>
          {told.evidence.length ? (
            <div class="scroll">
              <table>
                <thead><tr><th scope="col">seen from</th><th scope="col">target</th><th scope="col">outcome</th><th scope="col">when</th><th scope="col">event</th></tr></thead>
                <tbody>
                  {told.evidence.slice(0, 100).map((each) => (
                    <tr key={`${each.source}${each.target}${each.monitor}${each.boot}.${each.seq}`}>
                      <td>{each.vantage}</td>
                      <td>{each.target}</td>
                      <td>{each.outcome}{each.detail ? `, ${each.detail}` : ""}</td>
                      <td><time dateTime={each.observed_at}>{clock(each.observed_at, now)}</time></td>
                      <td class="quiet">{each.source} {each.boot}.{each.seq}{each.monitor ? ` (${each.monitor})` : " (live traffic)"}</td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
          ) : <p class="quiet">None: it rests on the configuration or on orders.</p>}
        </>
      )}
    </Dialog>
  );
};

const Changed = ({ document, old, now: at }: { document: Document; old: Document | undefined; now: number }) => {
  if (document.removed) return <p>{document.route}: removed from the configuration.</p>;
  const now = sharesOf(document), was = sharesOf(old);
  const rows = Object.keys(now).sort().flatMap((region) => {
    const targets = [...new Set([...Object.keys(was[region] ?? {}), ...Object.keys(now[region]!)])];
    return targets.map((target) => ({ region, target, was: was[region]?.[target] ?? 0, now: now[region]![target] ?? 0 }));
  });
  const changed = old ? rows.filter((row) => row.was !== row.now) : rows;
  return (
    <>
      <p>
        <strong>{document.route}</strong>{" "}
        <span class="quiet">{old ? (changed.length ? "" : "no share changed; stand-bys or what is excluded did") : "as decided; what stood before is not at hand"}</span>
        {document.forced_by && <span class="badge bad">forced by {document.forced_by}</span>}
      </p>
      {changed.length > 0 && (
        <div class="scroll">
          <table>
            <thead><tr><th scope="col">clients in</th><th scope="col">target</th>{old && <th scope="col" class="number">was</th>}<th scope="col" class="number">{old ? "became" : "share"}</th></tr></thead>
            <tbody>
              {changed.slice(0, 60).map((row, n) => (
                <tr key={`${row.region}${row.target}`}>
                  <td>{changed[n - 1]?.region === row.region ? "" : row.region}</td>
                  <td>{row.target}</td>
                  {old && <td class="number">{percent(row.was)}</td>}
                  <td class="number"><strong>{percent(row.now)}</strong></td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {document.excluded.slice(0, 10).map((each) => <p class="quiet" key={`${each.target}${each.reason}`}>left out: {each.target}, by {each.by === "auto" ? "health" : each.by} ({local(each.reason, at)})</p>)}
    </>
  );
};

interface Told {
  history: { at: string; verdict: Verdict; was: Verdict; reason: string }[];
}

export const TargetDialog = ({ id, sections, now, may, onDrain, onClose }: { id: string; sections: Sections; now: number; may: boolean; onDrain: (id: string) => void; onClose: () => void }) => {
  const [told, setTold] = useState<Told | null>(null);
  useEffect(() => void ask<Told>("GET", `/v1/health/targets/${encodeURIComponent(id)}`).then((answer) => answer.ok && setTold(answer.body)), [id]);
  const target = sections.targets[id];
  if (!target) return <Dialog title={id} onClose={onClose}><p>It is no more in the configuration.</p></Dialog>;
  return (
    <Dialog title={id} onClose={onClose}>
      <p><VerdictSign verdict={target.verdict} named />{target.since && <span class="quiet"> since {clock(target.since, now)} ({ago(target.since, now)})</span>}</p>
      {target.reason && <p>{target.reason}</p>}
      {target.warning && <p class="warning">{target.warning}</p>}
      <p class="quiet">{target.provider}, {target.model || "model not known"}, stands in {target.region}{target.latency_ms_p50 ? `; probes answered in ${ms(target.latency_ms_p50)} (median)` : ""}.</p>
      <table>
        <thead><tr><th scope="col">seen from</th><th scope="col">verdict</th><th scope="col">last</th><th scope="col" class="number">live attempts</th></tr></thead>
        <tbody>
          {[...new Set([...Object.keys(target.votes), ...Object.keys(target.traffic)])].sort().map((vantage) => (
            <tr key={vantage}>
              <td>{vantage}</td>
              <td>{target.votes[vantage] ? <VerdictSign verdict={target.votes[vantage].verdict} named /> : "–"}</td>
              <td>{target.votes[vantage]?.seen || "–"}</td>
              <td class="number">{target.traffic[vantage]?.attempts ?? "–"}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {told && told.history.length > 0 && (
        <>
          <h3>Lately</h3>
          <ul class="said">
            {told.history.slice(-10).reverse().map((each) => <li key={each.at}>{clock(each.at, now)}: {VERDICT_WORDS[each.was]} → {VERDICT_WORDS[each.verdict]}{each.reason ? ` (${each.reason})` : ""}</li>)}
          </ul>
        </>
      )}
      <div class="buttons">
        <button onClick={onClose}>Close</button>
        <button disabled={!may} onClick={() => onDrain(id)}>Drain it …</button>
      </div>
    </Dialog>
  );
};
