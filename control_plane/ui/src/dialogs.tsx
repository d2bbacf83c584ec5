/** What a person may order: always by whom and why, and never before its plan was seen. */

import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { ask } from "./ask";
import { sayOrder, undoing } from "./orders";
import type { CatalogueEntry, Override, Plan, Sections } from "./types";
import { percent, span } from "./words";

const DURATIONS: [number, string][] = [[900, "15 minutes"], [1800, "30 minutes"], [3600, "1 hour"], [14400, "4 hours"], [86400, "1 day"], [604800, "1 week"]];
const CARRIED_MS = 12_000;

export const Dialog = ({ title, onClose, children, wide }: { title: string; onClose: () => void; children: ComponentChildren; wide?: boolean }) => {
  const box = useRef<HTMLDialogElement>(null);
  const opener = useRef(document.activeElement as HTMLElement | null);
  const gone = useRef(false);
  useLayoutEffect(() => {
    // At once, and closed by taking it away: a key that follows quickly must find the one or the other.
    const it = box.current!;
    it.showModal();
    return () => {
      gone.current = true;
      it.close(); // while it is open, nothing outside can take the focus
      if (opener.current?.isConnected) opener.current.focus();
    };
  }, []);
  return (
    <dialog ref={box} class={wide ? "wide" : ""} aria-labelledby="dialog-title" onCancel={(event) => (event.preventDefault(), onClose())} onClose={() => gone.current || onClose()} onClick={(event) => event.target === box.current && onClose()}>
      <div class="inside">
        <header>
          <h2 id="dialog-title">{title}</h2>
          <button class="small" onClick={onClose} aria-label="Close">✕</button>
        </header>
        {children}
      </div>
    </dialog>
  );
};

/** Who and why, remembered for the next time (who) and not (why). */
const useWords = () => {
  const [author, setAuthor] = useState(localStorage.getItem("leeward-author") ?? "");
  const [reason, setReason] = useState("");
  const remember = () => localStorage.setItem("leeward-author", author.trim());
  const fields = (
    <>
      <label>Who are you<input required maxLength={128} value={author} onInput={(event) => setAuthor(event.currentTarget.value)} autoComplete="name" /></label>
      <label>Why<input required maxLength={512} value={reason} onInput={(event) => setReason(event.currentTarget.value)} placeholder="goes on record, and into the decision" /></label>
    </>
  );
  return { author: author.trim(), reason: reason.trim(), fields, remember };
};

interface Shown {
  plan: Plan | null;
  problem: string;
}

const PlanView = ({ shown, intro }: { shown: Shown; intro?: string }) => {
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => box.current?.focus(), [shown]);
  const { plan, problem } = shown;
  return (
    <div class="plan" ref={box} tabIndex={-1} role="region" aria-label="The plan">
      <h3>What would happen</h3>
      {problem && <p class="refusal">{problem}</p>}
      {plan && (
        <>
          {intro && <p class="quiet">{intro}</p>}
          {plan.refusals.map((refusal) => <p class="refusal" key={refusal}>Refused: {refusal}</p>)}
          {plan.changes.length ? <Changes plan={plan} /> : !plan.refusals.length && <p>No share changes.</p>}
          {plan.warnings.map((warning) => <p class={warning.grave ? "refusal" : "warning"} key={`${warning.route}${warning.region}${warning.what}`}>{warning.grave ? "Grave: " : "Mind: "}{warning.route} for clients in {warning.region}: {warning.what}</p>)}
          {!plan.settled && <p class="warning">No end was reached within the look ahead.</p>}
          <p class="quiet">Planned on decision {plan.version}{plan.after_s > 1 && plan.changes.length ? `; the last step is taken after about ${span(plan.after_s)}` : ""}.</p>
        </>
      )}
    </div>
  );
};

