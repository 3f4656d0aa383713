/** Jobs: what was asked of devices, newest first. */
import { get } from "../api.js";
import { ago, h, link, replace, state } from "../dom.js";
import { pager, table } from "../table.js";
import { FINAL, duration, shortId, visible } from "../words.js";

const UNFINISHED = ["queued", "dispatched", "awaiting_local_mediation"];
const TROUBLE = ["failed", "timed_out", "rejected", "outcome_unknown"];
const CHOICES = [["All states", []], ["Not ended", UNFINISHED], ["Trouble", TROUBLE],
  ...[...UNFINISHED, "succeeded", ...TROUBLE, "cancelled", "expired"].map((each) =>
    [state(each).textContent.trim().replace(/^\S /, ""), [each]])];
const FILTERS = { device: "Device", capability: "Capability", by: "Asked by" };

/** A job's state, with what else a person must know of it. */
export function jobState(job) {
  if (FINAL.has(job.state)) {
    const more = job.effect_possible && job.state !== "outcome_unknown";
    return [state(job.state), more && [" ", state("effect_possible")]];
  }
  if (job.cancel_requested_unix_ms) return state("cancel_asked");
  return state(job.state, job.waiting_for);
}

/** A summary, an error or a reason. */
const noteOf = (job) =>
  h("span", { class: "note" }, visible(job.note || job.cancel_reason) || "-");

export const COLUMNS = [
  { title: "Job", phone: "fact", cell: (each) => h("span", { class: "mono" }, shortId(each.job_id)) },
  { title: "Device", phone: "name", cell: (each) => visible(each.device_name) || shortId(each.device_id) },
  { title: "Capability", phone: "fact", cell: (each) => visible(each.capability) },
  { title: "State", phone: "state", cell: jobState },
  { title: "When", phone: "fact",
    cell: (each) => h("span", { class: "nowrap" }, ago(each.submitted_at_unix_ms)) },
  { title: "Took", number: true, cell: (each) => duration(each.took_ms), by: (each) => each.took_ms ?? -1 },
  { title: "By", only: "wide", cell: (each) => visible(each.requested_by) },
  { title: "Note", only: "wide", cell: noteOf },
];

export const title = () => "Jobs";

export async function render(main, { query }, app) {
  const rows = table({
    caption: "Jobs", columns: COLUMNS, key: (each) => each.job_id,
    href: (each) => `/jobs/${each.job_id}`, empty: h("p", null),
  });
  const pages = pager(load);
  const filter = filters(query, () => {
    history.replaceState(null, "", `/jobs${search(filter.chosen())}`);
    pages.reset();
    return load();
  });
  const fresh = new Set();

  async function load(cursor = pages.at) {
    const chosen = filter.chosen();
    const answer = await get("jobs", { ...chosen, cursor });
    fresh.clear();
    rows.set(answer.jobs);
    if (!answer.jobs.length) emptied(rows.element.querySelector(".empty"), chosen);
    pages.show(answer.page);
    app.show(cursor ? { jobs: answer.jobs.map((each) => each.job_id) } : { topics: ["jobs"] });
  }

  function emptied(place, chosen) {
    const some = Object.values(chosen).some((each) => each.length);
    replace(place, h("p", null, some ? "Nothing matches." : "No jobs yet."),
      some ? link("/jobs", "Clear search") : app.may("submit") && link("/run", "Run a capability"));
  }

  function onLive({ kind, job }) {
    if (kind !== "job" || rows.update(job) || pages.at) return;
    if (FINAL.has(job.state) && !fresh.has(job.job_id)) return;
    const newest = rows.rows()[0];
    if (newest && job.job_id < newest.job_id) return;
    if (filter.matches(job)) fresh.add(job.job_id);
    rows.news(fresh.size, () => load());
  }

  replace(main,
    h("div", { class: "head" }, h("h1", null, "Jobs"),
      app.may("submit") && h("a", { class: "button main right", href: "/run" }, "Run a capability")),
    filter.element, rows.element, pages.element);
  await load();
  return { onLive, gap: load };
}

function search(chosen) {
  const text = new URLSearchParams(Object.entries(chosen).flatMap(([name, its]) =>
    [its].flat().filter(Boolean).map((each) => [name, each]))).toString();
  return text && `?${text}`;
}

function filters(query, changed) {
  const states = query.getAll("state").sort().join();
  const select = h("select", { "aria-label": "State", on: { change: changed } },
    CHOICES.map(([text, its], at) =>
      h("option", { value: at, selected: [...its].sort().join() === states }, text)));
  let timer = 0;
  const inputs = Object.entries(FILTERS).map(([name, text]) => h("input", {
    type: "search", name, value: query.get(name) ?? "", placeholder: text, "aria-label": text,
    autocomplete: "off", spellcheck: "false",
    on: { input() {
      clearTimeout(timer);
      timer = setTimeout(changed, 400);
    } },
  }));
  const chosen = () => ({
    state: CHOICES[select.value][1],
    ...Object.fromEntries(inputs.map((each) => [each.name, each.value.trim()])),
  });
  return {
    chosen,
    element: h("div", { class: "tools filters" }, select, inputs),
    matches(job) {
      const { state: its, device, capability, by } = chosen();
      return (!its.length || its.includes(job.state)) && (!capability || capability === job.capability)
        && (!by || by === job.requested_by)
        && (!device || device === job.device_name || job.device_id.includes(device.toUpperCase()));
    },
  };
}
