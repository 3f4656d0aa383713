/** Run a capability: on devices by name, or on all that an expression matches. */
import { get, part, post } from "../api.js";
import { button, field, freshId, h, problem, replace } from "../dom.js";
import { inputOf } from "../formview.js";
import { counted, shortId, visible } from "../words.js";

const MATCHED = 50;
const PAUSE_MS = 150;
const DEFAULT_S = 30;
const WAITS = [["do not wait for it", 0], ["wait 10 min", 600], ["wait 1 h", 3600], ["wait 24 h", 86400]];

export const title = () => "Run";

export async function render(main, { query }, app) {
  const refused = h("div", { "aria-live": "assertive" });
  const catalogue = (await get("capabilities")).capabilities;
  const chosen = h("select", { on: { change() {
    wanted = chosen.value;
    choose();
  } } });
  const about = h("div");
  const input = inputOf();
  const seconds = h("input", { type: "number", min: "1", max: "86400", step: "1" });
  const wait = h("select", null, WAITS.map(([text, s]) => h("option", { value: s }, text)));
  const go = h("button", { type: "submit", class: "main" }, "Run");
  const targets = targetsOf(aimed);
  const once = onceOnly();
  const schemas = schemasOf(catalogue, () => choose());
  let described = {}, wanted = query.get("capability") ?? "";

  /** The devices have changed: which capabilities they have, and what is known of them. */
  function aimed() {
    const devices = targets.devices();
    const names = new Set(devices.length ? devices.flatMap(runnable) : catalogue.map((each) => each.name));
    if (wanted) names.add(wanted);
    replace(chosen, [...names].sort().map((name) =>
      h("option", { value: name, selected: name === wanted }, optionText(name, devices))));
    replace(go, targets.words());
    choose();
  }
  function choose() {
    const known = schemas.of(chosen.value, targets.devices());
    replace(about, aboutOf(known));
    seconds.placeholder = String((known.descriptor?.timeout_ms ?? DEFAULT_S * 1000) / 1000);
    const [name, digest] = [chosen.value, known.descriptor?.digest];
    if (name !== described.name || digest !== described.digest) {
      input.use(known.descriptor?.input_schema, name === described.name);
    }
    described = { name, digest };
  }
  async function submit(event) {
    event.preventDefault();
    replace(refused);
    const value = input.read();
    if (value === undefined || !targets.check()) return;
    const call = {
      capability: chosen.value, input_json: value,
      ...(seconds.value && { timeout_ms: Math.round(seconds.value * 1000) }),
      ...(wait.value !== "0" && { ttl_ms: wait.value * 1000 }),
    };
    go.disabled = true;
    try {
      await send(call);
    } catch (error) {
      const wrong = error.validation_errors ?? [];
      const left = input.fail(wrong);
      if (wrong.length > 1) error.message = `${wrong.length} fields are wrong.`;
      replace(refused, problem(error), left.map((each) => h("p", { class: "bad" },
        `${visible(each.field)}: ${visible(each.problem)}`)));
    }
    go.disabled = false;
  }
  async function send(call) {
    const to = targets.chosen();
    const one = to.targets?.length === 1;
    const path = one ? `nodes/${part(to.targets[0])}/invoke` : "jobs";
    const body = one ? { ...call, wait_ms: 0 } : { ...call, ...to };
    const answer = await post(path, { ...body, idempotency_key: once(path, body) });
    await app.go(one ? `/jobs/${answer.job_id}` : `/fanouts/${answer.fanout.fanout_id}`);
  }

  replace(main, h("h1", null, "Run a capability"),
    h("form", { class: "run", novalidate: true, on: { submit } },
      targets.element, field("Capability", chosen), about, input.element,
      h("div", { class: "tools" }, field("Timeout, seconds", seconds), field("If a device is offline", wait)),
      refused, h("div", { class: "actions bottom" }, go)));
  app.show({});
  await Promise.all(query.getAll("device").map(targets.add));
  if (query.get("where")) await targets.where(query.get("where"));
  aimed();
  return { leave: targets.stop };
}

const runnable = (device) => device.capabilities
  .filter((each) => each.available && each.granted).map((each) => each.name);

function optionText(name, devices) {
  const have = devices.filter((each) => runnable(each).includes(name)).length;
  return have === devices.length ? visible(name) : `${visible(name)} (on ${have} of ${devices.length})`;
}

/** The descriptors of capabilities, by digest; one that is asked for is there when it is `found`. */
function schemasOf(catalogue, found) {
  const known = new Map(catalogue.map((each) => [each.digest, each]));
  async function ask(digest) {
    known.set(digest, null);
    try {
      known.set(digest, (await get("capabilities", { digest })).capabilities[0]);
    } catch {
      known.set(digest, undefined);
    }
    found();
  }
  /** What is known of a capability on some devices: its descriptor only where all have the same. */
  function of(name, devices) {
    const theirs = devices.flatMap((each) => each.capabilities.filter((its) => its.name === name));
    const digests = devices.length ? new Set(theirs.map((each) => each.digest))
      : new Set(catalogue.filter((each) => each.name === name).map((each) => each.digest));
    const [digest] = digests;
    if (digests.size === 1 && digest && !known.has(digest)) ask(digest);
    const descriptor = digests.size === 1 && known.get(digest)?.name === name ? known.get(digest) : undefined;
    const why = descriptor || !name || known.get(digest) === null ? ""
      : digests.size > 1 ? `${devices.length ? "The devices have" : "There are"} different versions of it.`
        : "This gateway does not know its schema.";
    return { descriptor, why, announced: theirs[0] };
  }
  return { of };
}

