/** `/console/v1`, as the page asks it: typed refusals, the CSRF token, conditional requests. */
import { learnTime } from "./words.js";

const PREFIX = "/console/v1/";
const TOKEN = "palyra-csrf-token";
const KEPT = 24;

/** A refusal.  `message` is its sentence. */
export class Problem extends Error {
  constructor(status, body) {
    super(body.error ?? "The gateway did not answer as the console does.");
    this.status = status;
    this.code = body.code ?? "unreachable";
    this.hint = body.hint ?? "";
    this.retryable = body.retryable ?? status >= 500;
    /** @type {{field: string, problem: string, column?: number}[]} */
    this.validation_errors = body.validation_errors ?? [];
    this.retry_after_s = 0;
  }
}

export const token = () => localStorage.getItem(TOKEN);
export function setToken(value) {
  kept.clear();
  if (value) localStorage.setItem(TOKEN, value);
  else localStorage.removeItem(TOKEN);
}
/** What to hear of a token that another tab was given or has dropped. */
export const tokenChanged = (heard) =>
  addEventListener("storage", (event) => event.key === TOKEN && heard());

/** Answers with an ETag, by address: the newest few. @type {Map<string, {etag, body}>} */
const kept = new Map();

/**
 * Read.  An answer that has not changed is the very object that was given before, so that
 * `body === last` says "nothing new".
 * @param {string} path below /console/v1/
 * @param {object} [params] query; lists repeat, null and "" are left out
 * @returns {Promise<object>} the body
 * @throws {Problem}
 */
export async function get(path, params = {}, { signal } = {}) {
  const url = address(path, params), known = kept.get(url);
  const response = await ask(url, {
    signal, headers: known ? { "if-none-match": known.etag } : {},
  });
  if (response.status === 304 && known) return known.body;
  const body = await answer(response);
  const etag = response.headers.get("etag");
  kept.delete(url);
  if (etag) kept.set(url, { etag, body });
  if (kept.size > KEPT) kept.delete(kept.keys().next().value);
  return body;
}

/** Write. @returns {Promise<object>} the body. @throws {Problem} */
export async function post(path, body = {}) {
  return answer(await ask(address(path), {
    method: "POST", body: JSON.stringify(body), headers: { "content-type": "application/json" },
  }));
}

/** The response of a stream of events, its body unread. @throws {Problem} */
export async function stream(path, params, { signal, lastId }) {
  const headers = { accept: "text/event-stream" };
  if (lastId) headers["last-event-id"] = lastId;
  const response = await ask(address(path, params), { signal, headers });
  if (!response.ok) await answer(response);
  return response;
}

function address(path, params = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    for (const each of [value].flat()) if (each != null && each !== "") query.append(name, each);
  }
  const text = query.toString();
  return PREFIX + path + (text ? "?" + text : "");
}

async function ask(url, { headers, ...options }) {
  const csrf = token();
  try {
    return await fetch(url, {
      ...options, cache: "no-store", credentials: "same-origin", redirect: "error",
      headers: { ...headers, ...(csrf ? { "x-palyra-csrf-token": csrf } : {}) },
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, {
      error: "The gateway cannot be reached.", code: "gateway_unreachable",
      hint: "on the gateway: palyra doctor", retryable: true,
    });
  }
}

async function answer(response) {
  learnTime(response.headers.get("date"));
  const body = await response.json().catch(() => ({}));
  if (response.ok) return body;
  const problem = new Problem(response.status, body);
  problem.retry_after_s = Number(response.headers.get("retry-after")) || 0;
  if (response.status === 401) document.dispatchEvent(new CustomEvent("signed-out"));
  throw problem;
}

/** A path segment of an id or a name. */
export const part = encodeURIComponent;
