/** The page: a head line that says how it stands, and everything behind it. */

import { Component, render, type ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import { ask, currentToken, useToken } from "./ask";
import { conditions, type Condition } from "./conditions";
import { AbortDrill, Drain, EndOrder, FreezeAll, StartDrill, TokenDialog } from "./dialogs";
import { Explain, TargetDialog } from "./explain";
import { Fleet } from "./fleet";
import { GravitySign } from "./glyphs";
import { Live, silentFor } from "./live";
import { WorldMap } from "./map";
import { Matrix } from "./matrix";
import { Orders } from "./orders";
import { signal } from "./signal";
import { Timeline } from "./timeline";
import { Tip } from "./tip";
import type { Sections } from "./types";
import { ms, percent, span } from "./words";

type Open =
  | { what: "drain"; whom: string }
  | { what: "freeze" | "drill" | "token" }
  | { what: "end" | "abort" | "target" | "explain"; id: string }
  | null;

interface Who {
  name: string;
  role: string;
}

const beat = signal(0);
const live = new Live(currentToken, () => beat.set(beat.get() + 1));

const Page = () => {
  beat.use();
  const [open, setOpen] = useState<Open>(null);
  const [who, setWho] = useState<Who | null>(null);
  const { wire } = live;
  const s = wire.sections;
  const now = Date.now() + wire.skewMs;
  const found = conditions(wire, now);
  const head = found[0]!;
  const connected = wire.state === "live";
  useEffect(() => void (connected && ask<Who>("GET", "/v1/whoami").then((answer) => setWho(answer.ok ? answer.body : null))), [connected, currentToken()]);
  useEffect(() => {
    document.title = `${head.gravity === "good" ? "" : "● "}${head.text} – Leeward`;
  }, [head.text, head.gravity]);
  const role = who?.role ?? "admin";
  const may = connected && (role === "admin" || role === "operator");
  const close = () => setOpen(null);
  const token = (text: string) => (useToken(text), setWho(null), live.again());
  const me = s.about.all;
  const drain = (whom: string) => setOpen({ what: "drain", whom });

  return (
    <>
      <a class="skip" href="#main">Skip to the page</a>
      <header class="top">
        <div class="brand"><Mark /> Leeward</div>
        <nav aria-label="Actions">
          <button disabled={!may} title={may ? "Take a region or a target out of the traffic for a time" : why(connected, who)} onClick={() => drain("")}>Drain …</button>
          <button disabled={!may} title={may ? "Suspend removals by health for a time" : why(connected, who)} onClick={() => setOpen({ what: "freeze" })}>Freeze …</button>
          <button disabled={!may} title={may ? "Rehearse a failure, measured and undone" : why(connected, who)} onClick={() => setOpen({ what: "drill" })}>Start drill …</button>
        </nav>
        <div class="self">
          <span class={`link ${connected ? "live" : "cut"}`} title={connected ? "Changes arrive as they happen" : "Nothing arrives"}>
            {connected ? "live" : wire.state === "asking" ? "asking" : `cut off ${span(silentFor(wire))}`}
          </span>
          {me && <span class="quiet">{me.replica}, {me.role}</span>}
          <button class="small" onClick={() => setOpen({ what: "token" })}>{who && who.name !== "anonymous" ? `${who.name} (${who.role})` : "Token"}</button>
          <Theme />
        </div>
      </header>
      <main id="main" tabIndex={-1}>
        <Head found={found} sections={s} onRetry={wire.state === "lost" ? () => live.again() : undefined} />
        {me && (
          <div class={connected ? "board" : "board old"}>
            <div class="column">
              <WorldMap sections={s} onRegion={drain} />
              <Timeline sections={s} now={now} onExplain={(id) => setOpen({ what: "explain", id })} />
            </div>
            <div class="column">
              <Matrix sections={s} onTarget={(id) => setOpen({ what: "target", id })} />
              <Orders sections={s} now={now} may={may} onEnd={(id) => setOpen({ what: "end", id })} onAbort={(id) => setOpen({ what: "abort", id })} />
              <Fleet sections={s} />
            </div>
          </div>
        )}
      </main>
      <footer class="quiet">
        <span>Raw:</span>{["health", "decisions", "edges", "overrides", "drills", "audit", "config"].map((name) => <a href={`/v1/${name}`} key={name}>{name}</a>)}
        <a href="/metrics">metrics</a><a href="/openapi.json">OpenAPI</a>
      </footer>
      {open?.what === "drain" && <Drain whom={open.whom} sections={() => live.wire.sections} onClose={close} />}
      {open?.what === "freeze" && <FreezeAll sections={() => live.wire.sections} onClose={close} />}
      {open?.what === "drill" && <StartDrill sections={() => live.wire.sections} onClose={close} />}
      {open?.what === "token" && <TokenDialog onClose={close} onToken={token} wanted={wire.state === "refused"} who={who ? `${who.name}, ${who.role}` : "nobody in particular"} />}
      {open?.what === "end" && s.overrides[open.id] && <EndOrder id={open.id} order={s.overrides[open.id]!} onClose={close} />}
      {open?.what === "abort" && <AbortDrill id={open.id} onClose={close} />}
      {open?.what === "target" && <TargetDialog id={open.id} sections={s} now={now} may={may} onDrain={drain} onClose={close} />}
      {open?.what === "explain" && <Explain version={open.id} sections={s} now={now} onClose={close} />}
      <Tip />
    </>
  );
};

const why = (connected: boolean, who: Who | null): string =>
  connected ? `${who?.name ?? "You"} may look, as ${who?.role ?? "nobody"}; orders want an operator's token` : "Nothing can be ordered while the page is cut off";

const Head = ({ found, sections, onRetry }: { found: Condition[]; sections: Sections; onRetry: (() => void) | undefined }) => {
  const [head, ...others] = found;
  const health = sections.health.all;
  const me = sections.about.all, leader = me?.leader;
  return (
    <section class={`head ${head!.gravity}`} aria-label="How it stands">
      <div class="line">
        <GravitySign gravity={head!.gravity} size={34} />
        <div role="status">
          <h1>{head!.text}</h1>
          {head!.more && (
            <p>
              {head!.more} {onRetry && <button class="small" onClick={onRetry}>ask again now</button>}
              {onRetry && leader?.url && leader.id !== me?.replica && <> <a href={leader.url}>ask {leader.id}</a></>}
            </p>
          )}
        </div>
      </div>
      {others.length > 0 && (
        <ul class="others">
          {others.slice(0, 8).map((each) => <li key={each.text} title={each.more}><GravitySign gravity={each.gravity} size={15} />{each.text}</li>)}
          {others.length > 8 && <li>and {others.length - 8} more</li>}
        </ul>
      )}
      {health && (
        <dl class="figures">
          <div><dt>requests answered well</dt><dd>{health.success_permille === null ? "no traffic" : percent(health.success_permille)}</dd></div>
          <div><dt>mean answer</dt><dd>{health.response_ms_mean === null ? "–" : ms(health.response_ms_mean)}</dd></div>
          <div><dt>failovers, last hour</dt><dd>{health.failovers_last_hour ?? "–"}</dd></div>
          <div><dt>decision in force</dt><dd>{sections.about.all?.version}</dd></div>
        </dl>
      )}
    </section>
  );
};

const Mark = () => (
  <svg viewBox="0 0 16 16" width="20" height="20" aria-hidden="true"><path d="M2 13.5h12M8 1.5v9.5M8 2.5c4 2 5.2 5 5.4 8.5H8M7 4.5C4.7 6 3.4 8.500 3 11h4" fill="none" stroke="currentColor" stroke-width="1.5" stroke-linejoin="round" stroke-linecap="round" /></svg>
);

const THEMES = ["auto", "light", "dark"] as const;

type Colours = (typeof THEMES)[number];

const keptColours = (): Colours => THEMES.find((one) => one === localStorage.getItem("leeward-theme")) ?? "auto";

/** At once, not in an effect: before the first paint after a load, and before anything that follows the click. */
const colour = (theme: Colours) => {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
};

const Theme = () => {
  const [theme, setTheme] = useState(keptColours);
  const change = () => {
    const next = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length]!;
    localStorage.setItem("leeward-theme", next);
    colour(next);
    setTheme(next);
  };
  return (
    <button class="small" onClick={change} aria-label={`Colours: ${theme}. Change`}>
      {{ auto: "◐ auto", light: "○ light", dark: "● dark" }[theme]}
    </button>
  );
};

/** A fault of the page must not look like calm. */
class Guarded extends Component<{ children: ComponentChildren }, { error: Error | null }> {
  state = { error: null as Error | null };
  static getDerivedStateFromError(error: Error) {
    return { error };
  }
  render() {
    if (!this.state.error) return this.props.children;
    return <main><h1>The page itself failed</h1><p>{this.state.error.message}. What it showed is not to be trusted: <a href="/">load it again</a>, or ask <code>leeward status</code>.</p></main>;
  }
}

colour(keptColours());
render(<Guarded><Page /></Guarded>, document.getElementById("page")!);
setInterval(() => beat.set(beat.get() + 1), 1000);
void live.run();
