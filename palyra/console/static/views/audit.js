/** Audit: what was done, by whom, and whether the chain of it holds. */
import { get } from "../api.js";
import { badge, button, fact, h, problem, replace, say, when } from "../dom.js";
import { dialog } from "../dialogs.js";
import { pager, table } from "../table.js";
import { clock, counted, exactly, shortId, stateWord, thousands, visible } from "../words.js";

const LIMIT = 50;
const TYPING_MS = 150;
const LOOK_MS = 10000;

export const title = () => "Audit";

/** A subject, `device:ULID`, as people call it. */
const subject = (row) => {
  const [kind, id = ""] = row.subject.split(":");
  return visible([row.subject_name || kind, shortId(id)].filter(Boolean).join(" ")) || "-";
};

const result = (row) => {
  const { mark, tone } = stateWord(row.result.split(/[,: ]/)[0]);
  return badge(visible(row.result), mark, row.result === "ok" ? "ok" : tone === "dim" ? "warn" : tone);
};

const COLUMNS = [
  { title: "Time", cell: (row) => when(row.at_unix_ms), phone: "fact" },
  { title: "Who", cell: (row) => visible(row.who || "-"), by: (row) => row.who, phone: "fact" },
  { title: "What", by: (row) => row.action, phone: "name",
    cell: (row) => button(row.action, () => whole(row), { class: "sort plain", "aria-haspopup": "dialog" }) },
  { title: "On", cell: subject, by: subject, phone: "fact" },
  { title: "Result", cell: result, by: (row) => row.result, phone: "state" },
  { title: "Reason", cell: (row) => visible(row.reason || "-"), only: "wide" },
  { title: "From", cell: (row) => visible(row.via || "-"), only: "wide" },
  { title: "Seq", cell: (row) => thousands(row.seq), number: true, only: "wide" },
];

/** Everything that is known of one row. */
function whole(row) {
  const mono = (text) => h("span", { class: "id" }, visible(text || "-"));
  return dialog(`${row.action}, row ${thousands(row.seq)}`, (close) => [
    h("dl", { class: "facts" },
      fact("time", exactly(row.at_unix_ms)), fact("who", visible(row.who || "-"), " ", mono(row.operator_id)),
      fact("from", visible(row.via || "-")), fact("on", visible(row.subject_name), " ", mono(row.subject)),
      fact("result", result(row)), fact("reason", visible(row.reason || "-")),
      row.details === null ? fact("details", "erased")
        : Object.entries(row.details).map(([key, value]) => fact(key, mono(String(value)))),
      fact("hash", mono(row.hash)), fact("before it", mono(row.prev))),
    h("div", { class: "actions" }, button("Close", () => close(), { class: "main" })),
  ]);
}

