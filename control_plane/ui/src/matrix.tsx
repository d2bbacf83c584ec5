/** Every target as every vantage sees it. One stop for Tab; arrows go on from there. */

import { Fragment } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { VERDICT_WORDS, VerdictSign } from "./glyphs";
import { hideTip, tip } from "./tip";
import type { Sections, Target } from "./types";
import { count, ms, percent } from "./words";

const FOLD_FROM = 60; // targets, from which on groups that are all well begin folded

type Entry = [string, Target];

export const Matrix = ({ sections, onTarget }: { sections: Sections; onTarget: (id: string) => void }) => {
  const [words, setWords] = useState("");
  const [troubled, setTroubled] = useState(false);
  const [folds, setFolds] = useState<Record<string, boolean>>({});
  const grid = useRef<HTMLTableElement>(null);
  const all = Object.entries(sections.targets).sort(([one], [other]) => (one < other ? -1 : 1));
  const vantages = Object.keys(sections.regions).sort();
  const wanted = all.filter(([id, target]) => matches(id, target, words) && (!troubled || target.verdict !== "HEALTHY"));
  const groups = useMemo(() => grouped(wanted), [sections.targets, words, troubled]);
  const folded = (region: string, members: Entry[]) =>
    folds[region] ?? (all.length > FOLD_FROM && !words && members.every(([, target]) => target.verdict === "HEALTHY"));
  const total = sections.about.all?.shown.targets ?? all.length;
  useRoving(grid);

  return (
    <section class={vantages.length > 4 ? "panel matrix many" : "panel matrix"} aria-labelledby="matrix-title">
      <header>
        <h2 id="matrix-title">Targets, as each region sees them</h2>
        <div class="tools">
          <input type="search" placeholder="Filter: id, provider, model" aria-label="Filter targets" value={words} onInput={(event) => setWords(event.currentTarget.value)} />
          <label><input type="checkbox" checked={troubled} onChange={(event) => setTroubled(event.currentTarget.checked)} /> not healthy only</label>
        </div>
      </header>
      <div class="scroll">
        <table role="grid" ref={grid} aria-label="Verdicts: targets by row, observing regions by column" aria-rowcount={total + 1}>
          <thead>
            <tr>
              <th scope="col">target</th>
              <th scope="col" class="sign">verdict</th>
              {vantages.map((vantage) => <th scope="col" class="sign" key={vantage}><span><span class="from">from </span>{vantage}</span></th>)}
              <th scope="col" class="number p50" title="Median time of probes">p50</th>
            </tr>
          </thead>
          {groups.map(([region, members]) => (
            <tbody key={region}>
              {groups.length > 1 || members.length > 1 ? (
                <tr class="group">
                  <th scope="rowgroup" colSpan={vantages.length + 3}>
                    <button data-cell aria-expanded={!folded(region, members)} onClick={() => setFolds({ ...folds, [region]: !folded(region, members) })}>
                      <span class="turn" aria-hidden="true">{folded(region, members) ? "▸" : "▾"}</span> {region} <span class="quiet">{tally(members)}</span>
                    </button>
                  </th>
                </tr>
              ) : null}
              {!folded(region, members) &&
                members.map(([id, target]) => <Line key={id} id={id} target={target} vantages={vantages} drained={isDrained(sections, id, target)} onTarget={onTarget} />)}
            </tbody>
          ))}
        </table>
        {!wanted.length && <p class="empty">{all.length ? (troubled && !words ? "None: all targets are healthy." : "No target is called so.") : "No target is known yet."}</p>}
        {total > all.length && <p class="empty">{all.length} of {total} targets are shown: all that are not healthy, and as many others as there is room for.</p>}
      </div>
    </section>
  );
};

const Line = ({ id, target, vantages, drained, onTarget }: { id: string; target: Target; vantages: string[]; drained: boolean; onTarget: (id: string) => void }) => (
  <tr class={target.verdict}>
    <th scope="row">
      <button data-cell class="link" onClick={() => onTarget(id)}>{id}</button>
      {drained && <span class="badge">drained</span>}
      {target.caution_permille < 1000 && <span class="badge" title="Advised to keep this part of its weight">{percent(target.caution_permille)}</span>}
    </th>
    <td class="sign"><Cell label={`${id}: ${VERDICT_WORDS[target.verdict]}`} verdict={target.verdict} named hint={() => <TargetHint id={id} target={target} />} /></td>
    {vantages.map((vantage) => {
      const vote = target.votes[vantage];
      return (
        <td class="sign" key={vantage}>
          {vote ? (
            <Cell label={`${id} from ${vantage}: ${VERDICT_WORDS[vote.verdict]}`} verdict={vote.verdict} hint={() => <VoteHint id={id} vantage={vantage} target={target} />} />
          ) : (
            <span class="quiet" title={`${vantage} does not watch it, or has not been heard`}>·</span>
          )}
        </td>
      );
    })}
    <td class="number p50">{target.latency_ms_p50 ? ms(target.latency_ms_p50) : "–"}</td>
  </tr>
);

const Cell = ({ label, verdict, named, hint }: { label: string; verdict: Target["verdict"]; named?: boolean; hint: () => preact.ComponentChildren }) => (
  <span class="cell" data-cell tabIndex={-1} role="img" aria-label={label} {...tip(hint)}>
    <VerdictSign verdict={verdict} named={named ?? false} />
  </span>
);

