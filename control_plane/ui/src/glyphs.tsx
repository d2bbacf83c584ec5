/** Signs that differ in shape and letter as well as in colour. */

import type { Gravity } from "./conditions";
import type { Verdict } from "./types";

const SHAPES: Record<Verdict, { path: string; mark: string }> = {
  HEALTHY: { path: "M8 1a7 7 0 1 0 0 14A7 7 0 1 0 8 1z", mark: "M4.8 8.2l2.2 2.3 4.2-4.8" },
  DEGRADED: { path: "M8 1L15.5 14.5H.5z", mark: "M8 5.6v4.2M8 11.7v.8" },
  DOWN: { path: "M1.5 1.5h13v13h-13z", mark: "M4.8 4.8l6.4 6.4M11.2 4.8l-6.4 6.4" },
  UNKNOWN: { path: "M8 1l7 7-7 7-7-7z", mark: "M6.4 6.6c0-2.2 3.3-2.2 3.3-.2 0 1.3-1.7 1.3-1.7 2.6M8 10.9v.6" },
};

export const VERDICT_WORDS: Record<Verdict, string> = {
  HEALTHY: "healthy",
  DEGRADED: "degraded",
  DOWN: "down",
  UNKNOWN: "unknown",
};

/** The inside of a verdict's sign, 16 by 16, for use in any SVG. */
export const VerdictMark = ({ verdict }: { verdict: Verdict }) => (
  <>
    <path class="shape" d={SHAPES[verdict].path} />
    <path class="mark" d={SHAPES[verdict].mark} />
  </>
);

export const VerdictSign = ({ verdict, named = false }: { verdict: Verdict; named?: boolean }) => (
  <span class={`verdict ${verdict}`}>
    <svg viewBox="0 0 16 16" width="15" height="15" aria-hidden="true">
      <VerdictMark verdict={verdict} />
    </svg>
    <span class={named ? "" : "unseen"}>{VERDICT_WORDS[verdict]}</span>
  </span>
);

const GRAVITY: Record<Gravity, { verdict: Verdict; words: string }> = {
  good: { verdict: "HEALTHY", words: "well" },
  note: { verdict: "HEALTHY", words: "to note" },
  warn: { verdict: "DEGRADED", words: "warning" },
  bad: { verdict: "DOWN", words: "trouble" },
  lost: { verdict: "UNKNOWN", words: "cut off" },
};

export const GravitySign = ({ gravity, size }: { gravity: Gravity; size: number }) => (
  <span class={`gravity ${gravity}`}>
    {gravity === "note" ? (
      <svg viewBox="0 0 16 16" width={size} height={size} aria-hidden="true">
        <path class="shape" d="M8 1a7 7 0 1 0 0 14A7 7 0 1 0 8 1z" />
        <path class="mark" d="M8 7v4.5M8 4.2v.8" />
      </svg>
    ) : (
      <svg viewBox="0 0 16 16" width={size} height={size} aria-hidden="true">
        <VerdictMark verdict={GRAVITY[gravity].verdict} />
      </svg>
    )}
    <span class="unseen">{GRAVITY[gravity].words}: </span>
  </span>
);
