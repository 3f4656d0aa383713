/** Words, numbers and times as the console says them.  Pure: no DOM, no network. */

const MINUTE = 60, HOUR = 3600, DAY = 86400;
const MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(" ");
const THIN = "\u2009";

let ahead_ms = 0;

/** The gateway's time, Unix ms: this clock, corrected by what its answers say. */
export const now = () => Date.now() + ahead_ms;

/** Learn the gateway's time from a `Date` header; small differences are the way there. */
export function learnTime(header) {
  const difference = Date.parse(header ?? "") - Date.now();
  if (Number.isFinite(difference)) ahead_ms = Math.abs(difference) > 2000 ? difference : 0;
}

/** How long `ms` are, in one unit: `4s`, `2m`, `3h`, `31d`. */
export function span(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  if (s < MINUTE) return `${s}s`;
  if (s < HOUR) return `${Math.floor(s / MINUTE)}m`;
  return s < DAY ? `${Math.floor(s / HOUR)}h` : `${Math.floor(s / DAY)}d`;
}

/** The age of a Unix time in ms: `4s ago`; `-` of none. */
export const age = (at_ms) => (at_ms == null ? "-" : `${span(now() - at_ms)} ago`);

/** How long something took: `14ms`, `1.2s`, `30s`, `2m 4s`, `3h 5m`; `-` of null. */
export function duration(ms) {
  if (ms == null) return "-";
  if (ms < 1000) return `${Math.round(ms)}ms`;
  if (ms < 10000) return `${(Math.floor(ms / 100) / 10).toFixed(1).replace(".0", "")}s`;
  const s = Math.floor(ms / 1000);
  if (s < MINUTE) return `${s}s`;
  if (s < HOUR) return `${Math.floor(s / MINUTE)}m ${s % MINUTE}s`;
  return `${Math.floor(s / HOUR)}h ${Math.floor((s % HOUR) / MINUTE)}m`;
}

/** What is left, in ms: `8:12`, `1:02:00`; never below `0:00`. */
export function countdown(ms) {
  const s = Math.max(0, Math.ceil(ms / 1000));
  const two = (n) => String(n).padStart(2, "0");
  if (s < HOUR) return `${Math.floor(s / MINUTE)}:${two(s % MINUTE)}`;
  return `${Math.floor(s / HOUR)}:${two(Math.floor((s % HOUR) / MINUTE))}:${two(s % MINUTE)}`;
}

/** A size: `71 KiB`, `3.1 MiB`. */
export function bytes(count) {
  if (count < 1024) return `${count} B`;
  const power = Math.min(4, Math.floor(Math.log2(count) / 10));
  const size = count / 1024 ** power;
  const shown = size < 10 && power > 1 ? size.toFixed(1).replace(".0", "") : Math.round(size);
  return `${shown} ${["B", "KiB", "MiB", "GiB", "TiB"][power]}`;
}

/** A number with a thin blank between thousands: `10 000`. */
export const thousands = (count) => String(count).replace(/\B(?=(\d{3})+$)/g, THIN);

/** `1 job`, `2 jobs`. */
export const counted = (count, one, many = one + "s") =>
  `${thousands(count)} ${count === 1 ? one : many}`;

const two = (n) => String(n).padStart(2, "0");

/** A Unix time in ms: `03:44:02` today, `22 Nov 03:43` this year, else `22 Nov 2025`. */
export function clock(at_ms) {
  if (at_ms == null) return "-";
  const at = new Date(at_ms), today = new Date(now());
  const hours = `${two(at.getHours())}:${two(at.getMinutes())}`;
  if (at.toDateString() === today.toDateString()) return `${hours}:${two(at.getSeconds())}`;
  const day = `${at.getDate()} ${MONTHS[at.getMonth()]}`;
  return at.getFullYear() === today.getFullYear() ? `${day} ${hours}` : `${day} ${at.getFullYear()}`;
}

