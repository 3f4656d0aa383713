/** What waits for an operator's yes: the card of a pairing request, and that of a call. */
import { post, part } from "./api.js";
import { confirm } from "./dialogs.js";
import { button, copier, fact, field, freshId, h, left, problem, replace, say, state } from "./dom.js";
import { pretty } from "./json.js";
import {
  clock, counted, duration, fingerprint, labelText, now, shortId, span, visible,
} from "./words.js";

const INERT_MS = 500;
const INVOKE_OTHERS = "nodes.invoke";
const UNTIL = [["15 min", 15], ["1 h", 60], ["8 h", 480]];
const SCOPES = {
  once: "this once", session: "repeats in the caller's session", timeboxed: "repeats within",
};

/**
 * @typedef {object} Card
 * @property {HTMLElement} element
 * @property {() => void} arm make its buttons inert for a moment: something has moved
 *
 * @typedef {object} Its what a card needs beside what it shows
 * @property {boolean} may whether who looks at it may decide
 * @property {() => void} [decided]
 * @property {Map<string, any>} [memory] what a person has chosen: a card that is made anew keeps it
 */

/**
 * A list of cards, the oldest first: what comes is put below what somebody may be reading.
 * @param {object} its
 * @param {string} its.empty what stands where there is none
 * @param {(item: object) => string} its.key
 * @param {(item: object, memory: Map) => Card} its.make
 * @returns {{heading: HTMLElement, element: HTMLElement, show: (items: object[]) => void}}
 */
export function cardList({ empty, key, make }) {
  const heading = h("h2", { tabindex: "-1" }), element = h("div", { class: "cardlist" });
  let cards = new Map();
  function show(items) {
    const before = [...cards.keys()].join(), next = new Map();
    for (const item of [...items].sort((a, b) => a.created_at_unix_ms - b.created_at_unix_ms)) {
      const known = cards.get(key(item)), text = JSON.stringify(item);
      const memory = known?.memory ?? new Map();
      next.set(key(item), known?.text === text ? known : { text, memory, ...make(item, memory) });
    }
    cards = next;
    draw([...cards.values()].map((each) => each.element));
    if ([...cards.keys()].join() !== before) for (const each of cards.values()) each.arm();
  }
  function draw(elements) {
    replace(heading, elements.length ? `Waiting (${elements.length})` : "Waiting");
    const within = element.contains(document.activeElement), { name } = document.activeElement;
    const same = elements.length && elements.length === element.children.length
      && elements.every((each, at) => element.children[at] === each);
    if (same) return;
    replace(element, elements.length ? elements : h("p", { class: "empty" }, empty));
    if (!within || element.contains(document.activeElement)) return;
    const again = name && element.querySelector(`[name="${CSS.escape(name)}"]`);
    (again || heading).focus({ preventScroll: true });
  }
  return { heading, element, show };
}

/** An input that remembers: `read` and `write` are of its one property. */
function remembered(memory, name, input, property) {
  input.name = name;
  if (memory.has(name)) input[property] = memory.get(name);
  input.addEventListener("input", () => memory.set(name, input[property]));
  return input;
}

/**
 * @param {object} request a PairingItem, with `tries`, the FailedTries of now
 * @param {Its} its
 * @returns {Card}
 */
export function pairingCard(request, { may, decided, memory = new Map() }) {
  const tries = request.tries ?? [];
  const boxes = grantable(request).map((each) => grantBox(each, request.request_id, memory));
  const changed = request.seen_before.kind === "another_key";
  const decide = (verb, body) =>
    post(`pairing/requests/${part(request.request_id)}/${verb}`, body);
  const approve = (reason) => decide("approve", {
    reason, accept_new_identity: changed,
    grants: boxes.filter((each) => each.input.checked).map((each) => each.name),
  });
  return card({
    title: [strong(request.name), " asks to be paired"], subject: request.name, decided,
    pending: request.state === "pending_approval", its: request, may, memory,
    id: request.request_id,
    content: [
      h("dl", { class: "facts" }, pairingFacts(request, tries)),
      boxes.length ? h("fieldset", { class: "grants" }, h("legend", null, "May run"),
        boxes.map((each) => each.element)) : h("p", { class: "dim" }, "It announces no capability."),
    ],
    approve: changed ? (reason) => confirm({
      title: `Approve ${visible(request.name)} with another key?`, typed: visible(request.name),
      effect: `Its old key ${fingerprint(request.seen_before.identity_fingerprint)} is revoked. `
        + `Does the device print ${fingerprint(request.identity_fingerprint)}?`,
      action: "Approve", danger: true, run: () => approve(reason),
    }) : approve,
    reject: (reason) => decide("reject", { reason }),
  });
}

