/** Questions that stop: a dialog that says the effect before anything is done. */
import { button, field, freshId, h, problem, replace } from "./dom.js";

/**
 * Show a dialog.
 * @param {string} title
 * @param {(close: (value?: any) => void) => Node[]} content
 * @returns {Promise<any>} what it was closed with; null where it was dismissed
 */
export function dialog(title, content, kind = "") {
  const opener = document.activeElement;
  const id = freshId("dialog");
  return new Promise((resolve) => {
    let answer = null;
    const close = (value = null) => {
      answer = value;
      box.close();
    };
    const box = h("dialog", { class: kind, "aria-labelledby": id, on: {
      close() {
        box.remove();
        opener?.focus?.();
        resolve(answer);
      },
    } }, h("h2", { id }, title), ...content(close));
    document.body.append(box);
    box.showModal();
  });
}

/**
 * Ask before something is done.
 * @param {object} asked
 * @param {string} asked.title `Revoke pi X4K7QM?`
 * @param {string} asked.effect what it will do, in sentences
 * @param {string} asked.action the word on the button
 * @param {boolean|string} [asked.reason] asks for a reason; a text says where it goes
 * @param {string} [asked.typed] a name that must be typed
 * @param {boolean} [asked.danger] the button is red
 * @param {Node} [asked.extra] more to see or to choose
 * @param {(reason: string) => Promise<any>} [asked.run] does it: the dialog stays until it is done,
 *   and shows a refusal
 * @returns {Promise<{reason: string, result?: any}|null>} null: it was not wanted
 */
export function confirm({ title, effect, action, reason, typed, danger, extra, run }) {
  const why = h("input", { type: "text", maxlength: "240", autocomplete: "off" });
  const name = h("input", { type: "text", autocomplete: "off", spellcheck: "false" });
  const refused = h("div");
  return dialog(title, (close) => {
    const go = h("button", { type: "submit", class: danger ? "danger" : "main", disabled: !!typed },
      action);
    if (typed) name.addEventListener("input", () => { go.disabled = name.value.trim() !== typed; });
    const submit = async (event) => {
      event.preventDefault();
      if (go.disabled) return;
      const answer = { reason: why.value.trim() };
      go.disabled = true;
      try {
        if (run) answer.result = await run(answer.reason);
        close(answer);
      } catch (error) {
        replace(refused, problem(error));
        go.disabled = false;
      }
    };
    return [
      h("form", { method: "dialog", on: { submit } },
        h("p", null, effect), extra,
        reason && field("Reason", why, reason === true ? "Kept in the audit log." : reason),
        typed && field(`Type ${typed} to confirm`, name),
        refused,
        h("div", { class: "actions" }, button("Keep as it is", () => close()), go)),
    ];
  }, danger ? "danger" : "");
}
