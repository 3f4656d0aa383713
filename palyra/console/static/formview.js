/** A capability's input: a form and JSON, which are two views of one value. */
import { visible } from "./words.js";
import { button, field, freshId, h, replace } from "./dom.js";
import { blank, formOf, typedFrom, valueOf } from "./form.js";
import { parsed, pretty } from "./json.js";

const RADIOS = 4;

/**
 * @returns {{element: HTMLElement, use: (schema: object|undefined, keep?: boolean) => void, read: () => any,
 *   fail: (problems: {field: string, problem: string}[]) => object[]}} `read` gives undefined where
 *   something is wrong, which is then shown; `fail` gives back what has no field here
 */
export function inputOf() {
  const area = h("textarea", { spellcheck: "false", autocomplete: "off", class: "mono", rows: "8" });
  const json = field("Input as JSON", area);
  const schemaPlace = h("div");
  const fieldPlace = h("div", { class: "fields" });
  const tabs = ["Form", "JSON"].map((text) => button(text, () => turn(text === "JSON"), { class: "tab" }));
  const bar = h("div", { class: "tabs", role: "group", "aria-label": "Input as" }, tabs);
  const element = h("section", { class: "input" }, bar, fieldPlace, h("div", { class: "json" }, json, schemaPlace));
  let form = null, typed = {}, drawn = new Map(), asJson = true;

  /** Begin with another schema; without one there is only JSON. `keep` what was typed as JSON. */
  function use(schema, keep = false) {
    const kept = keep && asJson && !["", "{}"].includes(area.value.trim());
    form = schema ? formOf(schema) : null;
    bar.hidden = !form;
    replace(schemaPlace, schema && h("details", { open: !form }, h("summary", null, "Schema"),
      h("pre", { tabindex: "0" }, pretty(schema).text)));
    typed = form ? blank(form.fields) : {};
    if (!kept) area.value = form ? "" : "{}";
    json.fail("");
    show(!form || kept);
  }
  /** What is in one view goes to the other, where it can be said there. */
  function turn(toJson) {
    if (toJson === asJson) return;
    if (toJson) area.value = pretty(valueOf(form.fields, typed).value).text;
    else {
      const { value, problem: wrong } = parsed(area.value || "{}");
      const next = wrong ? null : typedFrom(form.fields, value);
      if (!next) {
        json.fail(wrong ? sentence(wrong) : "The form cannot show this value.");
        return;
      }
      typed = next;
    }
    json.fail("");
    show(toJson);
  }
  function show(toJson) {
    asJson = toJson;
    tabs.forEach((tab, at) => tab.setAttribute("aria-pressed", String(toJson === (at === 1))));
    fieldPlace.hidden = toJson;
    element.querySelector(".json").hidden = !toJson;
    if (toJson) return;
    drawn = new Map();
    replace(fieldPlace, form.fields.length ? form.fields.map((each) => draw(each, typed, drawn))
      : h("p", { class: "dim" }, "It takes no input."));
  }
  /** The value, or undefined: what is wrong is shown at its place. */
  function read() {
    if (asJson) {
      const { value, problem: wrong } = parsed(area.value.trim() || "{}");
      json.fail(wrong ? sentence(wrong) : "");
      if (wrong) area.focus();
      return wrong ? undefined : value;
    }
    const { value, problems } = valueOf(form.fields, typed);
    fail(problems);
    return problems.length ? undefined : value;
  }
  /** Show what is wrong at its field; what has no field here is given back. */
  function fail(problems) {
    for (const each of drawn.values()) each.fail("");
    const places = problems.map((each) => [each, asJson ? null : placeOf(each)]);
    const placed = places.filter(([, place]) => place);
    for (const [, { its, text }] of placed.toReversed()) its.fail(sentence(text));
    placed[0]?.[1].its.control.focus();
    return places.filter(([, place]) => !place).map(([each]) => each);
  }
  /** Where a problem belongs, and its words there; that of an item to the field with its lines. */
  function placeOf({ field: path, problem }) {
    if (drawn.has(path)) return { its: drawn.get(path), text: problem };
    const [, list, number] = /^(.*)\[(\d+)\]$/.exec(path) ?? [];
    return drawn.has(list) ? { its: drawn.get(list), text: `line ${+number + 1} ${problem}` } : null;
  }
  return { element, use, read, fail };
}

