/** Tabs: one panel of several, filled when it is opened. */
import { freshId, h, replace } from "./dom.js";

/**
 * @param {Object<string, [string, () => (Node|Node[])]>} panels name: its word, and what fills it
 * @param {string|null} first the one that is open; the first one where there is no such
 * @param {(name: string) => void} [opened]
 * @returns {{element: HTMLElement, at: () => string, open: (name: string) => void}}
 */
export function tabs(panels, first, opened = () => {}) {
  const names = Object.keys(panels), id = freshId("tabs");
  let at = names.includes(first) ? first : names[0];
  const panel = h("div", { role: "tabpanel", id: `${id}-panel`, tabindex: "0" });
  const each = (name) => h("button", {
    type: "button", role: "tab", id: `${id}-${name}`, "aria-controls": `${id}-panel`,
    on: { click: () => open(name), keydown: move },
  }, panels[name][0]);
  const buttons = names.map(each);

  function open(name) {
    at = name;
    names.forEach((its, index) => {
      buttons[index].setAttribute("aria-selected", its === at);
      buttons[index].tabIndex = its === at ? 0 : -1;
    });
    panel.setAttribute("aria-labelledby", `${id}-${at}`);
    replace(panel, panels[at][1]());
    opened(at);
  }

  function move(event) {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    const index = (names.indexOf(at) + by + names.length) % names.length;
    open(names[index]);
    buttons[index].focus();
  }

  open(at);
  return {
    element: h("div", { class: "tabbed" }, h("div", { class: "tabs", role: "tablist" }, buttons), panel),
    at: () => at, open,
  };
}
