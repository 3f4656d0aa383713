/** One job, or one fan-out, as it goes. */
import { get, part, post } from "../api.js";
import { copied, whole } from "../cards.js";
import { confirm } from "../dialogs.js";
import {
  ago, badge, bar, button, copier, fact, h, left, link, problem, replace, running, say, state, when,
} from "../dom.js";
import { pretty } from "../json.js";
import { follow } from "../live.js";
import { flash, pager, table } from "../table.js";
import {
  FINAL, bytes, counted, duration, shortId, stateWord, thousands, visible,
} from "../words.js";
import { COLUMNS, jobState } from "./jobs.js";

const NOT_BEGUN = new Set(["queued", "awaiting_local_mediation"]);

const isFanout = ({ kind }) => kind === "fanouts";

export const title = (params) =>
  `${isFanout(params) ? "Fan-out" : "Job"} ${shortId(params.id)} - Jobs`;

export const render = (main, params, app) =>
  (isFanout(params) ? renderFanout : renderJob)(main, params.id, app);

const mayCancel = (app, by) =>
  app.may("administer") || (app.may("submit") && by === app.caller?.name);

// -- one job ----------------------------------------------------------------------------------

async function renderJob(main, id, app) {
  const path = `jobs/${part(id)}`;
  const head = h("div"), output = h("div", { class: "view" }), refused = h("div");
  const about = h("dl", { class: "facts" });
  const progress = meter();
  let answer = null, shown = "", state = "";

  async function load() {
    answer = await get(path);
    show();
    showOutput();
  }
  function show() {
    const { job } = answer;
    progress.set(answer.progress, progressText(answer));
    const text = JSON.stringify(job);
    if (text === shown) return;
    const its = h("span", null, jobState(job));
    replace(head, headOf(job, its, progress.element, mayCancel(app, job.requested_by) && cancel, app));
    replace(about, factsOf(job));
    if (state && state !== its.textContent) flash(its);
    [shown, state] = [text, its.textContent];
  }
  function showOutput() {
    replace(output, ended(answer), answer.notes.length > 0 && notes(answer.notes),
      whole("Input", answer.input_json, answer.job.job_id, "h2"));
  }
  async function cancel() {
    replace(refused);
    try {
      answer = await post(`${path}/cancel`);
      say(FINAL.has(answer.job.state) ? "Cancelled." : "Cancel asked.");
      show();
      showOutput();
    } catch (error) {
      replace(refused, problem(error));
    }
  }
  function heard({ kind, job, progress, progress_text }) {
    if (kind !== "job") return;
    const over = FINAL.has(job.state) && !FINAL.has(answer.job.state);
    answer = { ...answer, job, progress, progress_text };
    show();
    if (over) load();
  }

  await load();
  replace(main, h("h1", null, `Job ${shortId(answer.job.job_id)}`), head, refused, about, output);
  app.show({ jobs: [answer.job.job_id] });
  const stop = FINAL.has(answer.job.state) ? () => {}
    : follow(`${path}/events`, heard, (error) => replace(refused, problem(error)));
  return { gap: load, leave: stop };
}

function headOf(job, its, progress, cancel, app) {
  const over = FINAL.has(job.state);
  const again = `/run?device=${part(job.device_id)}&capability=${part(job.capability)}`;
  return h("section", { class: "card" },
    h("div", { class: "head" },
      h("span", null, h("b", { class: "mono" }, visible(job.capability)), " on ",
        link(`/devices/${part(job.device_id)}`, visible(job.device_name) || shortId(job.device_id))),
      its, h("span", { class: "dim" }, over ? duration(job.took_ms) : running(job.submitted_at_unix_ms)),
      h("span", { class: "tools right" },
        !over && cancel && !job.cancel_requested_unix_ms && button("Cancel", cancel),
        over && app.may("submit") && h("a", { class: "button", href: again }, "Run again"))),
    !over && !NOT_BEGUN.has(job.state) && progress, waiting(job), phases(job));
}

const progressText = ({ progress: share, progress_text: text }) =>
  [share != null && `${Math.round(share * 100)}%`, text && visible(text)].filter(Boolean).join(", ")
  || "It does not say how far it is.";