/** The same in full: `2026-11-22 03:43:10 +01:00`. */
export function exactly(at_ms) {
  const at = new Date(at_ms), zone = -at.getTimezoneOffset(), east = Math.abs(zone);
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ` +
    `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())} ` +
    `${zone < 0 ? "-" : "+"}${two(Math.floor(east / 60))}:${two(east % 60)}`;
}

/** The short form of a ULID: six characters of its random part. */
export const shortId = (id) => (id.length === 26 ? id.slice(10, 16) : id);

/** A long id with its middle left out: `01M80N..3FVHD`. */
export const middleId = (id) => (id.length > 14 ? `${id.slice(0, 6)}..${id.slice(-5)}` : id);

/** The first 16 hex digits of a fingerprint, in fours; all of them where `whole`. */
export const fingerprint = (hex, whole = false) =>
  ((whole ? hex : hex.slice(0, 16)).match(/.{1,4}/g) ?? ["-"]).join(" ");

/** Labels as text: `site=prague rack=2 lab`. */
export const labelText = (labels) =>
  Object.entries(labels).map(([key, value]) => (value ? `${key}=${value}` : key)).join(" ");

const HIDDEN = /[\p{Cc}\p{Cf}\p{Co}\p{Cn}\u2028\u2029]|(?! )\p{Zs}/gu;

const escaped = (text) =>
  [...text].map((each) => [...Array(each.length).keys()]
    .map((at) => "\\u" + each.charCodeAt(at).toString(16).padStart(4, "0")).join("")).join("");

/** Text from outside with all that does not print, and what turns the reading direction, spelled
 * out as `\u202e`. */
export const visible = (text) => String(text).replace(HIDDEN, escaped);

const DOT = "\u25cf", HALF = "\u25d0", RING = "\u25cb", TICK = "\u2713", CROSS = "\u2715";
const STATES = {
  online: [DOT, "ok"], stale: [HALF, "warn"], offline: [RING, "dim"],
  trusted: [TICK, "ok"], revoked: [CROSS, "bad"], removed: [RING, "dim"], unknown: ["?", "unknown"],
  queued: [HALF, "warn"], dispatched: [HALF, "warn", "running"],
  awaiting_local_mediation: [HALF, "warn", "waiting for a person at the device"],
  succeeded: [TICK, "ok"], failed: [CROSS, "bad"], timed_out: [CROSS, "bad", "timed out"],
  rejected: [CROSS, "bad"], cancelled: [RING, "dim"], expired: [RING, "dim"],
  outcome_unknown: ["?", "unknown", "outcome unknown"],
  effect_possible: ["?", "unknown", "effect possible"], cancel_asked: [HALF, "warn", "cancel asked"],
  asked: [HALF, "warn"], pending: [HALF, "warn"], pending_approval: [HALF, "warn", "waiting for approval"],
  approved: [TICK, "ok"], completed: [TICK, "ok"], consumed: [TICK, "ok", "used"],
  active: [TICK, "ok"], burnt: [CROSS, "bad"], ok: [TICK, "ok"], done: [TICK, "ok"],
  granted: [TICK, "ok"], warn: [HALF, "warn"], FAIL: [CROSS, "bad"], denied: [CROSS, "bad"],
  refused: [CROSS, "bad"],
};

/**
 * A state as the page says it.
 * @param {string} state as the API spells it
 * @param {string} [waitingFor] of a queued job
 * @returns {{word: string, mark: string, tone: "ok"|"warn"|"bad"|"unknown"|"dim"}}
 */
export function stateWord(state, waitingFor = "") {
  if (state === "queued" && waitingFor === "approval") return stateWord("pending_approval");
  const [mark, tone, word] = STATES[state] ?? ["", "dim"];
  return { word: word ?? state.replaceAll("_", " "), mark, tone };
}

/** States in which a job has ended. */
export const FINAL = new Set(
  ["succeeded", "failed", "timed_out", "rejected", "cancelled", "expired", "outcome_unknown"]);