const Changes = ({ plan }: { plan: Plan }) => (
  <div class="scroll">
    <table>
      <thead><tr><th scope="col">target</th><th scope="col" class="number">now</th><th scope="col" class="number">at once</th><th scope="col" class="number">in the end</th></tr></thead>
      {plan.changes.slice(0, 40).map((change) => (
        <tbody key={`${change.route}>${change.region}`}>
          <tr class="first"><th scope="rowgroup" colSpan={4}>{change.route}, for clients in {change.region}</th></tr>
          {change.targets.map((target) => (
            <tr key={target.target}>
              <td>{target.target}</td>
              <td class="number">{percent(target.now_permille)}</td>
              <td class="number">{percent(target.at_once_permille)}</td>
              <td class="number"><strong>{percent(target.in_the_end_permille)}</strong></td>
            </tr>
          ))}
        </tbody>
      ))}
    </table>
    {plan.changes.length > 40 && <p class="quiet">and {plan.changes.length - 40} more</p>}
  </div>
);

interface OrderProps {
  title: string;
  /** Fields besides who and why. */
  children?: ComponentChildren;
  /** The question for `POST /v1/plan`; a change of it makes the shown plan void. Null: incomplete. */
  question: unknown;
  intro?: string;
  forcible: boolean;
  verb: string;
  /** Does it; says what came of it, or throws what to show. */
  apply: (words: { author: string; reason: string; forced: boolean }) => Promise<string>;
  onClose: () => void;
}

class Declined extends Error {
  constructor(detail: string, readonly forcible: boolean) {
    super(detail);
  }
}

const Order = ({ title, children, question, intro, forcible, verb, apply, onClose }: OrderProps) => {
  const words = useWords();
  const [shown, setShown] = useState<(Shown & { for: string }) | null>(null);
  const [busy, setBusy] = useState(false);
  const [force, setForce] = useState(false);
  const [declined, setDeclined] = useState<Declined | null>(null);
  const [done, setDone] = useState("");
  const asked = JSON.stringify(question);
  const current = shown?.for === asked ? shown : null;
  const refused = !!current?.plan?.refusals.length || !!declined?.forcible;
  const ready = current?.plan && words.author && words.reason && (!refused || (forcible && force));

  const look = async () => {
    setBusy(true);
    setForce(false);
    setDeclined(null);
    const answer = await ask<Plan>("POST", "/v1/plan", question);
    setShown({ for: asked, plan: answer.ok ? answer.body : null, problem: answer.detail });
    setBusy(false);
  };
  const carry = async () => {
    setBusy(true);
    setDeclined(null);
    words.remember();
    try {
      setDone(await apply({ author: words.author, reason: words.reason, forced: refused && force }));
    } catch (error) {
      setDeclined(error instanceof Declined ? error : new Declined(String(error), false));
    }
    setBusy(false);
  };
  if (done)
    return (
      <Dialog title={title} onClose={onClose}>
        <p class="done" role="status">{done}</p>
        <div class="buttons"><button class="primary" autofocus onClick={onClose}>Close</button></div>
      </Dialog>
    );
  return (
    <Dialog title={title} onClose={onClose}>
      <form onSubmit={(event) => (event.preventDefault(), current?.plan ? ready && void carry() : void look())}>
        <div class="fields">
          {children}
          {words.fields}
        </div>
        {current && <PlanView shown={current} {...(intro ? { intro } : {})} />}
        {declined && <p class="refusal" role="alert">{declined.message}</p>}
        {current?.plan && refused && forcible && (
          <label class="force"><input type="checkbox" checked={force} onChange={(event) => setForce(event.currentTarget.checked)} /> I have read why it is refused: force it</label>
        )}
        <div class="buttons">
          <button type="button" onClick={onClose}>Cancel</button>
          {current?.plan ? (
            <button class={refused ? "danger" : "primary"} disabled={busy || !ready}>{busy ? "…" : refused ? `${verb} by force` : verb}</button>
          ) : (
            <button class="primary" disabled={busy || question === null || !words.author || !words.reason}>{busy ? "looking ahead …" : "Show the plan"}</button>
          )}
        </div>
      </form>
    </Dialog>
  );
};

/** Wait until a decision names the order; says which, or that none did yet. */
const carriedBy = async (name: string, sections: () => Sections): Promise<string> => {
  const until = performance.now() + CARRIED_MS;
  while (performance.now() < until) {
    const found = Object.entries(sections().decisions).find(([, decision]) => decision.said.some((said) => said.includes(name)));
    if (found) return `carried by decision ${found[0]}`;
    await new Promise((done) => setTimeout(done, 250));
  }
  return "no decision carries it yet: look at the timeline";
};

interface Common {
  sections: () => Sections;
  onClose: () => void;
}