function aboutOf({ descriptor, why, announced }) {
  const its = descriptor ?? announced;
  if (!its && !why) return null;
  return h("p", { class: "dim" }, its && [
    h("span", { class: its.risk === "low" ? "" : "warn" }, visible(its.risk)), ` risk, ${visible(its.version)}`,
    its.needs_mediation && ", a person at the device is asked", ". "],
    visible(descriptor?.description ?? ""), why);
}

/** A key for a call: the same call that is sent again, as after a lost answer, is made once. */
function onceOnly() {
  let last = "", key = "";
  return (path, body) => {
    const text = JSON.stringify([path, body]);
    if (text !== last) {
      last = text;
      key = [...crypto.getRandomValues(new Uint8Array(16))].map((each) => each.toString(16).padStart(2, "0")).join("");
    }
    return key;
  };
}

// -- on which devices -------------------------------------------------------------------------

function targetsOf(changed) {
  const list = freshId("devices");
  const options = h("datalist", { id: list });
  const name = h("input", { type: "text", list, autocomplete: "off", spellcheck: "false", on: {
    input: () => later(suggest), change: () => add(name.value),
    keydown(event) {
      if (event.key !== "Enter") return;
      event.preventDefault();
      add(name.value);
    },
  } });
  const expression = h("input", { type: "text", autocomplete: "off", spellcheck: "false",
    placeholder: "label.site = prague", on: { input: () => later(() => where(expression.value)) } });
  const named = field("Devices", name, "A name or an id, then Enter.");
  const matching = field("or an expression", expression);
  const chips = h("div", { class: "tools" });
  const count = h("p", { class: "dim", role: "status" });
  const added = new Map();
  let matched = { nodes: [], more: false }, timer = 0, turn = 0;

  const later = (act) => {
    clearTimeout(timer);
    timer = setTimeout(act, PAUSE_MS);
  };
  async function suggest() {
    const search = name.value.trim();
    if (!search) return;
    const { nodes } = await get("nodes", { search, trust: "trusted", limit: 10 });
    replace(options, nodes.map((each) => h("option", { value: each.name })));
    if (nodes.some((each) => each.name === search && !added.has(each.device_id))) matching.fail("");
  }
  async function add(text) {
    const target = text.trim();
    if (!target) return;
    try {
      const { node } = await get(`nodes/${part(target)}`);
      added.set(node.device_id, node);
      name.value = expression.value = "";
      named.fail("");
      matching.fail("");
      draw();
    } catch (error) {
      named.fail(error.message);
    }
  }
  async function where(text) {
    const mine = ++turn;
    if (expression.value !== text) expression.value = text;
    matching.fail("");
    matched = { nodes: [], more: false };
    if (text.trim()) {
      added.clear();
      try {
        const { nodes, page } = await get("nodes", { where: text.trim(), limit: MATCHED });
        if (mine !== turn) return;
        matched = { nodes, more: page.has_more };
      } catch (error) {
        if (mine !== turn) return;
        const at = error.validation_errors?.[0]?.column;
        matching.fail(error.message + (at && !/column/.test(error.message) ? ` (column ${at})` : ""));
      }
    }
    draw();
  }
  function draw() {
    replace(chips, [...added.values()].map((each) => h("span", { class: "chip" }, visible(each.name),
      button("\u00d7", () => {
        added.delete(each.device_id);
        draw();
        name.focus();
      }, { class: "quiet", "aria-label": `Without ${visible(each.name)}` }))));
    chips.hidden = !added.size;
    const text = expression.value.trim();
    replace(count, text && (matched.more ? `= more than ${MATCHED} devices`
      : `= ${counted(matched.nodes.length, "device")}`));
    changed();
  }
  const devices = () => (expression.value.trim() ? matched.nodes : [...added.values()]);
  return {
    element: h("fieldset", { class: "targets" }, h("legend", null, "On"), chips, named, options, matching, count),
    add, where, devices,
    stop: () => clearTimeout(timer),
    chosen: () => (expression.value.trim() ? { where: expression.value.trim() } : { targets: [...added.keys()] }),
    words() {
      const its = devices();
      if (matched.more) return "Run on all of them";
      return its.length === 1 ? `Run on ${visible(its[0].name) || shortId(its[0].device_id)}`
        : its.length ? `Run on ${counted(its.length, "device")}` : "Run";
    },
    check() {
      if (devices().length) return true;
      (expression.value.trim() ? matching : named).fail("No device is chosen.");
      (expression.value.trim() ? expression : name).focus();
      return false;
    },
  };
}