/** A bar and its text, which change in place. */
function meter() {
  const text = h("span", { class: "dim" }), place = h("div", { class: "progress" });
  let known = null;
  return { element: place, set(share, words) {
    replace(text, words);
    if (known !== (share != null) || !place.firstChild) {
      known = share != null;
      return replace(place, bar(share, words), text);
    }
    const its = place.firstChild, percent = `${Math.round((share ?? 0) * 100)}`;
    its.setAttribute("aria-label", words);
    if (known) {
      its.setAttribute("aria-valuenow", percent);
      its.firstChild.style.setProperty("width", `${percent}%`);
    }
    return place;
  } };
}

function waiting(job) {
  if (FINAL.has(job.state)) return null;
  if (job.waiting_for === "approval") {
    return h("p", { class: "warn" }, "!! An operator must approve this: ",
      link(job.approval_id ? `/approvals/${part(job.approval_id)}` : "/approvals", "see what is asked"), ".");
  }
  if (job.state === "awaiting_local_mediation") {
    return h("p", { class: "warn" }, `!! A person at ${visible(job.device_name)} must allow this.`);
  }
  if (job.state !== "queued") return null;
  const until = job.retry_at_unix_ms ?? job.queue_expires_unix_ms;
  return until && h("p", { class: "dim" }, job.retry_at_unix_ms ? "Tried again in " : "Waits for its device, ",
    left(until), job.retry_at_unix_ms ? "" : " left");
}

/** `queued 03:44:02 > sent 03:44:02 > succeeded 03:44:08`; when it was sent is known at its end. */
function phases(job) {
  const sent = job.took_ms == null ? null : job.finished_at_unix_ms - job.took_ms;
  const steps = [["queued", job.submitted_at_unix_ms], sent && ["sent", sent],
    job.cancel_requested_unix_ms && ["cancel asked", job.cancel_requested_unix_ms],
    job.finished_at_unix_ms ? [stateWord(job.state).word, job.finished_at_unix_ms]
      : job.state !== "queued" && [stateWord(job.state).word]];
  return h("ol", { class: "phases" }, steps.filter(Boolean)
    .map(([word, at]) => h("li", null, word, " ", at && when(at))));
}

const CHOICES = {
  once: "allowed once", session: "allowed for this session", always: "always allowed",
  rule: "allowed", no: "refused",
};

/** What was said at the device, by whom and when; its words are the device's. */
function mediationOf(said) {
  if (!said) return null;
  if (!said.choice) return fact("at the device", "asked ", when(said.asked_at_unix_ms));
  return fact("at the device", CHOICES[said.choice] ?? visible(said.choice),
    said.decided_by && ` by ${visible(said.decided_by)}`,
    said.decided_at_unix_ms && " ", said.decided_at_unix_ms && when(said.decided_at_unix_ms));
}

const factsOf = (job) => [
  fact("asked", ago(job.submitted_at_unix_ms), ` by ${visible(job.requested_by)}`),
  fact("attempts", thousands(job.attempts)),
  fact("job", h("span", { class: "mono" }, job.job_id)),
  job.fanout_id && fact("fan-out", link(`/fanouts/${part(job.fanout_id)}`, shortId(job.fanout_id))),
  job.cancelled_by && fact("cancel by", visible(job.cancelled_by),
    job.cancel_reason && `: ${visible(job.cancel_reason)}`),
  mediationOf(job.mediation),
];

function ended({ job, error, output_json: value }) {
  if (!FINAL.has(job.state)) return null;
  if (value == null) {
    return h("section", null, h("h2", null, "Result"),
      h("p", { class: job.state === "cancelled" ? "" : "bad" },
        visible(error || job.note) || stateWord(job.state).word),
      job.effect_possible && h("p", { class: "unknown" },
        `? It may have taken effect; check ${visible(job.device_name)} before repeating.`));
  }
  const { text } = pretty(value);
  return h("section", null,
    h("div", { class: "head" }, h("h2", null, "Output"),
      h("span", { class: "dim" }, bytes(new Blob([text]).size)),
      h("span", { class: "tools right" }, copier(text), button("Save", () => save(text, job), { class: "small" }))),
    whole("", value, job.job_id));
}

