/** The stream of `GET /v1/live`: read with fetch, for an EventSource can carry no token. */

import type { Sections } from "./types";

const SILENCE_MS = 12_000; // the replica says the time every 5 s
const WAITS_MS = [500, 1000, 2000, 4000, 8000];
export const LOST_AFTER_MS = 3_000; // shorter gaps are a restart that nobody needs to be told of

export interface Wire {
  /** `asking` before the first snapshot; `refused`: a token is wanted. */
  state: "asking" | "live" | "lost" | "refused";
  sections: Sections;
  /** Monotonic ms when the replica last said anything, and when `about` last changed. */
  heardAt: number;
  aboutAt: number;
  /** The replica's clock minus this one's. */
  skewMs: number;
  problem: string;
}

const nothing = (): Sections => ({
  about: {}, health: {}, regions: {}, targets: {}, routes: {}, measured: {}, decisions: {}, edges: {},
  sources: {}, buses: {}, overrides: {}, rollouts: {}, drills: {},
});

export class Live {
  wire: Wire = { state: "asking", sections: nothing(), heardAt: performance.now(), aboutAt: 0, skewMs: 0, problem: "" };
  private lastId = "";
  private failures = 0;
  private controller = new AbortController();
  private wake: () => void = () => {};

  constructor(private token: () => string, private changed: () => void) {}

  /** Read for ever. */
  async run(): Promise<void> {
    for (;;) {
      try {
        await this.read();
      } catch (error) {
        this.wire.problem ||= error instanceof Error ? error.message : String(error);
      }
      if (this.wire.state === "live") this.wire.state = "lost";
      this.changed();
      const most = WAITS_MS[Math.min(this.failures++, WAITS_MS.length - 1)]!;
      await new Promise<void>((done) => {
        this.wake = done;
        setTimeout(done, this.wire.state === "refused" ? 60_000 : most * (0.7 + 0.6 * Math.random()));
      });
    }
  }

  /** Ask at once: another token, or somebody who does not want to wait. */
  again(): void {
    this.failures = 0;
    this.controller.abort();
    this.wake();
  }

  private async read(): Promise<void> {
    this.controller = new AbortController();
    const headers: Record<string, string> = { accept: "text/event-stream" };
    if (this.lastId) headers["last-event-id"] = this.lastId;
    if (this.token()) headers["authorization"] = `Bearer ${this.token()}`;
    this.wire.problem = "";
    const controller = this.controller;
    let heard = performance.now();
    const watch = setInterval(() => performance.now() - heard > SILENCE_MS && controller.abort(), 1000);
    try {
      const answer = await fetch("/v1/live", { headers, signal: controller.signal, cache: "no-store" });
      if (answer.status === 401 || answer.status === 403) {
        this.wire.state = "refused";
        this.wire.problem = (await answer.json().catch(() => null))?.detail ?? "a token is wanted";
        return;
      }
      if (!answer.ok || !answer.body)
        throw new Error((await answer.json().catch(() => null))?.detail ?? `status ${answer.status}`);
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { done, value } = await reader.read();
        if (done) throw new Error("the replica ended the stream");
        heard = this.wire.heardAt = performance.now();
        const events = (rest + value).split("\n\n");
        rest = events.pop()!;
        events.forEach((event) => this.take(event));
        if (events.length) this.changed();
      }
    } finally {
      clearInterval(watch);
      controller.abort();
    }
  }

  private take(event: string): void {
    const fields: Record<string, string> = {};
    for (const line of event.split("\n")) {
      const colon = line.indexOf(": ");
      if (colon > 0) fields[line.slice(0, colon)] = line.slice(colon + 2);
    }
    if (!fields.event || !fields.data) return;
    const data = JSON.parse(fields.data);
    if (fields.event === "clock") {
      this.wire.skewMs = Date.parse(data.at) - Date.now();
      return;
    }
    if (fields.event !== "snapshot" && fields.event !== "change") return;
    const sections = { ...(fields.event === "snapshot" ? nothing() : this.wire.sections) } as Record<string, Record<string, unknown>>;
    for (const [name, items] of Object.entries(data.sections as Record<string, Record<string, unknown>>)) {
      const section = { ...sections[name] };
      for (const [key, item] of Object.entries(items)) if (item === null) delete section[key];
        else section[key] = item;
      sections[name] = section;
    }
    if (data.sections.about) this.wire.aboutAt = performance.now();
    this.wire.sections = sections as unknown as Sections;
    this.wire.state = "live";
    this.failures = 0;
    if (fields.id) this.lastId = fields.id;
  }
}

/** Seconds since the replica was last heard. */
export const silentFor = (wire: Wire): number => (performance.now() - wire.heardAt) / 1000;
