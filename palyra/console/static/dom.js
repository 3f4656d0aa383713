/** Elements, times that count, and what is said aloud.
 *
 * Text only ever becomes a text node: nothing here, or in any view, parses markup.
 */
import { age, clock, countdown, exactly, now, stateWord, visible } from "./words.js";

const PROPERTIES = new Set(["value", "checked", "indeterminate"]);

/**
 * An element.
 * @param {string} tag
 * @param {object|null} attrs attributes; `class` is a text, `on` maps events to listeners, `style`
 *   maps CSS properties to values (by CSSOM: the policy forbids style attributes); null, undefined
 *   and false leave an attribute out, true sets it empty
 * @param {...(Node|string|number|null|false|Array)} children null and false are left out
 * @returns {HTMLElement}
 */
export function h(tag, attrs, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attrs ?? {})) {
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (name === "style") {
      for (const [key, its] of Object.entries(value)) element.style.setProperty(key, its);
    } else if (PROPERTIES.has(name)) element[name] = value;
    else if (value === true) element.setAttribute(name, "");
    else if (value != null && value !== false) element.setAttribute(name, value);
  }
  element.append(...nodes(children));
  return element;
}

const nodes = (children) =>
  children.flat(Infinity).filter((each) => each != null && each !== false)
    .map((each) => (each instanceof Node ? each : String(each)));

/** Put children in the place of all that `node` holds. */
export function replace(node, ...children) {
  node.replaceChildren(...nodes(children));
  return node;
}

/** A button; `attrs` as of h, `act` is its click. */
export const button = (text, act, attrs = {}) =>
  h("button", { type: "button", ...attrs, on: { click: act, ...attrs.on } }, text);

/** A link inside the console. */
export const link = (href, ...children) => h("a", { href }, ...children);

/** A state: its mark, hidden from readers, beside its word. */
export function state(name, waitingFor) {
  const { word, mark, tone } = stateWord(name, waitingFor);
  return badge(word, mark, tone);
}

/** Any word with a mark and a tone. */
export const badge = (word, mark, tone) =>
  h("span", { class: `state ${tone}` }, mark && h("span", { class: "mark", "aria-hidden": "true" }, mark),
    " ", word);

/** `4s ago`, which counts on while the page is live; `-` where there is no time. */
export const ago = (at_ms) => (at_ms == null ? "-" : timed("time", at_ms, { "data-at": at_ms }));

/** `0:06`, how long something lasts so far. */
export const running = (since_ms) =>
  h("span", { "data-since": since_ms, role: "timer" }, countdown(now() - since_ms));

/**
 * A countdown to a Unix time in ms.
 * @param {number} until_ms
 * @param {string} [warning] said aloud once 60 seconds are left
 */
export const left = (until_ms, warning) =>
  h("span", { class: "timer", role: "timer", "data-until": until_ms, "data-warning": warning },
    countdown(until_ms - now()));

/** A moment, with its full form to hover over. */
export const when = (at_ms) => (at_ms == null ? "-" : timed("time", at_ms, {}, clock(at_ms)));

const timed = (tag, at_ms, attrs, text = age(at_ms)) =>
  h(tag, { datetime: new Date(at_ms).toISOString(), title: exactly(at_ms), ...attrs }, text);

/** Whether ages count; they stand still while the page is not live. */
let counting = true;
export const setCounting = (on) => { counting = on; };

/** Once a second: move every age and countdown on. */
export function tick() {
  if (!counting || document.hidden) return;
  for (const each of document.querySelectorAll("[data-at],[data-until],[data-since]")) {
    const { at, until, since, warning } = each.dataset;
    const text = at ? age(+at) : since ? countdown(now() - since) : countdown(until - now());
    if (each.textContent !== text) each.textContent = text;
    if (warning && until - now() < 60000) {
      delete each.dataset.warning;
      if (until > now()) alarm(warning);
    }
  }
}

/** Say something politely, and show it for some seconds. */
export function say(text) {
  const region = document.getElementById("said");
  replace(region, h("p", { class: "toast" }, text));
  clearTimeout(say.timer);
  say.timer = setTimeout(() => replace(region), 8000);
}

/** Tell readers something without showing it: the page shows it anyway. */
export const tell = (text) => replace(document.getElementById("told"), text);

/** Interrupt: the connection is lost, an approval is about to end. */
export const alarm = (text) => replace(document.getElementById("alarm"), text);

/** A refusal: the sentence and what comes next. */
export const problem = (error) =>
  h("div", { class: "problem", role: "alert" },
    h("p", null, h("strong", { class: "bad" }, "error: "), visible(error.message)),
    error.hint && h("p", { class: "hint" }, "hint: ", visible(error.hint)));

/** A button that copies a text. */
export function copier(text, label = "Copy") {
  const its = button(label, async () => {
    await copy(text);
    replace(its, "Copied");
    setTimeout(() => replace(its, label), 2000);
  }, { class: "small" });
  return its;
}

/** Copy a text; over plain HTTP off localhost the clipboard is not there, then by selection. */
export async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = h("textarea", { value: text, class: "unseen", "aria-hidden": "true" });
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

/** A fact: its name and its value, for a `<dl class="facts">`. */
export const fact = (name, ...value) => h("div", null, h("dt", null, name), h("dd", null, ...value));

/** A bar: `share` 0 to 1, or null where it is not known. `text` says what it shows. */
export function bar(share, text, tone = "") {
  const known = share != null;
  const percent = Math.round(Math.max(0, Math.min(1, share ?? 0)) * 100);
  return h("div", {
    class: `bar ${tone} ${known ? "" : "pulse"}`, role: "progressbar", "aria-valuemin": "0",
    "aria-valuemax": "100", "aria-valuenow": known ? percent : null, "aria-label": text,
  }, h("div", { style: known ? { width: `${percent}%` } : {} }));
}

let numbers = 0;

/** An id that no other element of the page has. */
export const freshId = (stem) => `${stem}-${++numbers}`;

/**
 * A labelled control: a label above, a hint and an error tied to it.
 * @param {string} label
 * @param {HTMLElement} control an input, select or textarea
 * @param {string} [hint]
 * @returns {HTMLElement & {fail: (text: string) => void}} `fail("")` takes the error away
 */
export function field(label, control, hint) {
  const id = control.id || (control.id = freshId("field"));
  const error = h("p", { class: "error", id: `${id}-error` });
  const note = hint && h("p", { class: "dim hint", id: `${id}-hint` }, hint);
  control.setAttribute("aria-describedby", (hint ? `${id}-hint ` : "") + `${id}-error`);
  const whole = h("div", { class: "field" }, h("label", { for: id }, label), control, note, error);
  whole.fail = (text) => {
    replace(error, text);
    if (text) control.setAttribute("aria-invalid", "true");
    else control.removeAttribute("aria-invalid");
  };
  return whole;
}