const TargetHint = ({ id, target }: { id: string; target: Target }) => (
  <>
    <strong>{id}</strong>: {VERDICT_WORDS[target.verdict]}{target.hard ? ", on hard evidence" : ""}
    {target.reason && <><br />{target.reason}</>}
    {target.warning && <><br />warning: {target.warning}</>}
    {Object.entries(target.votes).map(([vantage, vote]) => <Fragment key={vantage}><br />{vantage}: {VERDICT_WORDS[vote.verdict]}{vote.seen ? ` (${vote.seen})` : ""}</Fragment>)}
  </>
);

const VoteHint = ({ id, vantage, target }: { id: string; vantage: string; target: Target }) => {
  const vote = target.votes[vantage]!;
  const seen = target.traffic[vantage];
  return (
    <>
      <strong>{id}</strong> as seen from {vantage}: {VERDICT_WORDS[vote.verdict]}{vote.hard ? ", on hard evidence" : ""}
      {vote.seen && <><br />last: {vote.seen}</>}
      {seen && <><br />live traffic: {count(seen.attempts, "attempt")}{seen.failing ? ", nearly all of them failing" : ""}</>}
    </>
  );
};

const matches = (id: string, target: Target, words: string): boolean =>
  words.toLowerCase().split(/\s+/).every((word) => `${id} ${target.provider} ${target.model} ${target.region} ${VERDICT_WORDS[target.verdict]}`.toLowerCase().includes(word));

const grouped = (entries: Entry[]): [string, Entry[]][] => {
  const groups = new Map<string, Entry[]>();
  const ill = ([, target]: Entry) => (target.verdict === "HEALTHY" ? 1 : 0);
  for (const entry of [...entries].sort((one, other) => ill(one) - ill(other))) groups.set(entry[1].region, [...(groups.get(entry[1].region) ?? []), entry]);
  const troubled = (members: Entry[]) => (members.every(([, target]) => target.verdict === "HEALTHY") ? 1 : 0);
  return [...groups].sort((one, other) => troubled(one[1]) - troubled(other[1]) || (one[0] < other[0] ? -1 : 1));
};

const tally = (members: Entry[]): string => {
  const healthy = members.filter(([, target]) => target.verdict === "HEALTHY").length;
  return `${healthy} of ${members.length} healthy`;
};

const isDrained = (sections: Sections, id: string, target: Target): boolean =>
  Object.values(sections.overrides).some((order) => order.kind === "drain" && (order.target === id || order.region === target.region));

/** The keyboard's way through a grid (ARIA Authoring Practices, "Data Grid"): one cell takes Tab. */
const useRoving = (grid: { current: HTMLTableElement | null }): void => {
  useEffect(() => {
    const table = grid.current!;
    const cells = () => [...table.querySelectorAll<HTMLElement>("[data-cell]")];
    const settle = () => {
      const all = cells();
      if (all.some((cell) => cell.tabIndex === 0 && cell.dataset.here)) {
        all.forEach((cell) => (cell.tabIndex = cell.dataset.here ? 0 : -1));
        return;
      }
      all.forEach((cell, n) => (cell.tabIndex = n === 0 ? 0 : -1));
    };
    const go = (cell: HTMLElement | undefined) => {
      if (!cell) return;
      cells().forEach((each) => (delete each.dataset.here, (each.tabIndex = -1)));
      cell.dataset.here = "1";
      cell.tabIndex = 0;
      cell.focus();
    };
    const onKey = (event: KeyboardEvent) => {
      const here = (event.target as HTMLElement).closest<HTMLElement>("[data-cell]");
      if (!here) return;
      const row = here.closest("tr")!;
      const rows = [...table.querySelectorAll("tr")].filter((each) => each.querySelector("[data-cell]"));
      const inRow = (each: Element) => [...each.querySelectorAll<HTMLElement>("[data-cell]")];
      const column = inRow(row).indexOf(here), at = rows.indexOf(row);
      const vertical = (to: number) => {
        const target = rows[Math.max(0, Math.min(rows.length - 1, to))]!;
        const those = inRow(target);
        return those[Math.min(column, those.length - 1)];
      };
      const moves: Record<string, () => HTMLElement | undefined> = {
        ArrowRight: () => inRow(row)[column + 1],
        ArrowLeft: () => inRow(row)[column - 1],
        ArrowDown: () => vertical(at + 1),
        ArrowUp: () => vertical(at - 1),
        PageDown: () => vertical(at + 10),
        PageUp: () => vertical(at - 10),
        Home: () => (event.ctrlKey ? cells()[0] : inRow(row)[0]),
        End: () => (event.ctrlKey ? cells().pop() : inRow(row).pop()),
        Escape: () => (hideTip(), undefined),
      };
      const move = moves[event.key];
      if (!move) return;
      event.preventDefault();
      go(move());
    };
    const onFocus = (event: FocusEvent) => {
      const cell = (event.target as HTMLElement).closest<HTMLElement>("[data-cell]");
      if (!cell || cell.dataset.here) return;
      cells().forEach((each) => (delete each.dataset.here, (each.tabIndex = -1)));
      cell.dataset.here = "1";
      cell.tabIndex = 0;
    };
    settle();
    const watch = new MutationObserver(settle);
    watch.observe(table, { childList: true, subtree: true });
    table.addEventListener("keydown", onKey);
    table.addEventListener("focusin", onFocus);
    return () => {
      watch.disconnect();
      table.removeEventListener("keydown", onKey);
      table.removeEventListener("focusin", onFocus);
    };
  }, []);
};
