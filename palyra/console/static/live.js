/** What is live: one stream of events for all that the page shows, and one of a job that is open.
 *
 * Server-sent events are read by fetch(), because an EventSource cannot send the CSRF token.
 * `palyra:live` on the document says when the page is live ({live: true}) or is not any more
 * ({live: false, since}).
 */
import { stream } from "./api.js";
import { now } from "./words.js";

const DRAW_MS = 250;
const SILENCE_MS = 40000;
const HIDDEN_MS = 30000;
const LOST_MS = 3000;
const BACKOFF_MS = [500, 1000, 2000, 4000, 8000, 15000];

const watches = new Set();
let open = null, asked = "", reopening = 0, live = true, lostTimer = 0, hiddenTimer = 0;
let stopped = true, lastId = "";

/**
 * Watch what a view shows.
 * @param {{devices?: string[], jobs?: string[], topics?: string[]}} shown full ids; topics are of
 *   approvals, jobs, devices.  Counts come always.
 * @param {{event?: (event: object) => void, gap?: () => void}} handlers `event` hears FeedEvents
 *   (models/feed.py), of each thing only the newest, at most four times a second, in an animation
 *   frame.  It hears what others watch too.  `gap`: fetch again what is shown; also said once
 *   when the watch has begun, for what happened since the view was fetched.
 * @returns {{show: (shown: object) => void, stop: () => void}}
 */
export function watch(shown, handlers) {
  const one = { shown, handlers, fresh: true };
  watches.add(one);
  reopenSoon();
  return {
    show(next) {
      if (JSON.stringify(next) === JSON.stringify(one.shown)) return;
      Object.assign(one, { shown: next, fresh: true });
      reopenSoon();
    },
    stop() {
      watches.delete(one);
      reopenSoon();
    },
  };
}

/** Begin, once somebody is signed in. */
export function start() {
  stopped = false;
  reopenSoon();
}

/** End: nobody is signed in any more. */
export function stop() {
  stopped = true;
  close();
  clearTimeout(lostTimer);
}

/**
 * Follow a job or a fan-out until its end.
 * @param {string} path such as `jobs/ID/events`
 * @param {(event: object) => void} handler hears JobEvents (models/jobs.py), `end` at last
 * @param {(problem: Error) => void} [refused] there is nothing to follow
 * @returns {() => void} stops
 */
export function follow(path, handler, refused = () => {}) {
  let over = false;
  const reader = reading(path, () => ({}), {
    event(kind, data) {
      if (over) return;
      if (kind === "end") stopFollowing();
      handler(data);
    },
    refused(problem) {
      stopFollowing();
      refused(problem);
    },
  });
  const hide = () => (document.hidden ? reader.pause() : reader.resume());
  const stopFollowing = () => {
    over = true;
    reader.close();
    document.removeEventListener("palyra:hidden", hide);
  };
  document.addEventListener("palyra:hidden", hide);
  return stopFollowing;
}

// -- the page's own stream ------------------------------------------------------------------------

function union() {
  const all = { device: new Set(), job: new Set(), topic: new Set() };
  for (const { shown } of watches) {
    shown.devices?.forEach((each) => all.device.add(each));
    shown.jobs?.forEach((each) => all.job.add(each));
    shown.topics?.forEach((each) => all.topic.add(each));
  }
  return Object.fromEntries(Object.entries(all).map(([name, its]) => [name, [...its].sort()]));
}

function reopenSoon() {
  clearTimeout(reopening);
  reopening = setTimeout(reopen, 50);
}

function reopen() {
  if (stopped || pausedByHiding) return;
  const wanted = JSON.stringify(union());
  if (open && wanted === asked) return began();
  close();
  asked = wanted;
  open = reading("events", () => ({ params: JSON.parse(asked), lastId }), {
    opened: () => { setLive(true); began(); },
    event(kind, data, id) {
      lastId = id;
      collect(kind, data);
    },
    lost: () => {
      for (const one of watches) one.fresh = true;
      clearTimeout(lostTimer);
      if (live) lostTimer = setTimeout(() => setLive(false), LOST_MS);
    },
    refused: () => setLive(false),
  });
}

function close() {
  open?.close();
  open = null;
}