export async function render(main, params, app) {
  const filter = (name, label, placeholder) => h("input", {
    type: "search", name, "aria-label": label, placeholder, autocomplete: "off", spellcheck: "false",
    value: params.query.get(name) ?? "",
  });
  const filters = [filter("who", "Who", "who"), filter("action", "What", "what, as job. or job.submitted"),
    filter("subject", "On", "on, as device:ID")];
  const empty = h("div", { class: "empty" }), refused = h("div"), found = h("div", { role: "status" });
  const rows = table({ caption: "Audit rows", columns: COLUMNS, key: (row) => `${row.chain_id} ${row.seq}`, empty });
  const pages = pager(load);
  let last = null, typing = 0, left = false;

  const asked = () => Object.fromEntries(filters.map(({ name, value }) => [name, value.trim()]));

  async function load(cursor = pages.at) {
    try {
      const answer = await get("audit", { ...asked(), limit: LIMIT, cursor });
      if (left || answer === last) return;
      last = answer;
      const filtered = Object.values(asked()).some(Boolean);
      replace(empty, filtered ? ["Nothing matches.", button("Clear search", clear)] : "Nothing was done yet.");
      rows.set(answer.rows);
      pages.show(answer.page);
      replace(refused);
    } catch (error) {
      if (!last) throw error;
      replace(refused, problem(error));
    }
  }

  function again() {
    const query = new URLSearchParams(Object.entries(asked()).filter(([, value]) => value));
    history.replaceState(null, "", "/audit" + (query.size ? `?${query}` : ""));
    pages.reset();
    return load();
  }

  function clear() {
    for (const each of filters) each.value = "";
    again();
    filters[0].focus();
  }

  /** Whether there are newer rows: they are announced, and come when they are wanted. */
  async function look() {
    if (document.hidden || pages.at || !last || !app.caller) return;
    const answer = await get("audit", { ...asked(), limit: LIMIT }).catch(() => last);
    if (left || answer === last || pages.at) return;
    const newest = last.rows[0]?.seq ?? 0;
    rows.news(answer.rows.filter((row) => row.seq > newest).length, () => load());
  }

  async function verify({ target }) {
    target.disabled = true;
    replace(found, h("p", { class: "dim" }, "Looking through the chain"));
    try {
      replace(found, verdict(await get("audit/verify")));
    } catch (error) {
      replace(found, problem(error));
    }
    target.disabled = false;
  }

  async function save({ target }) {
    target.disabled = true;
    try {
      say(`Saved ${counted(await exported(asked(), (count) => replace(target, `${thousands(count)} rows`)), "row")}.`);
    } catch (error) {
      replace(found, problem(error));
    }
    replace(target, "Export");
    target.disabled = false;
  }

  for (const each of filters) {
    each.addEventListener("input", () => {
      clearTimeout(typing);
      typing = setTimeout(again, TYPING_MS);
    });
  }
  replace(main,
    h("div", { class: "head" }, h("h1", null, "Audit"),
      h("span", { class: "row-of right" }, button("Verify", verify), button("Export", save))),
    h("div", { class: "tools", role: "search" }, filters),
    found, refused, rows.element, pages.element);
  await load();
  const looking = setInterval(look, LOOK_MS);
  return {
    gap: look,
    leave() {
      left = true;
      clearInterval(looking);
      clearTimeout(typing);
    },
  };
}

/** What looking through the chain has found. */
function verdict(its) {
  const open = its.last_seq - its.anchored_seq;
  const anchored = its.anchored_at_unix_ms == null ? "Nothing is anchored outside yet."
    : `Anchored outside up to row ${thousands(its.anchored_seq)} (${clock(its.anchored_at_unix_ms)})` +
      (open > 0 ? `; ${counted(open, "later row")} could still be rewritten by whoever owns the database.` : ".");
  return h("div", { class: "card" },
    its.faults.length
      ? h("p", null, badge(`${counted(its.faults.length, "fault")} in ${counted(its.rows, "row")}.`, "\u2715", "bad"))
      : h("p", null, badge(`${counted(its.rows, "row")}, ${thousands(its.first_seq)}\u2013${thousands(its.last_seq)}: ` +
        "no change and no gap.", "\u2713", "ok")),
    its.faults.length > 0 && h("ul", null, its.faults.map((each) => h("li", null, visible(each)))),
    h("p", { class: "dim" }, anchored));
}

/** Every row that matches, oldest first, as a file of JSON lines. @returns {Promise<number>} how many */
async function exported(which, progress) {
  const lines = [];
  let after = 0;
  for (;;) {
    const { rows, page } = await get("audit", { ...which, after_seq: after, limit: 500 });
    for (const row of rows) lines.push(JSON.stringify(row), "\n");
    after = rows.at(-1)?.seq ?? after;
    progress(lines.length / 2);
    if (!page.has_more || !rows.length) break;
  }
  const url = URL.createObjectURL(new Blob(lines, { type: "application/x-ndjson" }));
  h("a", { href: url, download: "palyra-audit.jsonl" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
  return lines.length / 2;
}
