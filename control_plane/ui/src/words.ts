/** Numbers, times and lists as people say them. */

export const list = (names: string[], most = 4): string => {
  const shown = names.length > most ? [...names.slice(0, most - 1), `${names.length - most + 1} more`] : names;
  return shown.length < 2 ? (shown[0] ?? "") : `${shown.slice(0, -1).join(", ")} and ${shown[shown.length - 1]}`;
};

export const count = (n: number, one: string, many = `${one}s`): string => `${n} ${n === 1 ? one : many}`;

export const percent = (permille: number): string => {
  const value = permille / 10;
  return `${value >= 10 || Number.isInteger(value) ? Math.round(value) : value.toFixed(1)} %`;
};

/** `8 s`, `3 min 20 s`, `2 h 5 min`, `4 d`. */
export const span = (seconds: number): string => {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return s < 600 && s % 60 ? `${Math.floor(s / 60)} min ${s % 60} s` : `${Math.floor(s / 60)} min`;
  if (s < 86400) return s < 36000 && s % 3600 >= 60 ? `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min` : `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86400)} d`;
};

export const ago = (iso: string, now: number): string => {
  const s = (now - Date.parse(iso)) / 1000;
  return s < 2 ? "just now" : `${span(s < 60 ? s : s < 3600 ? s - (s % 60) : s - (s % 3600))} ago`;
};

const two = (n: number): string => String(n).padStart(2, "0");

/** Clock time here; with the day unless it is today. */
export const clock = (iso: string, now: number): string => {
  const then = new Date(iso);
  const time = `${two(then.getHours())}:${two(then.getMinutes())}:${two(then.getSeconds())}`;
  if (new Date(now).toDateString() === then.toDateString()) return time;
  return `${then.getFullYear()}-${two(then.getMonth() + 1)}-${two(then.getDate())} ${time.slice(0, 5)}`;
};

export const ms = (value: number): string =>
  value < 0 ? "0 ms" : value < 1000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(value < 10000 ? 1 : 0)} s`;

export const thousands = (value: number): string =>
  value >= 10000 ? `${Math.round(value / 1000)}k` : value >= 1000 ? `${(value / 1000).toFixed(1)}k` : String(value);

/** Times in a sentence of the replica's, as the clock shows them here. */
export const local = (sentence: string, now: number): string =>
  sentence.replace(/\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)/g, (iso) => clock(iso, now));