const strong = (text) => h("strong", null, visible(text));

function pairingFacts(request, tries) {
  return [
    alone(fact("identity", h("span", { class: "mono" }, fingerprint(request.identity_fingerprint)),
      h("span", { class: "dim" }, " compare on the device"))),
    fact("device", `${shortId(request.device_id)} ${request.client_kind}, `,
      visible(request.platform) || "platform not told"),
    fact("from", visible(request.source)),
    fact("seen here", seen(request.seen_before)),
    fact("labels", visible(labelText(request.labels)) || "none"),
    alone(fact("code", code(request, tries))),
  ];
}

/** A fact that has a line of its own. */
const alone = (its) => {
  its.classList.add("whole");
  return its;
};

const warned = (text) => h("span", { class: "warn" }, "!! ", text);

function seen({ kind, at_unix_ms, by, reason, removed_at_unix_ms, certificate_ended_unix_ms }) {
  const at = clock(at_unix_ms);
  if (kind === "never") return "never before";
  if (kind === "same_key") {
    const ended = certificate_ended_unix_ms;
    return `paired ${at}, same key${ended ? `; its certificate ran out ${clock(ended)}` : ""}`;
  }
  if (kind === "another_key") return warned(`paired ${at} with ANOTHER key; approving revokes that one`);
  const whom = (by && ` by ${visible(by)}`) + (reason && ` (${visible(reason)})`);
  const gone = removed_at_unix_ms ? `, removed ${clock(removed_at_unix_ms)}` : "";
  return warned(`${kind} ${at}${whom}${gone}`);
}

function code({ method, issued_by, issued_at_unix_ms, source }, tries) {
  if (method === "rejoin") return "none; it proved its identity key";
  const ago_ms = now() - issued_at_unix_ms;
  const made = ago_ms < 60000 ? "just now" : `${span(ago_ms)} ago`;
  const wrong = tries.find((each) => each.source === source) ?? tries[0];
  return [`${method.toUpperCase()} by ${visible(issued_by)}, ${made}, `,
    wrong ? warned(triesText(wrong)) : "no wrong tries"];
}

/** `2 wrong tries from 192.168.1.40`. */
export const triesText = ({ count, source }) =>
  `${counted(count, "wrong try", "wrong tries")} from ${visible(source)}`;

const grantable = (request) => request.client_kind === "node" ? request.capabilities
  : [...request.capabilities,
    { name: INVOKE_OTHERS, granted: false, available: true, risk: "on other devices" }];

/** What can do harm, or cannot run, takes a tick of the operator's own. */
const usual = ({ available, risk }) => available && risk !== "high";

function grantBox(capability, id, memory) {
  const input = remembered(memory, `${id} ${capability.name}`,
    h("input", { type: "checkbox", checked: capability.granted && usual(capability) }), "checked");
  const risky = capability.risk !== "low";
  return { input, name: capability.name, element: h("label", { class: "check" }, input,
    h("span", null, h("span", { class: "mono" }, visible(capability.name)), " ",
      h("span", { class: risky ? "warn" : "dim" }, visible(capability.risk)),
      capability.needs_mediation && h("span", { class: "dim" }, " asks on device"),
      !capability.available && h("span", { class: "bad" }, ` ${visible(capability.fault) || "unavailable"}`))) };
}

/**
 * @param {object} approval an ApprovalItem of kind call
 * @param {Its} its
 * @returns {Card}
 */
export function callCard(approval, { may, decided, memory = new Map() }) {
  const { call, digest } = approval;
  const scope = scopes(call.scopes);
  const decide = (decision, more) =>
    post(`approvals/${part(approval.approval_id)}/decision`, { decision, digest, ...more });
  const on = call.targets.length === 1 ? call.targets[0].device_name
    : counted(call.targets.length, "device");
  return card({
    title: [strong(call.requested_by), " asks ", h("span", { class: "mono" }, visible(call.capability)),
      " on ", strong(on)],
    subject: call.capability, pending: approval.state === "pending", its: approval,
    may: may && call.may_decide, decided, memory, id: approval.approval_id,
    content: [
      h("dl", { class: "facts" }, callFacts(approval)),
      whole("Input", call.input_json, approval.approval_id),
      targets(call.targets),
      may && !call.may_decide && approval.state === "pending"
        && h("p", { class: "dim" }, call.four_eyes ? "Another person must decide this."
          : "The rule names other approvers."),
      may && call.may_decide && scope.element,
    ],
    approve: (reason) => decide("approve", { reason, ...scope.chosen() }),
    reject: (reason) => decide("reject", { reason }),
  });
}

