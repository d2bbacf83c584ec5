/** What was decided and why, newest first. */

import { useState } from "preact/hooks";
import type { Sections } from "./types";
import { ago, clock, count, local } from "./words";

const FIRST = 8;

export const Timeline = ({ sections, now, onExplain }: { sections: Sections; now: number; onExplain: (version: string) => void }) => {
  const [all, setAll] = useState(false);
  const entries = Object.entries(sections.decisions).sort(([, one], [, other]) => other.generation - one.generation || other.seq - one.seq);
  return (
    <section class="panel timeline" aria-labelledby="timeline-title">
      <header>
        <h2 id="timeline-title">Decisions</h2>
        <span class="quiet">newest first</span>
      </header>
      <ol>
        {entries.slice(0, all ? undefined : FIRST).map(([version, decision]) => (
          <li key={version} class={decision.in_force ? "in-force" : ""}>
            <div class="when">
              <time dateTime={decision.at} title={new Date(decision.at).toISOString()}>{clock(decision.at, now)}</time>
              <span class="quiet">{ago(decision.at, now)}</span>
            </div>
            <div class="what">
              <p>{local(decision.said[0] ?? "The document was written anew.", now)}</p>
              {decision.said.length > 1 && (
                <details>
                  <summary>{count(decision.said.length - 1, "more reason")}</summary>
                  {decision.said.slice(1).map((said) => <p key={said}>{local(said, now)}</p>)}
                </details>
              )}
              <p class="quiet">
                {version}
                {decision.in_force && <span class="badge good">in force</span>} {decision.routes_changed > 0 && `changed ${decision.routes.slice(0, 4).join(", ")}${decision.routes_changed > 4 ? ` and ${decision.routes_changed - 4} more` : ""}`}
              </p>
            </div>
            <button class="small" onClick={() => onExplain(version)} aria-label={`Why ${version}`}>why?</button>
          </li>
        ))}
      </ol>
      {!entries.length && <p class="empty">Nothing is decided yet.</p>}
      {entries.length > FIRST && <button class="small more" onClick={() => setAll(!all)}>{all ? "show fewer" : `show ${entries.length - FIRST} older`}</button>}
    </section>
  );
};
