/** One device: what it is, its certificate, what it can do, and what happened to it. */
import { get, part, post } from "../api.js";
import {
  ago, badge, bar, button, copier, fact, field, h, link, problem, replace, say, state, when,
} from "../dom.js";
import { confirm } from "../dialogs.js";
import { pager, table } from "../table.js";
import { tabs } from "../tabs.js";
import {
  clock, counted, duration, fingerprint, labelText, middleId, now, shortId, span, visible,
} from "../words.js";

const WAITING = 100;
const SKEW = {
  older: "older than the gateway", newer: "newer than the gateway",
  too_old: "more than one minor version older", too_new: "more than one minor version newer",
};

export const title = () => "Devices";

export async function render(main, params, app) {
  let { node } = await get(`nodes/${part(params.id)}`);
  const path = `devices/${node.device_id}`;
  const name = () => visible(node.name);
  const admin = app.may("administer");
  const head = h("div", { class: "head" }), facts = h("dl", { class: "facts" });
  const gone = h("div");
  let drawn = "";

  // -- the head -----------------------------------------------------------------------------------

  const heading = h("h1", { "data-id": node.device_id });
  const states = h("span", { class: "row-of" });
  const run = h("a", { class: "button main", href: `/run?device=${node.device_id}`, "data-key": "run" }, "Run");
  const menu = h("details", { class: "menu" });
  const actions = h("div", { class: "row-of right bottom" }, app.may("submit") && run, admin && menu);

  function item(text, act, kind = "") {
    return button(text, () => {
      menu.open = false;
      menu.querySelector("summary").focus();
      act();
    }, { class: kind });
  }

  function draw() {
    const text = JSON.stringify(node);
    if (text === drawn) return;
    drawn = text;
    const paired = node.trust === "trusted";
    replace(heading, name());
    app.title(`${name()} - Devices`);
    replace(states, state(node.presence), state(node.trust));
    run.hidden = !paired;
    if (!menu.open) {
      replace(menu, h("summary", null, "Actions"), h("div", null,
        paired && item("Ask for a new certificate", rotate),
        item("Edit name and labels", edit),
        paired && item("Revoke", revoke, "bad"),
        item("Remove", remove, "bad")));
    }
    if (!facts.contains(document.activeElement)) replace(facts, ...shown());
  }

  const shown = () => [
    fact("id", h("span", { class: "id", title: node.device_id }, middleId(node.device_id)), " ",
      copier(node.device_id)),
    fact("heard", ago(node.last_heard_unix_ms), node.transport && `, ${node.transport}`,
      node.address && ` from ${visible(node.address)}`),
    fact("platform", visible([node.platform || "-", node.version && `node ${node.version}`].filter(Boolean).join(", ")),
      node.version_skew && [" ", badge(SKEW[node.version_skew], "!!", "warn")]),
    fact("paired", when(node.paired_at_unix_ms), node.approved_by && `, approved by ${visible(node.approved_by)}`),
    whole(fact("certificate", certificate())),
    whole(fact("identity", h("span", { class: "id" }, fingerprint(node.identity_fingerprint, true)))),
    whole(fact("labels", labels())),
    Math.abs(node.clock_ahead_ms ?? 0) > 60000 && fact("clock",
      badge(`${span(Math.abs(node.clock_ahead_ms))} ${node.clock_ahead_ms > 0 ? "ahead" : "behind"}`, "!!", "warn")),
  ].filter(Boolean);

  const whole = (element) => {
    element.classList.add("whole");
    return element;
  };

  /** Renewal begins with a third of its life left, so three times that third is the whole. */
  function certificate() {
    const until = node.certificate_expires_unix_ms, renews = node.certificate_renews_unix_ms;
    if (!until) return "none";
    const left = until - now(), life = renews ? (until - renews) * 3 : left;
    const text = left <= 0 ? `expired ${clock(until)}`
      : `${span(left)} left` + (renews == null ? "" : renews > now() ? `, renews in ${span(renews - now())}` : ", renews now");
    const tone = left <= 0 ? "bad" : renews && left < (until - renews) / 2 ? "warn" : "ok";
    return h("div", { class: "row-of" },
      h("span", { class: "life" }, bar(life > 0 ? left / life : 0, `Certificate: ${text}`, tone)),
      h("span", null, text),
      node.rotate_asked_unix_ms && h("span", { class: "warn" }, "new one asked for ",
        ago(node.rotate_asked_unix_ms), node.rotate_asked_by && ` by ${visible(node.rotate_asked_by)}`));
  }

  function labels() {
    const chips = Object.entries(node.labels).map(([key, value]) => {
      const text = visible(labelText({ [key]: value }));
      return h("span", { class: "chip" }, text, admin && button("\u00d7", () => change({ unlabel: [key] },
        `Label ${text} taken from ${name()}.`), { "aria-label": `Remove label ${text}` }));
    });
    return h("div", { class: "row-of" }, chips.length ? chips : "-",
      admin && button("+", edit, { class: "small", "aria-label": "Add a label" }));
  }

  // -- actions ------------------------------------------------------------------------------------

  async function change(body, said) {
    node = (await post(`${path}/labels`, body)).node;
    document.activeElement?.blur?.();
    draw();
    say(said);
  }

  async function edit() {
    const its = h("input", { type: "text", value: node.name, maxlength: "40", autocomplete: "off" });
    const area = h("textarea", { value: labelText(node.labels).replaceAll(" ", "\n"), spellcheck: "false" });
    const changed = () => {
      const wanted = Object.fromEntries(area.value.split(/\s+/).filter(Boolean).map((each) => {
        const [key, ...rest] = each.split("=");
        return [key, rest.join("=")];
      }));
      const unlabel = Object.keys(node.labels).filter((key) => !(key in wanted));
      return { name: its.value === node.name ? null : its.value, labels: wanted, unlabel };
    };
    await confirm({
      title: `Name and labels of ${name()}`, action: "Save",
      effect: "Rules and expressions may use them: which devices a call or a rule is for can change.",
      extra: [field("Name", its), field("Labels", area, "One a line: key=value, or a word.")],
      run: () => change(changed(), "Saved."),
    });
  }

  async function rotate() {
    const now_ = node.presence === "offline"
      ? `${name()} is offline and is told when it comes back.`
      : `${name()} is told now; its session goes on.`;
    const done = await confirm({
      title: `Ask ${name()} for a new certificate?`, action: "Ask", reason: "Told to the device.",
      effect: `${now_} Its present certificate stays good until the new one is used.`,
      run: (reason) => post(`${path}/rotate`, { reason }),
    });
    if (!done) return;
    [node] = done.result.nodes;
    draw();
    say(`${name()} was asked for a new certificate.`);
  }

  /** What would be lost: jobs that wait, counted up to a bound. */
  async function lost() {
    const { jobs, page } = await get("jobs", { device: node.device_id, state: "queued", limit: WAITING });
    const more = page.has_more ? "more than " : "";
    return jobs.length ? `, fails ${more}${counted(jobs.length, "queued job")}` : "";
  }

  async function revoke() {
    const done = await confirm({
      title: `Revoke ${name()} ${shortId(node.device_id)}?`, action: "Revoke", reason: true, danger: true,
      effect: `Ends ${name()}'s session within a second${await lost()}. It must pair again.`,
      run: (reason) => post(`${path}/revoke`, { reason }),
    });
    if (!done) return;
    say(`${name()} is revoked; ${counted(done.result.certificates, "certificate")} ended.`);
    load();
  }

  async function remove() {
    const revoked = node.trust === "trusted"
      ? `Revokes ${name()} first: ends its session within a second${await lost()}. ` : "";
    const done = await confirm({
      title: `Remove ${name()} ${shortId(node.device_id)}?`, action: "Remove", reason: true, danger: true,
      typed: node.name,
      effect: `${revoked}Forgets ${name()}, its labels and its pairing history. Jobs and the audit log stay.`,
      run: (reason) => post(`${path}/remove`, { reason }),
    });
    if (!done) return;
    await app.go("/devices");
    say(`${name()} is removed.`);
  }

  // -- the tabs -----------------------------------------------------------------------------------

  let jobsOpen = false;
  const newJobs = new Set();
  const watched = () => app.show({ devices: [node.device_id], topics: jobsOpen ? ["jobs"] : [] });

  /** A job of this device has changed: in its row, or it is counted as new. */
  function changed(job) {
    if (!jobsOpen || job.device_id !== node.device_id || jobs.rows.update(job)) return;
    newJobs.add(job.job_id);
    if (jobs.rows.rows().length) jobs.rows.news(newJobs.size, () => jobs.load());
    else jobs.load();
  }

  const capabilities = table({
    caption: "Capabilities", key: (each) => each.name, empty: "It announced nothing.",
    columns: [
      { title: "Capability", cell: (each) => visible(each.name), by: (each) => each.name, phone: "name" },
      { title: "Version", cell: (each) => visible(each.version || "-"), phone: "fact" },
      { title: "Risk", cell: (each) => visible(each.risk || "-"), by: (each) => RISKS.indexOf(each.risk), phone: "fact" },
      { title: "State", cell: capabilityState, by: (each) => capabilityState(each).textContent, phone: "state" },
      { title: "Actions", cell: capabilityActions, phone: "fact" },
    ],
  });
  const RISKS = ["low", "medium", "high"];

  function capabilityState(each) {
    if (each.fault) return badge(`failed: ${visible(each.fault)}`, "!!", "bad");
    if (!each.available) return badge("switched off on the device", "\u25cb", "dim");
    if (each.changed) return badge("changed since it was granted", "!!", "warn");
    if (!each.granted) return badge("not granted", "\u25d0", "warn");
    return badge(each.needs_mediation ? "granted, asks on device" : "granted", "\u2713", "ok");
  }

  function capabilityActions(each) {
    if (node.trust !== "trusted") return "";
    const usable = each.granted && each.available && !each.fault && app.may("submit");
    const label = (word) => ({ class: "small", "aria-label": `${word} ${visible(each.name)}` });
    return h("span", { class: "row-of" },
      usable && h("a", {
        href: `/run?device=${node.device_id}&capability=${part(each.name)}`,
        ...label("Run"), class: "button small",
      }, "Run"),
      admin && (each.granted
        ? button("Withhold", () => grant({ withhold: [each.name] }), label("Withhold"))
        : button("Grant", () => grant(asShown(each)), label("Grant"))));
  }

  /** To grant what is shown here, and not what the device calls so by then. */
  const asShown = ({ name, contract }) => ({ grant: [name], contracts: { [name]: contract } });

  async function grant(body) {
    node = (await post(`${path}/grants`, body)).node;
    capabilities.refresh(node.capabilities);
    draw();
    say(body.grant ? `${body.grant[0]} is granted to ${name()}.` : `${body.withhold[0]} is withheld from ${name()}.`);
  }

  const jobs = listed(`jobs`, {
    caption: "Jobs", empty: "No jobs yet.", key: (job) => job.job_id, href: (job) => `/jobs/${job.job_id}`,
    columns: [
      { title: "Job", cell: (job) => h("span", { class: "id" }, shortId(job.job_id)), phone: "name" },
      { title: "Capability", cell: (job) => visible(job.capability), by: (job) => job.capability, phone: "fact" },
      { title: "State", cell: (job) => state(job.state, job.waiting_for), by: (job) => job.state, phone: "state" },
      { title: "When", cell: (job) => ago(job.submitted_at_unix_ms), by: (job) => -job.submitted_at_unix_ms, phone: "fact" },
      { title: "Took", cell: (job) => duration(job.took_ms), by: (job) => job.took_ms ?? 0, number: true },
      { title: "By", cell: (job) => visible(job.requested_by), only: "wide" },
      { title: "Note", cell: (job) => visible(job.note || "-"), only: "wide" },
    ],
  }, (answer) => {
    newJobs.clear();
    return answer.jobs;
  }, { device: node.device_id });

  const pairing = listed(`${path}/pairing`, {
    caption: "Pairing history", empty: "No pairing request of it is kept.", key: (each) => each.request_id,
    columns: [
      { title: "When", cell: (each) => when(each.created_at_unix_ms), by: (each) => each.created_at_unix_ms, phone: "name" },
      { title: "State", cell: (each) => state(each.state), phone: "state" },
      { title: "Code", cell: (each) => `${each.method === "pin" ? "PIN" : each.method === "qr" ? "QR" : each.method || "-"}` +
          (each.issued_by ? ` by ${visible(each.issued_by)}` : ""), phone: "fact" },
      { title: "From", cell: (each) => visible(each.source || "-"), phone: "fact" },
      { title: "Identity", cell: (each) => h("span", { class: "id" }, fingerprint(each.identity_fingerprint)), only: "wide" },
      { title: "Decided by", cell: (each) => visible(each.decided_by || "-") },
      { title: "Reason", cell: (each) => visible(each.reason || "-"), only: "wide" },
    ],
  }, (answer) => answer.requests);

  const events = listed(`${path}/journal`, {
    caption: "Events", empty: "Nothing has happened yet.", key: (each) => String(each.seq),
    columns: [
      { title: "Time", cell: (each) => when(each.at_unix_ms), phone: "state" },
      { title: "What", cell: (each) => each.kind.replace(/[._]/g, " "), by: (each) => each.kind, phone: "name" },
      { title: "Details", cell: (each) => h("span", { class: "mono" }, details(each.details)), phone: "fact" },
    ],
  }, (answer) => answer.events);

  const panels = tabs({
    capabilities: ["Capabilities", () => {
      capabilities.set(node.capabilities);
      return capabilities.element;
    }],
    jobs: ["Jobs", jobs.open], pairing: ["Pairing history", pairing.open], events: ["Events", events.open],
  }, params.query.get("tab"), (which) => {
    jobsOpen = which === "jobs";
    watched();
    const query = which === "capabilities" ? "" : `?tab=${which}`;
    history.replaceState(null, "", `/devices/${node.device_id}${query}`);
  });

  async function load() {
    node = (await get(`nodes/${node.device_id}`)).node;
    draw();
    capabilities.refresh(node.capabilities);
    refresh();
  }

  /** What the open tab lists may have grown. */
  function refresh() {
    ({ jobs, pairing, events })[panels.at()]?.again();
  }

  replace(head, heading, states, actions);
  replace(main, link("/devices", "\u2039 Devices"), head, gone, facts, panels.element);
  draw();
  watched();

  return {
    onLive(event) {
      if (event.kind === "job") return changed(event.job);
      if (event.kind !== "node" || event.device_id && event.device_id !== node.device_id) return undefined;
      if (event.node && event.node.device_id !== node.device_id) return undefined;
      if (!event.node) {
        actions.hidden = true;
        return replace(gone, h("p", { class: "problem" }, `${name()} was removed.`));
      }
      const had = JSON.stringify(node.capabilities);
      node = event.node;
      draw();
      if (JSON.stringify(node.capabilities) !== had) capabilities.refresh(node.capabilities);
      return refresh();
    },
    gap: () => load().catch((error) => replace(gone, problem(error))),
  };
}