function save(text, job) {
  const href = URL.createObjectURL(new Blob([text + "\n"], { type: "application/json" }));
  const anchor = h("a", { href, download: `${job.capability}-${shortId(job.job_id)}.json` });
  document.body.append(anchor);
  anchor.click();
  anchor.remove();
  setTimeout(() => URL.revokeObjectURL(href), 10000);
}

/** What the node said after the job had ended: it changed nothing. */
const notes = (all) => h("section", null, h("h2", null, "Reported too late"),
  all.map((each) => h("p", null, state(each.outcome), ` after ${duration(each.took_ms)}`,
    !each.stopped && badge("may still run", "?", "unknown"),
    h("br"), visible(each.error || each.note))));

// -- a fan-out --------------------------------------------------------------------------------

async function renderFanout(main, id, app) {
  const path = `fanouts/${part(id)}`;
  const refused = h("div"), head = fanoutHead(cancel);
  const rows = table({
    caption: "Jobs of this fan-out", key: (each) => each.job_id, empty: "No rows.",
    href: (each) => `/jobs/${each.job_id}`,
    columns: COLUMNS.filter(({ title: its }) => ["Device", "State", "Took", "Note"].includes(its))
      .map((each) => (each.title === "Note" ? { ...each, title: "Output", phone: "fact" } : each)),
  });
  const pages = pager(load);

  async function load(cursor = pages.at) {
    const answer = await get(path, { cursor });
    rows.set(worstFirst(answer.rows));
    pages.show(answer.page, answer.fanout.targets);
    show(answer.fanout);
  }
  const show = (fanout) => head.set(fanout, !fanout.finished && mayCancel(app, fanout.requested_by));
  async function cancel() {
    const done = await confirm({
      title: "Cancel what has not ended?", action: "Cancel the jobs", reason: true, danger: true,
      effect: "Jobs that wait are cancelled; those that run are asked to stop.",
      run: (reason) => post(`${path}/cancel`, { reason }),
    });
    if (done) show(done.result.fanout);
  }
  function heard({ kind, job, fanout }) {
    if (kind === "job") rows.update(job);
    if (kind === "fanout") show(fanout);
    if (kind === "end") load();
  }

  replace(main, h("h1", null, `Fan-out ${shortId(id)}`), head.element, refused, rows.element, pages.element);
  await load();
  app.show({});
  return { gap: load, leave: follow(`${path}/events`, heard, (error) => replace(refused, problem(error))) };
}

/** What did not succeed stands first. */
const worstFirst = (rows) => [...rows].sort((a, b) => (a.state === "succeeded") - (b.state === "succeeded"));

function fanoutHead(cancel) {
  const title = h("div", { class: "head" }), counts = h("p", { class: "tools counts" });
  const progress = meter(), about = h("div"), stop = button("Cancel all", cancel, { class: "right" });
  function set(fanout, mayStop) {
    const of = Object.entries(fanout.counts);
    const ended = of.reduce((sum, [its, count]) => sum + (FINAL.has(its) ? count : 0), 0);
    stop.hidden = !mayStop;
    if (!title.firstChild) {
      replace(title, h("b", { class: "mono" }, visible(fanout.capability)),
        h("span", null, `on ${counted(fanout.targets, "device")}`), stop);
      replace(about, fanout.expression && h("p", null, "where ", copied(fanout.expression)), how(fanout));
    }
    progress.set(fanout.targets ? ended / fanout.targets : 1, `${thousands(ended)} of ${thousands(fanout.targets)}`);
    replace(counts, of.map(([its, count]) => h("span", null, `${thousands(count)} `, state(its))),
      fanout.stopped && badge("stopped after failures", "\u2715", "bad"));
  }
  return { set, element: h("section", { class: "card" }, title, progress.element, counts, about) };
}

const how = ({ submitted_at_unix_ms: at, requested_by: by, batch, max_failures: most }) =>
  h("p", { class: "dim" }, ago(at), ` by ${visible(by)}`, batch && `, ${thousands(batch)} at a time`,
    most != null && `, stops after ${counted(most, "failure")}`);
