/** What `GET /v1/live` tells (control_plane/api/picture.py), and what the actions ask for and get. */

export type Verdict = "HEALTHY" | "DEGRADED" | "DOWN" | "UNKNOWN";
export type Items<T> = Record<string, T>;

export interface About {
  replica: string;
  region: string;
  role: "leader" | "follower";
  leader: { id: string; region: string; epoch: number; url: string | null } | null;
  beat_age_s: number | null;
  version: string;
  config_version: number;
  unready: string[];
  etcd: { followed: boolean; age_s: number | null };
  shown: { targets: number; routes: number; edges: number };
}

export interface Freeze {
  cause: "MOST_SILENT" | "CONTRADICTED";
  since: string;
  targets: string[];
  detail: string;
}

export interface Health {
  status: string;
  freezes: Freeze[];
  set_aside: string[];
  silent: string[];
  failovers_last_hour: number | null;
  success_permille: number | null;
  response_ms_mean: number | null;
  attempts: number;
}

export interface Region {
  verdict: Verdict;
  targets_healthy: number;
  targets: number;
  sources_fresh: number;
  sources: number;
  latitude: number | null;
  longitude: number | null;
}

export interface Vote {
  verdict: Verdict;
  hard: boolean;
  seen: string;
}

export interface Target {
  region: string;
  provider: string;
  model: string;
  verdict: Verdict;
  hard: boolean;
  since: string | null;
  reason: string;
  warning: string;
  caution_permille: number;
  latency_ms_p50: number | null;
  votes: Items<Vote>;
  traffic: Items<{ attempts: number; failing: boolean }>;
}

export interface Flow {
  to: Items<number>;
  shed_permille: number;
  per_s: number;
}

export interface Measured {
  attempts: number;
  to: Items<number>;
}

export interface Decision {
  at: string;
  generation: number;
  seq: number;
  in_force: boolean;
  codes: string[];
  said: string[];
  routes: string[];
  routes_changed: number;
  holder: string;
  trace: string | null;
}

export interface Edge {
  region: string;
  mode: "FRESH" | "STALE" | "STATIC";
  silent: boolean;
  decision: string;
  behind: number | null;
  config_version: number;
  applied_at: string;
  beat_age_s: number | null;
  heard_age_s: number;
  lag_ms: number | null;
  refused: number;
  via: string;
  admin_url: string | null;
}

export interface Source {
  role: "prober" | "edge" | "control-plane";
  region: string;
  fresh: boolean;
  heard_age_s: number;
  config_version: number;
}

export interface Bus {
  region: string;
  reachable: boolean;
  caught_up: boolean;
}

export interface Override {
  kind: "drain" | "pin" | "weights" | "freeze";
  region?: string;
  target?: string;
  route?: string;
  clients?: string;
  weights?: Items<number>;
  reason: string;
  author: string;
  created_at: string;
  expires_at: string;
  forced: boolean;
}

export interface Rollout {
  spec: { route: string; targets: string[]; steps: { permille: number; bake_s: number }[] };
  state: string;
  step: number;
  step_since: string;
  author: string;
  reason: string;
  outcome: string;
  permille: number;
  found: string;
}

export interface Drill {
  drill: string;
  region: string | null;
  state: "DUE" | "RUNNING" | "PASSED" | "FAILED" | "ABORTED";
  author: string;
  reason: string;
  schedule: string | null;
  requested_at: string;
  started_at: string | null;
  ended_at: string | null;
  runner: string | null;
  phase: "preparing" | "warm" | "fault" | "recovery" | "reporting";
  requests: number;
  failed: number;
  degraded: number;
  success_rate: number | null;
  detect_ms: number | null;
  apply_ms: number | null;
  recovered_ms: number | null;
  note: string;
  has_page: boolean;
  stopping: boolean;
  /** Steady load and fault; recovery comes on top. */
  planned_s: number;
  last: string;
  /** Faults that are in force now. */
  injected: number;
  failures: string[];
}

export interface Sections {
  about: Items<About>;
  health: Items<Health>;
  regions: Items<Region>;
  targets: Items<Target>;
  routes: Items<Flow>;
  measured: Items<Measured>;
  decisions: Items<Decision>;
  edges: Items<Edge>;
  sources: Items<Source>;
  buses: Items<Bus>;
  overrides: Items<Override>;
  rollouts: Items<Rollout>;
  drills: Items<Drill>;
}

export interface Plan {
  version: string;
  changes: {
    route: string;
    region: string;
    targets: { target: string; now_permille: number; at_once_permille: number; in_the_end_permille: number }[];
  }[];
  refusals: string[];
  warnings: { route: string; region: string; what: string; grave: boolean }[];
  safe: boolean;
  settled: boolean;
  after_s: number;
}

export interface Explained {
  version: string;
  commit: { at: string; term: { holder: string; epoch: number }; traceparent: string | null; config_version: number } | null;
  said: string[];
  evidence: {
    vantage: string;
    source: string;
    boot: number;
    seq: number;
    target: string;
    monitor: string | null;
    outcome: string;
    detail: string;
    observed_at: string;
  }[];
  documents: {
    route: string;
    generation: number;
    seq: number;
    removed: boolean;
    forced_by: string | null;
    regions: Items<{
      tiers: { share_permille: number; targets: { id: string; weight_permille: number }[] }[];
      shed_permille: number;
    }>;
    excluded: { target: string; by: string; reason: string }[];
  }[];
}

export interface CatalogueEntry {
  drill: string;
  what: string;
  hypothesis: string;
  region?: string | null;
  hold_s: number;
}