const sentence = (problem) => visible(problem[0].toUpperCase() + problem.slice(1)).replace(/\.?$/, ".");

/** One field; what is typed goes to `typed`, and `drawn` finds it by its path. */
function draw(its, typed, drawn) {
  const label = visible(its.label) + (its.required ? " *" : "");
  if (its.kind === "group") {
    return h("fieldset", null, h("legend", null, label), its.help && h("p", { class: "dim" }, visible(its.help)),
      its.fields.map((each) => draw(each, typed[its.name], drawn)));
  }
  const hear = (read) => ({ input: ({ target }) => { typed[its.name] = read(target); } });
  if (its.kind === "flag") return flag(its, label, typed, drawn, hear((box) => box.checked));
  if (its.kind === "choice" && its.choices.length <= RADIOS) return radios(its, label, typed, drawn, hear);
  const control = controlOf(its, typed[its.name], hear((each) => each.value));
  if (its.required) control.setAttribute("aria-required", "true");
  const whole = field(label, control, hint(its));
  whole.control = control;
  drawn.set(its.path, whole);
  return whole;
}

const hint = (its) => [visible(its.help), its.kind === "lines" && "One a line.", range(its), pattern(its.item ?? its)]
  .filter(Boolean).join(" ");

const pattern = (its) => its.pattern && `Pattern: ${visible(its.pattern)}`;

function range({ min, max }) {
  if (min == null && max == null) return "";
  return min == null ? `At most ${max}.` : max == null ? `At least ${min}.` : `${min} to ${max}.`;
}

function controlOf(its, value, on) {
  if (its.kind === "lines") return h("textarea", { value, spellcheck: "false", on });
  if (its.kind === "choice") {
    return h("select", { on }, !its.required && h("option", { value: "" }, "-"), its.required && !value
      && h("option", { value: "" }, "Choose"), options(its).map(([text, each]) =>
      h("option", { value: each, selected: each === value }, text)));
  }
  const type = its.kind === "number" ? "text" : its.url ? "url" : "text";
  const inputmode = its.kind === "number" ? (its.whole ? "numeric" : "decimal") : null;
  return h("input", { type, inputmode, value, autocomplete: "off", spellcheck: "false", on });
}

const options = (its) => its.choices.map((each) =>
  [visible(typeof each === "string" ? each : JSON.stringify(each)), JSON.stringify(each)]);

function flag(its, label, typed, drawn, on) {
  const control = h("input", { type: "checkbox", checked: typed[its.name], on });
  const error = h("span", { class: "bad" });
  drawn.set(its.path, { control, fail: (text) => replace(error, text) });
  return h("label", { class: "check" }, control, h("span", null, label,
    its.help && h("span", { class: "dim" }, ` ${visible(its.help)}`), " ", error));
}

function radios(its, label, typed, drawn, hear) {
  const name = freshId("choice");
  const all = [...(its.required ? [] : [["not given", ""]]), ...options(its)];
  const inputs = all.map(([, value]) => h("input",
    { type: "radio", name, value, checked: value === typed[its.name], on: hear((each) => each.value) }));
  const error = h("p", { class: "bad" });
  drawn.set(its.path, { control: inputs[0], fail: (text) => replace(error, text) });
  return h("fieldset", null, h("legend", null, label), its.help && h("p", { class: "dim" }, visible(its.help)),
    h("div", { class: "tools" }, inputs.map((each, at) => h("label", { class: "check" }, each, all[at][0]))), error);
}
