/** Pairing: make a code, and decide about the devices that ask with one. */
import { get, part, post } from "../api.js";
import { cardList, copied, pairingCard, triesText } from "../cards.js";
import { button, field, h, left, problem, replace, say, state, when } from "../dom.js";
import { qr } from "../qr.js";
import { table } from "../table.js";
import { clock, counted, labelText, now, shortId, visible } from "../words.js";

const PORT = ":7443";
const VALID = [["10 min", 10], ["1 h", 60], ["8 h", 480], ["24 h", 1440]];
const PENDING = "pending_approval";
const MAX_TRIES = 5;
const SHOWN = 100;

export const title = () => "Pairing";

export async function render(main, params, app) {
  const may = app.may("decide");
  const cards = cardList({
    empty: "Nobody is waiting.", key: (each) => each.request_id,
    make: (each, memory) => pairingCard(each, { may, memory, decided: load }),
  });
  const warnings = h("div");
  const made = h("div", { "aria-live": "polite" });
  const codes = codeTable(may, load);
  let minted = null, expiry = 0, gone = false;

  async function load() {
    const [waiting, listed] = await Promise.all([
      get("pairing/requests", { state: PENDING, limit: SHOWN }), get("pairing/requests", { limit: 1 })]);
    if (gone) return;
    cards.show(waiting.requests.map((each) => ({ ...each, tries: waiting.failed_tries })));
    codes.set(listed.codes);
    replace(warnings, [...notes(listed)].map((text) => h("p", { class: "warn" }, `!! ${text}`)));
    if (minted && !listed.codes.some((each) => each.code_id === minted.code_id && each.state === "active")) drop();
    const ends = listed.codes.map((each) => each.expires_at_unix_ms - now()).filter((each) => each > 0);
    clearTimeout(expiry);
    if (ends.length) expiry = setTimeout(load, Math.min(...ends) + 500);
  }

  /** The code is used, over or taken back: nothing of it stays in the page. */
  function drop() {
    minted = null;
    replace(made);
  }

  function mint(answer) {
    minted = answer.code;
    replace(made, newCode(answer));
    load();
  }

  replace(main, h("h1", null, "Pairing"),
    may && h("section", { class: "card mint" }, codeForm(mint), made),
    cards.heading, warnings, cards.element, h("h2", null, "Codes"), codes.element);
  await load();
  app.show({ topics: ["approvals"] });
  return {
    onLive: (event) => event.kind === "approval" && event.approval.kind === "pairing" && load(),
    gap: load,
    leave() {
      gone = true;
      clearTimeout(expiry);
      drop();
    },
  };
}

function* notes({ failed_tries, codes, pins_paused_until_unix_ms: until }) {
  for (const each of failed_tries) yield triesText(each);
  for (const each of codes.filter((one) => one.state === "burnt")) {
    yield `${each.method.toUpperCase()} by ${visible(each.issued_by)} burnt by `
      + counted(each.failed, "wrong try", "wrong tries");
  }
  if (until > now()) yield `Pairing by PIN is paused until ${clock(until)} after many wrong tries`;
}

// -- a new code -------------------------------------------------------------------------------

function codeForm(mint) {
  const radio = (value, text) => h("label", { class: "check" },
    h("input", { type: "radio", name: "method", value, checked: value === "pin" }), text);
  const valid = h("select", { name: "valid" },
    VALID.map(([text, minutes]) => h("option", { value: minutes }, text)));
  const labels = h("input", { type: "text", name: "labels", autocomplete: "off", spellcheck: "false",
    placeholder: "site=prague rack=2" });
  const labelled = field("Labels", labels);
  const refused = h("div");

  async function submit(event) {
    event.preventDefault();
    const form = new FormData(event.target);
    labelled.fail("");
    replace(refused);
    try {
      mint(await post("pairing/requests/code", {
        method: form.get("method"), ttl_ms: form.get("valid") * 60000, qr_matrix: true,
        labels: Object.fromEntries(form.get("labels").split(/[\s,]+/).filter(Boolean).map(pair)),
      }));
    } catch (error) {
      const wrong = error.validation_errors?.find((each) => each.field === "labels");
      if (!wrong) return replace(refused, problem(error));
      labelled.fail(wrong.problem);
      labels.focus();
    }
    return undefined;
  }

  return h("form", { class: "row", on: { submit } },
    h("fieldset", null, h("legend", null, "Method"), radio("pin", "PIN"), radio("qr", "QR")),
    field("Valid", valid), labelled,
    h("button", { type: "submit", class: "main" }, "Make code"), refused);
}

/** `site=prague` and `lab` as a label's key and value. */
function pair(text) {
  const at = text.indexOf("=");
  return at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + 1)];
}

function newCode({ code, pin, uri, qr_matrix: rows, address, loopback_only: alone }) {
  const command = pin ? `palyra node run --gateway ${address.replace(new RegExp(`${PORT}$`), "")}`
    : "palyra node run --pairing-uri -";
  return h("div", { class: "minted" },
    pin ? h("p", null, "PIN ", h("strong", { class: "pin" }, pin))
      : qr(rows, `QR code. Without a camera run ${command} and paste the pairing line.`),
    h("div", null,
      h("p", { class: "dim" }, left(code.expires_at_unix_ms), " left, one device",
        pin && ", five wrong tries", code.source && `, from ${visible(code.source)}`),
      h("p", null, "On the device:", h("br"), copied(command)),
      !pin && h("p", null, "Then paste the pairing line:", h("br"), copied(uri)),
      alone && h("p", { class: "warn" }, `!! Only this machine can reach ${address}.`)));
}

// -- the codes there are ----------------------------------------------------------------------

function codeTable(may, changed) {
  async function withdraw(code) {
    try {
      await post(`pairing/codes/${part(code.code_id)}/withdraw`);
      say("The code is taken back.");
    } catch (error) {
      say(error.message);
    }
    changed();
  }
  const columns = [
    { title: "Code", phone: "name", cell: (each) => `${each.method.toUpperCase()} ${shortId(each.code_id)}` },
    { title: "By", phone: "fact", cell: (each) => visible(each.issued_by) },
    { title: "State", phone: "state", cell: (each) => state(each.state) },
    { title: "Tries", phone: "fact",
      cell: (each) => (each.method === "pin" ? `${each.failed} of ${MAX_TRIES}` : "-") },
    { title: "Ends", phone: "fact", cell: (each) => when(each.expires_at_unix_ms) },
    { title: "Labels", cell: (each) => visible(labelText(each.labels)) || "-" },
  ];
  if (may) {
    columns.push({ title: "Action", phone: "fact", cell: (each) => each.state === "active"
      && button("Take back", () => withdraw(each), { class: "small" }) });
  }
  return table({ caption: "Pairing codes", columns, key: (each) => each.code_id, empty: "No codes." });
}
