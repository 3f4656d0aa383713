/** Keys, for those who like them.  Nothing that ends trust or decides has one. */
import { h, copy, say } from "./dom.js";
import { dialog } from "./dialogs.js";
import { go } from "./router.js";

const OFF = "palyra-keys-off";
const VIEWS = { d: "/devices", p: "/pairing", a: "/approvals", j: "/jobs", l: "/audit" };
const HELP = [
  ["/", "search"], ["g then d p a j l", "devices, pairing, approvals, jobs, audit log"],
  ["j  k", "next, previous row"], ["Enter", "open"], ["r", "run a capability"],
  ["c", "copy the id"], ["t", "theme"], ["?", "these keys"], ["Esc", "close"],
];

let pending = -Infinity, toggleTheme = () => {};

/** Begin to listen; `theme` turns the theme. */
export function start(theme) {
  toggleTheme = theme;
  document.addEventListener("keydown", press);
}

const typing = (target) => target.closest?.("input,textarea,select,[contenteditable],dialog");

function press(event) {
  if (event.key === "Escape") return escape(event);
  if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
  if (event.key === "?") return help();
  if (localStorage.getItem(OFF)) return;
  const act = event.timeStamp - pending < 1500 && VIEWS[event.key]
    ? () => go(VIEWS[event.key]) : ACTS[event.key];
  pending = event.key === "g" ? event.timeStamp : -Infinity;
  if (act && act(event) !== false) event.preventDefault();
}

const ACTS = {
  "/": () => first("#main input[type=search]", "header input[type=search]")?.focus(),
  j: () => step(1),
  k: () => step(-1),
  r: () => first("#main [data-key=run]")?.click(),
  c: copyId,
  t: () => toggleTheme(),
  g: () => {},
};

const first = (...selectors) => selectors.map((each) =>
  [...document.querySelectorAll(each)].find((found) => found.offsetParent)).find(Boolean);

/** Leave what is typed into; close the menu that is open. */
function escape(event) {
  const menu = document.querySelector("details.menu[open]");
  if (menu) {
    menu.open = false;
    menu.querySelector("summary").focus();
  } else if (event.target.matches?.("input[type=search]")) event.target.blur();
}

function step(by) {
  const rows = [...document.querySelectorAll("#main [data-id] a.row")];
  const at = rows.findIndex((each) => each.closest("[data-id]").contains(document.activeElement));
  rows[at < 0 ? 0 : Math.max(0, Math.min(rows.length - 1, at + by))]?.focus();
}

async function copyId() {
  const id = (document.activeElement.closest("[data-id]") ?? document.querySelector("#main h1[data-id]"))
    ?.dataset.id;
  if (!id) return;
  await copy(id);
  say(`Copied ${id}.`);
}

function help() {
  const off = h("input", { type: "checkbox", checked: !localStorage.getItem(OFF), on: {
    change() {
      if (off.checked) localStorage.removeItem(OFF);
      else localStorage.setItem(OFF, "1");
    },
  } });
  return dialog("Keys", (close) => [
    h("dl", { class: "keys" }, HELP.map(([keys, what]) =>
      h("div", null, h("dt", null, h("kbd", null, keys)), h("dd", null, what)))),
    h("label", { class: "check" }, off, " Single keys act"),
    h("div", { class: "actions" },
      h("button", { type: "button", class: "main", on: { click: () => close() } }, "Close")),
  ]);
}

export { help };
