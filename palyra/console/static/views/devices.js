/** Devices: the inventory, searched and paged by the gateway. */
import { get } from "../api.js";
import { ago, badge, h, link, problem, replace, state } from "../dom.js";
import { pager, table } from "../table.js";
import { counted, labelText, now, shortId, span, thousands, visible } from "../words.js";

const LIMIT = 50;
const TYPING_MS = 150;
const SOON_MS = 6 * 3600000;
const EXPRESSION =
  /[~()]|!=|\s=|^\s*(not|all)\b|(^|\s)(label\.\S+|name|id|platform|version|kind|presence|transport|address)\s*=/;

export const title = () => "Devices";

/** How many capabilities can be used: `5`, or `3/4` where one cannot. */
const usable = (node) => {
  const well = node.capabilities.filter((each) => each.available && !each.fault).length;
  return well === node.capabilities.length ? `${well}` : `${well}/${node.capabilities.length}`;
};

/** How long the certificate lasts, with a mark where that is short. */
function certificate(node) {
  if (!node.certificate_expires_unix_ms) return "-";
  const left = node.certificate_expires_unix_ms - now();
  const text = left > 0 ? span(left) : "expired";
  return left < SOON_MS ? badge(text, "!!", left > 0 ? "warn" : "bad") : text;
}

const COLUMNS = [
  { title: "Name", cell: (node) => visible(node.name), by: (node) => node.name, phone: "name" },
  { title: "Presence", cell: (node) => state(node.presence), by: (node) => node.presence, phone: "state" },
  { title: "Trust", cell: (node) => state(node.trust), by: (node) => node.trust },
  { title: "Platform", cell: (node) => visible(node.platform || "-"), by: (node) => node.platform, phone: "fact" },
  { title: "Caps", cell: usable, by: (node) => node.capabilities.length, number: true },
  { title: "Jobs", cell: (node) => thousands(node.jobs_running), by: (node) => node.jobs_running, number: true },
  { title: "Heard", cell: (node) => ago(node.last_heard_unix_ms), by: (node) => -(node.last_heard_unix_ms ?? 0),
    phone: "fact" },
  { title: "Cert", cell: certificate, by: (node) => node.certificate_expires_unix_ms ?? 0, only: "wide" },
  { title: "Labels", cell: (node) => visible(labelText(node.labels) || "-"), by: (node) => labelText(node.labels),
    only: "wide" },
  { title: "Id", cell: (node) => h("span", { class: "id", title: node.device_id }, shortId(node.device_id)),
    only: "wide" },
];

const choices = (label, ...values) =>
  h("select", { "aria-label": label }, h("option", { value: "" }, `Any ${label.toLowerCase()}`),
    values.map((each) => h("option", { value: each }, each)));

export async function render(main, params, app) {
  const search = h("input", {
    type: "search", "aria-label": "Search devices", placeholder: "/  name, label or expression",
    autocomplete: "off", spellcheck: "false", value: params.query.get("q") ?? "",
  });
  const presence = choices("Presence", "online", "stale", "offline");
  const trust = choices("Trust", "trusted", "revoked");
  presence.value = params.query.get("presence") ?? "";
  trust.value = params.query.get("trust") ?? "";
  const counts = h("p", { class: "dim" }), refused = h("div");
  const pair = () => app.may("decide") && h("a", { class: "button main", href: "/pairing" }, "Pair a device");
  const empty = h("div", { class: "empty" });
  const rows = table({
    caption: "Devices", columns: COLUMNS, key: (node) => node.device_id,
    href: (node) => `/devices/${node.device_id}`, empty,
  });
  const pages = pager(load);
  let query = asked(), last = null, typing = 0, fetching = null, known = null, left = false;
  let owed = false;

  const filtered = () => Boolean(search.value.trim() || presence.value || trust.value);

  /** What is asked of the gateway: words are searched, an expression is an expression. */
  function asked() {
    const text = search.value.trim(), expression = EXPRESSION.test(text);
    const of = [expression && text, presence.value && `presence = ${presence.value}`].filter(Boolean);
    return {
      search: expression ? "" : text, trust: trust.value,
      where: of.length > 1 ? `(${of[0]}) and ${of[1]}` : of[0],
    };
  }

  /** A list that somebody has asked for is shown, also where a later fetch has overtaken its own. */
  async function load(cursor = pages.at, put = rows.set) {
    fetching?.abort();
    owed ||= put === rows.set;
    const mine = fetching = new AbortController();
    try {
      const answer = await get("nodes", { ...query, limit: LIMIT, cursor }, { signal: mine.signal });
      if (left) return;
      replace(refused);
      if (owed || answer !== last) show(last = answer, owed ? rows.set : put);
      owed = false;
    } catch (error) {
      if (error.name === "AbortError") return;
      owed = false;
      if (!last) throw error;
      replace(refused, problem(error));
    }
  }

  function show(answer, put) {
    known = filtered() ? null : answer.total;
    replace(empty, filtered()
      ? ["Nothing matches.", h("button", { type: "button", on: { click: clear } }, "Clear search")]
      : ["No devices yet.", pair()]);
    put(answer.nodes);
    pages.show(answer.page, answer.total);
    if (filtered()) replace(counts, found(answer));
    else count(app.counts);
    app.show({ devices: answer.nodes.map((node) => node.device_id) });
  }

  /** How many match: an expression is not looked for in more devices than are shown. */
  function found({ total, page, nodes }) {
    if (total != null) return `${thousands(total)} found`;
    return page.has_more || pages.at ? `more than ${LIMIT} found` : `${nodes.length} found`;
  }

  function count(its) {
    if (filtered() || its.devices == null) return;
    const waiting = its.pairing_pending;
    replace(counts, `${counted(its.devices, "device")}: ${thousands(its.online)} online, ` +
      `${thousands(its.stale)} stale, ${thousands(its.offline)} offline`,
    waiting ? [" ", link("/pairing", `${thousands(waiting)} waiting for approval`)] : "");
    if (known != null && !pages.at) rows.news(Math.max(0, its.devices - known), () => load());
  }

  function again() {
    const shown = new URLSearchParams();
    for (const [name, { value }] of Object.entries({ q: search, presence, trust })) {
      if (value.trim()) shown.set(name, value.trim());
    }
    history.replaceState(null, "", "/devices" + (shown.size ? `?${shown}` : ""));
    query = asked();
    pages.reset();
    load();
  }

  function clear() {
    for (const each of [search, presence, trust]) each.value = "";
    again();
    search.focus();
  }

  search.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(again, TYPING_MS);
  });
  for (const each of [presence, trust]) each.addEventListener("change", again);

  replace(main,
    h("div", { class: "head" }, h("h1", null, "Devices"), counts),
    h("div", { class: "tools", role: "search" }, search, presence, trust,
      h("span", { class: "right" + (app.may("decide") ? " bottom" : "") }, pair())),
    refused, rows.element, pages.element);
  await load();

  return {
    onLive(event) {
      if (event.kind === "counts") count(event.counts);
      if (event.kind !== "node") return;
      if (event.node) rows.update(event.node);
      else rows.remove(event.device_id);
    },
    gap: () => load(pages.at, rows.refresh),
    leave() {
      left = true;
      clearTimeout(typing);
      fetching?.abort();
    },
  };
}