const give = async (spec: object, words: { author: string; reason: string; forced: boolean }, seconds: number, sections: () => Sections): Promise<string> => {
  const answer = await ask<{ id: string; warnings: string[] }>("POST", "/v1/overrides", { ...spec, author: words.author, reason: words.reason, for_s: seconds, forced: words.forced });
  if (!answer.ok) throw new Declined(answer.detail, answer.status === 409 && !words.forced);
  return [`Ordered as ${answer.body.id}`, await carriedBy(answer.body.id, sections), ...answer.body.warnings].join("; ") + ".";
};

const Duration = ({ value, onChange }: { value: number; onChange: (value: number) => void }) => (
  <label>For<select value={value} onChange={(event) => onChange(Number(event.currentTarget.value))}>{DURATIONS.map(([seconds, name]) => <option value={seconds}>{name}</option>)}</select></label>
);

const routesOf = (sections: Sections): string[] => [...new Set(Object.keys(sections.routes).map((key) => key.split(">")[0]!))].filter((name) => name !== "*").sort();

const RouteChoice = ({ sections, value, onChange }: { sections: Sections; value: string; onChange: (value: string) => void }) => (
  <label>On<select value={value} onChange={(event) => onChange(event.currentTarget.value)}><option value="">all routes</option>{routesOf(sections).map((name) => <option value={name}>{name}</option>)}</select></label>
);

export const Drain = ({ sections, onClose, whom }: Common & { whom: string }) => {
  const [name, setName] = useState(whom);
  const [route, setRoute] = useState("");
  const [seconds, setSeconds] = useState(1800);
  const regions = Object.keys(sections().regions).sort(), targets = Object.keys(sections().targets).sort();
  const known = regions.includes(name) ? { region: name } : targets.includes(name) ? { target: name } : null;
  const spec = known && { kind: "drain", ...known, ...(route ? { route } : {}) };
  return (
    <Order title="Drain a region or a target" verb={`Drain ${name || "…"}`} forcible question={spec && { overrides: [spec] }} onClose={onClose} apply={(words) => give(spec!, words, seconds, sections)}>
      <label>What<input required list="whom" value={name} onInput={(event) => setName(event.currentTarget.value.trim())} placeholder="eu-west" spellcheck={false} autoComplete="off" /></label>
      <datalist id="whom">{[...regions, ...targets].map((each) => <option value={each} />)}</datalist>
      {name && !known && <p class="warning">There is no region or target of this name.</p>}
      <RouteChoice sections={sections()} value={route} onChange={setRoute} />
      <Duration value={seconds} onChange={setSeconds} />
    </Order>
  );
};

export const FreezeAll = ({ sections, onClose }: Common) => {
  const [route, setRoute] = useState("");
  const [seconds, setSeconds] = useState(900);
  const spec = { kind: "freeze", ...(route ? { route } : {}) };
  return (
    <Order title="Freeze removals" verb="Freeze" forcible question={{ overrides: [spec] }} onClose={onClose} apply={(words) => give(spec, words, seconds, sections)} intro="Nobody leaves the traffic by health while it holds; who is out already stays out until well, and other orders go on.">
      <RouteChoice sections={sections()} value={route} onChange={setRoute} />
      <Duration value={seconds} onChange={setSeconds} />
    </Order>
  );
};

export const EndOrder = ({ onClose, id, order }: { onClose: () => void; id: string; order: Override }) => (
  <Order
    title={`${undoing(order)[0]!.toUpperCase()}${undoing(order).slice(1)}: ${id}`}
    verb={`${undoing(order)[0]!.toUpperCase()}${undoing(order).slice(1)}`}
    forcible={false}
    question={{ without_overrides: [id] }}
    intro={`${sayOrder(order)} by ${order.author}: ${order.reason}`}
    onClose={onClose}
    apply={async ({ author, reason }) => {
      const answer = await ask("DELETE", `/v1/overrides/${encodeURIComponent(id)}`, { author, reason });
      if (!answer.ok) throw new Declined(answer.detail, false);
      return `${id} is ended; traffic returns by the plan that was shown.`;
    }}
  />
);