/** What an event says besides: times, fingerprints and ids as people read them. */
const details = (its) => Object.entries(its).map(([key, value]) =>
  key.endsWith("_unix_ms") ? `${key.slice(0, -8)}=${clock(value)}`
    : /^[0-9a-f]{64}$/.test(value) ? `${key}=${fingerprint(value).replaceAll(" ", "")}`
      : `${key}=${visible(shortId(String(value)))}`).join("  ") || "-";

/** A list of its own with its pages: `open` gives its element, filled; `load` fetches its page, `again`
 * does and moves nothing under the pointer. */
function listed(path, its, take, params = {}) {
  const rows = table(its), refused = h("div");
  const pages = pager(load);
  let last = null, busy = null;

  async function load(cursor = pages.at, put = rows.set) {
    if (busy && put !== rows.set) return;
    const mine = busy = {};
    try {
      const answer = await get(path, { ...params, cursor, limit: 20 });
      if (mine !== busy) return;
      replace(refused);
      if (answer !== last || put === rows.set) {
        last = answer;
        put(take(answer));
        pages.show(answer.page);
      }
    } catch (error) {
      replace(refused, problem(error));
    }
    if (mine === busy) busy = null;
  }

  return {
    rows, load,
    again: () => load(pages.at, rows.refresh),
    open() {
      load();
      return [refused, rows.element, pages.element];
    },
  };
}
