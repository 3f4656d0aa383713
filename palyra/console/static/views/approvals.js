/** Approvals: what waits for an operator, and what was said. */
import { get, part } from "../api.js";
import { callCard, cardList, pairingCard } from "../cards.js";
import { h, link, replace, state, when } from "../dom.js";
import { pager, table } from "../table.js";
import { counted, shortId, visible } from "../words.js";

const WAITING = 100;

export const title = ({ id }) => (id ? `${shortId(id)} - Approvals` : "Approvals");

export const render = (main, params, app) =>
  (params.id ? renderOne : renderAll)(main, params, app);

async function renderOne(main, { id }, app) {
  const place = h("div", { class: "cardlist" });
  let shown = "";
  async function load() {
    const { approval } = await get(`approvals/${part(id)}`);
    show(approval);
  }
  function show(approval) {
    const text = JSON.stringify(approval);
    if (text !== shown) replace(place, cardOf(approval, app, load).element);
    shown = text;
  }
  replace(main, h("h1", null, `Approval ${shortId(id)}`), place,
    h("p", null, link("/approvals", "All approvals")));
  await load();
  app.show({ topics: ["approvals"] });
  return {
    onLive: (event) => event.approval?.approval_id === id && load(),
    gap: load,
  };
}

async function renderAll(main, params, app) {
  const cards = cardList({
    empty: "Nothing is waiting.", key: (each) => each.approval_id,
    make: (each, memory) => cardOf(each, app, load, memory),
  });
  const past = table({
    caption: "Decided approvals", columns: COLUMNS, key: (each) => each.approval_id,
    href: (each) => `/approvals/${each.approval_id}`, empty: "No approvals yet.",
  });
  const pages = pager(loadPast);

  async function loadPast(cursor = pages.at) {
    const answer = await get("approvals", { cursor });
    past.set(answer.approvals.filter((each) => each.state !== "pending"));
    pages.show(answer.page);
  }
  async function load() {
    const [waiting] = await Promise.all([
      get("approvals", { state: "pending", limit: WAITING }), loadPast()]);
    cards.show(waiting.approvals);
  }

  replace(main, h("h1", null, "Approvals"), cards.heading, cards.element, h("h2", null, "Decided"),
    past.element, pages.element);
  await load();
  app.show({ topics: ["approvals"] });
  return { onLive: (event) => event.kind === "approval" && load(), gap: load };
}

const cardOf = (approval, app, decided, memory) => approval.pairing
  ? pairingCard(approval.pairing, { may: app.may("decide"), decided, memory })
  : callCard(approval, { may: app.may("decide"), decided, memory });

const asked = ({ pairing, call }) => pairing ? `${visible(pairing.name)} asks to be paired`
  : `${visible(call.requested_by)} asks ${visible(call.capability)} on ` + (call.targets.length === 1
    ? visible(call.targets[0].device_name) : counted(call.targets.length, "device"));

const COLUMNS = [
  { title: "What", phone: "name", cell: asked },
  { title: "State", phone: "state", cell: (each) => state(each.state) },
  { title: "By", phone: "fact", cell: (each) => visible(each.decided_by) || "-" },
  { title: "When", phone: "fact", cell: (each) => when(each.decided_at_unix_ms ?? each.expires_at_unix_ms) },
  { title: "Reason", cell: (each) => visible(each.reason) || "-" },
];