function callFacts({ digest, call }) {
  return [
    alone(fact("asked by", `${visible(call.requested_by)} (${visible(call.operator_id)})`)),
    fact("digest", h("span", { class: "mono", title: digest }, fingerprint(digest).slice(0, 9))),
    fact("risk", h("span", { class: call.risk === "low" ? "" : "warn" }, visible(call.risk))),
    fact("rule", visible(call.rule) || "none"),
    fact("may run", duration(call.timeout_ms)),
    fact("if offline", call.ttl_ms == null ? "not queued" : `queued for ${duration(call.ttl_ms)}`),
    fact("payload", `${call.max_payload_bytes} bytes at most`),
    call.idempotency_key && fact("key", visible(call.idempotency_key)),
  ];
}

/** A JSON value, nothing cut and nothing hidden. */
export function whole(title, value, id, level = "h3") {
  const { text, exact } = pretty(value);
  return h("section", { class: "whole" }, title && h(level, null, title),
    h("pre", { tabindex: "0", "aria-label": title || "Output" }, text),
    !exact && h("p", { class: "warn" },
      `A number in it is longer than this browser shows exactly; see the CLI (${shortId(id)}).`));
}

function targets(rows) {
  const line = (each) => [visible(each.device_name), each.device_id,
    `identity ${fingerprint(each.identity_fingerprint)}`,
    `descriptor ${each.descriptor_digest.slice(0, 8) || "none"}`,
    `job ${shortId(each.job_id)}`].join("  ");
  const place = h("pre", { tabindex: "0", "aria-label": "Devices" });
  const show = () => replace(place, rows.map(line).join("\n"));
  return h("details", { open: rows.length === 1, on: { toggle: show } },
    h("summary", null, counted(rows.length, "device")), place);
}

function scopes(offered) {
  const name = freshId("scope");
  const until = h("select", { "aria-label": "Repeats within" },
    UNTIL.map(([text, minutes]) => h("option", { value: minutes }, text)));
  const radios = offered.map((each) => h("input",
    { type: "radio", name, value: each, checked: each === "once" }));
  const element = h("fieldset", { class: "scopes" }, h("legend", null, "For"),
    radios.map((radio) => h("label", { class: "check" }, radio, SCOPES[radio.value] ?? radio.value,
      radio.value === "timeboxed" && [" ", until])));
  return { element, chosen() {
    const scope = radios.find((each) => each.checked)?.value ?? "once";
    return scope === "timeboxed" ? { scope, scope_ttl_ms: until.value * 60000 } : { scope };
  } };
}

// -- what both have ---------------------------------------------------------------------------

function card({ title, subject, id, pending, its, may, decided, memory, content, approve, reject }) {
  const refused = h("div");
  const reason = remembered(memory, `${id} reason`,
    h("input", { type: "text", maxlength: "240", autocomplete: "off" }), "value");
  const yes = button("Approve", () => act(approve, "approved"), { class: "main" });
  const no = button("Reject", () => act(reject, "rejected"), { class: "danger" });
  let busy = false, armed = false, timer = 0;

  async function act(how, verb) {
    if (busy || (verb === "approved" && !armed)) return;
    busy = true;
    replace(refused);
    try {
      if (await how(reason.value.trim())) {
        say(`${visible(subject)} ${verb}.`);
        decided?.();
      }
    } catch (error) {
      replace(refused, problem(error));
    }
    busy = false;
  }

  function arm() {
    armed = false;
    yes.setAttribute("aria-disabled", "true");
    clearTimeout(timer);
    timer = setTimeout(() => {
      armed = true;
      yes.removeAttribute("aria-disabled");
    }, INERT_MS);
  }

  arm();
  const clockOf = left(its.expires_at_unix_ms, `What ${visible(subject)} asks ends in a minute.`);
  const element = h("article", { class: "card" },
    h("div", { class: "head" }, h("h3", null, title), pending ? h("span", { class: "dim" }, clockOf, " left")
      : h("span", null, state(its.state), its.decided_by && ` by ${visible(its.decided_by)}`)),
    content,
    !pending && its.reason && h("p", null, "Reason: ", visible(its.reason)),
    pending && may && [field("Reason", reason), refused, h("div", { class: "actions decide" }, no, yes)]);
  return { element, arm };
}

/** A text that is copied, whole. */
export const copied = (text) => h("span", { class: "copied" }, h("code", null, text), " ", copier(text));