export const StartDrill = ({ sections, onClose }: Common) => {
  const [catalogue, setCatalogue] = useState<CatalogueEntry[] | null>(null);
  const [problem, setProblem] = useState("");
  const [name, setName] = useState("");
  const [region, setRegion] = useState("");
  useEffect(() => {
    void ask<{ drills: CatalogueEntry[] }>("GET", "/v1/drills/catalogue").then((answer) => {
      if (!answer.ok) return setProblem(answer.status === 404 ? "This replica knows no drills." : answer.detail);
      const entries = answer.body.drills;
      setCatalogue(entries);
      setName((entries.find((entry) => entry.drill === "region-outage") ?? entries[0])?.drill ?? "");
    });
    // Not where this page's own replica stands, if there is a choice: one wants to watch.
    const regions = Object.keys(sections().regions).sort();
    setRegion(regions.find((each) => each !== sections().about.all?.region) ?? regions[0] ?? "");
  }, []);
  const chosen = catalogue?.find((entry) => entry.drill === name);
  if (problem) return <Dialog title="Start a drill" onClose={onClose}><p class="refusal">{problem}</p></Dialog>;
  return (
    <Order
      title="Start a drill"
      verb={`Start ${name}`}
      forcible={false}
      question={chosen ? { assume_down: [region] } : null}
      intro={`If every target in ${region} were down, which is the most that a drill there can take away:`}
      onClose={onClose}
      apply={async ({ author, reason }) => {
        const answer = await ask<{ id: string }>("POST", "/v1/drills", { name, region, author, reason });
        if (!answer.ok) throw new Declined(answer.detail, false);
        return `${answer.body.id} is asked for. A runner takes it up within a minute; “Orders and drills” shows how it goes.`;
      }}
    >
      <label>Drill<select value={name} onChange={(event) => setName(event.currentTarget.value)}>{(catalogue ?? []).map((entry) => <option value={entry.drill}>{entry.drill}</option>)}</select></label>
      <label>In<select value={region} onChange={(event) => setRegion(event.currentTarget.value)}>{Object.keys(sections().regions).sort().map((each) => <option value={each}>{each}</option>)}</select></label>
      {region === sections().about.all?.region && <p class="warning">The replica that this page asks stands in {region}: the page may lose it for a while. Another replica's page would show all of it.</p>}
      {chosen && <p class="quiet span">{chosen.what} It is supposed that: {chosen.hypothesis} The fault is held for {span(chosen.hold_s)}.</p>}
    </Order>
  );
};

export const AbortDrill = ({ onClose, id }: { onClose: () => void; id: string }) => {
  const words = useWords();
  const [problem, setProblem] = useState("");
  const abort = async (event: Event) => {
    event.preventDefault();
    words.remember();
    const answer = await ask("POST", `/v1/drills/${encodeURIComponent(id)}/abort`, { author: words.author, reason: words.reason });
    if (answer.ok) onClose();
    else setProblem(answer.detail);
  };
  return (
    <Dialog title={`Abort ${id}`} onClose={onClose}>
      <form onSubmit={abort}>
        <p>Its faults are undone at once; the report says that it was aborted, and by whom.</p>
        <div class="fields">{words.fields}</div>
        {problem && <p class="refusal" role="alert">{problem}</p>}
        <div class="buttons"><button type="button" onClick={onClose}>Cancel</button><button class="danger" disabled={!words.author || !words.reason}>Abort</button></div>
      </form>
    </Dialog>
  );
};

export const TokenDialog = ({ onClose, onToken, wanted, who }: { onClose: () => void; onToken: (text: string) => void; wanted: boolean; who: string }) => {
  const [text, setText] = useState("");
  return (
    <Dialog title="Token" onClose={onClose}>
      <form onSubmit={(event) => (event.preventDefault(), onToken(text.trim()), onClose())}>
        <p>{wanted ? "This replica wants a token." : `You are ${who}.`} It is kept in this tab until the tab is closed, and sent to this replica alone.</p>
        <div class="fields"><label>Token<input type="password" autoComplete="off" autofocus value={text} onInput={(event) => setText(event.currentTarget.value)} /></label></div>
        <div class="buttons">
          <button type="button" onClick={() => (onToken(""), onClose())}>Forget it</button>
          <button class="primary" disabled={!text.trim()}>Use it</button>
        </div>
      </form>
    </Dialog>
  );
};