/** The stream is open: who has not been told yet fetches what was missed. */
function began() {
  if (!open?.isOpen()) return;
  for (const one of [...watches]) {
    if (!one.fresh) continue;
    one.fresh = false;
    one.handlers.gap?.();
  }
}

function setLive(is) {
  clearTimeout(lostTimer);
  if (is === live) return;
  live = is;
  const detail = { live, since: now() - LOST_MS };
  document.dispatchEvent(new CustomEvent("palyra:live", { detail }));
}

// -- at most four times a second ------------------------------------------------------------------

const waiting = new Map();
let drawing = 0, drawn = 0;

function collect(kind, data) {
  const id = data.node?.device_id ?? data.job?.job_id ?? data.approval?.approval_id ?? data.device_id;
  const key = `${kind} ${id ?? ""}`;
  waiting.delete(key);
  waiting.set(key, data);
  drawing ||= setTimeout(
    () => (document.hidden ? draw() : requestAnimationFrame(draw)),
    Math.max(0, drawn + DRAW_MS - performance.now()));
}

function draw() {
  const events = [...waiting.values()];
  waiting.clear();
  drawing = 0;
  drawn = performance.now();
  for (const { handlers } of [...watches]) {
    for (const event of events) {
      if (event.kind === "gap") handlers.gap?.();
      else handlers.event?.(event);
    }
  }
}

// -- a tab that nobody sees -----------------------------------------------------------------------

let pausedByHiding = false;

document.addEventListener("visibilitychange", () => {
  clearTimeout(hiddenTimer);
  if (document.hidden) hiddenTimer = setTimeout(hide, HIDDEN_MS);
  else if (pausedByHiding) show();
});

function hide() {
  pausedByHiding = true;
  clearTimeout(lostTimer);
  close();
  document.dispatchEvent(new Event("palyra:hidden"));
}

function show() {
  pausedByHiding = false;
  for (const one of watches) one.fresh = true;
  reopen();
  document.dispatchEvent(new Event("palyra:hidden"));
}

// -- one stream, opened again when it is lost -----------------------------------------------------

/**
 * @param {() => {params?: object, lastId?: string}} query asked at each opening
 * @param {{opened?, event, lost?, refused?}} hear
 */
function reading(path, query, hear) {
  let cut = null, timer = 0, tries = 0, over = false, isOpen = false;

  async function begin() {
    const mine = cut = new AbortController();
    let wait_s = 0;
    try {
      const { params, lastId: last } = query();
      const response = await stream(path, params, { signal: mine.signal, lastId: last });
      tries = 0;
      isOpen = true;
      hear.opened?.();
      await read(response.body, mine, hear.event);
    } catch (problem) {
      if (over || mine.signal.aborted && mine !== cut) return;
      if (problem.status >= 400 && problem.status < 500 && problem.status !== 429) {
        over = true;
        return hear.refused?.(problem);
      }
      wait_s = problem.retry_after_s ?? 0;
    }
    isOpen = false;
    if (over || mine !== cut) return;
    hear.lost?.();
    const pause_ms = BACKOFF_MS[Math.min(tries++, BACKOFF_MS.length - 1)];
    timer = setTimeout(begin, Math.max(wait_s * 1000, pause_ms * (0.5 + Math.random() / 2)));
  }

  const end = () => {
    clearTimeout(timer);
    const mine = cut;
    cut = null;
    isOpen = false;
    mine?.abort();
  };
  begin();
  return {
    isOpen: () => isOpen,
    close() { over = true; end(); },
    pause: end,
    resume() { if (!over && !cut) begin(); },
  };
}

/** Read events until the stream ends, or is silent for longer than its comments allow. */
async function read(body, cut, heard) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "", silence = 0;
  const alive = () => {
    clearTimeout(silence);
    silence = setTimeout(() => cut.abort(), SILENCE_MS);
  };
  try {
    for (;;) {
      alive();
      const { value, done } = await reader.read();
      if (done) return;
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      blocks.forEach((block) => hearBlock(block, heard));
    }
  } finally {
    clearTimeout(silence);
  }
}

function hearBlock(block, heard) {
  const said = {};
  for (const line of block.split("\n")) {
    const colon = line.indexOf(": ");
    if (colon > 0) said[line.slice(0, colon)] = line.slice(colon + 2);
  }
  if (said.data) heard(said.event, JSON.parse(said.data), said.id);
}
