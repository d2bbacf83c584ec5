/** Questions and orders to the replica; every failure is an `Answer` that can be shown. */

const DEADLINE_MS = 20_000;

export interface Answer<T> {
  ok: boolean;
  status: number;
  body: T;
  /** Why not, in the replica's own words. */
  detail: string;
}

let token = sessionStorage.getItem("leeward-token") ?? "";

export const currentToken = (): string => token;
export const useToken = (text: string): void => {
  token = text;
  if (text) sessionStorage.setItem("leeward-token", text);
  else sessionStorage.removeItem("leeward-token");
};

export const ask = async <T>(method: string, path: string, body?: unknown): Promise<Answer<T>> => {
  const headers: Record<string, string> = { accept: "application/json" };
  if (body !== undefined) headers["content-type"] = "application/json";
  if (token) headers["authorization"] = `Bearer ${token}`;
  try {
    const answer = await fetch(path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(DEADLINE_MS),
      cache: "no-store",
    });
    const text = await answer.text();
    const value = text && /json/.test(answer.headers.get("content-type") ?? "") ? JSON.parse(text) : text;
    const faults = (value?.faults ?? []).map((fault: { where: string; what: string }) => `${fault.where}: ${fault.what}`);
    const detail = answer.ok ? "" : [value?.detail ?? `status ${answer.status}`, ...faults].join("; ");
    return { ok: answer.ok, status: answer.status, body: value as T, detail };
  } catch (error) {
    const late = error instanceof DOMException && error.name === "TimeoutError";
    const what = late ? "no answer within 20 s" : "the replica does not answer";
    const unknown = method === "GET" || path === "/v1/plan" ? "" : "; whether it was done is not known: look at the timeline before you try again";
    return { ok: false, status: 0, body: undefined as T, detail: what + unknown };
  }
};
