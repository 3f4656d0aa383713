/** Addresses and the views behind them. */
import { problem as refusal, h, replace } from "./dom.js";

/** Pattern, module of views/, section of the navigation. */
const ROUTES = [
  [/^\/(?:devices)?$/, "devices", "devices"],
  [/^\/devices\/([^/]+)$/, "device", "devices"],
  [/^\/pairing$/, "pairing", "pairing"],
  [/^\/approvals(?:\/([^/]+))?$/, "approvals", "approvals"],
  [/^\/jobs$/, "jobs", "jobs"],
  [/^\/(jobs|fanouts)\/([^/]+)$/, "job", "jobs"],
  [/^\/run$/, "run", "devices"],
  [/^\/audit$/, "audit", "audit"],
  [/^\/login$/, "login", ""],
];

let app = null, shown = null, turn = 0;

/** The path's own view, and what it says: `{id, kind, query}`; null where there is none. */
export function resolve(path) {
  for (const [pattern, name, section] of ROUTES) {
    const found = pattern.exec(path);
    if (found) {
      const ids = found.slice(1).filter(Boolean).map(decodeURIComponent);
      return { name, section, id: ids.at(-1) ?? "", kind: ids.length > 1 ? ids[0] : "" };
    }
  }
  return null;
}

/**
 * Begin to serve addresses.
 * @param {object} its what every view is given (see main.js)
 */
export function start(its) {
  app = its;
  addEventListener("popstate", () => show(false));
  document.addEventListener("click", follow);
}

/** Go to an address of the console; `replace` forgets the present one. */
export function go(path, { replace: instead = false } = {}) {
  history[instead ? "replaceState" : "pushState"](null, "", path);
  return show(true);
}

/** A link inside the console is followed without leaving the page. */
function follow(event) {
  const anchor = event.target.closest?.("a[href]");
  if (!anchor || event.defaultPrevented || event.button || anchor.target || anchor.download) return;
  if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const url = new URL(anchor.href);
  if (url.origin !== location.origin || !resolve(url.pathname) || url.hash) return;
  event.preventDefault();
  go(url.pathname + url.search);
}

/**
 * Show the view of the present address.
 *
 * It is made beside the old one, which stays until the new one has its rows; a view module exports
 * `title(params)` and `async render(main, params, app)`, which may give `{onLive(event), gap(),
 * leave()}`.  `params` is `{id, kind, query: URLSearchParams}`.
 */
export async function show(focus = true) {
  const mine = ++turn;
  const at = resolve(location.pathname);
  const main = h("div", { class: "view" });
  const own = Object.assign(Object.create(app), {
    title: (text) => { if (mine === turn) document.title = `${text} - Palyra`; },
  });
  let title = "Not found", made = {};
  try {
    if (!at) throw new Error("There is no such page.");
    const view = await import(`./views/${at.name}.js`);
    const params = { ...at, query: new URLSearchParams(location.search) };
    title = view.title(params);
    own.title(title);
    made = (await view.render(main, params, own)) ?? {};
  } catch (error) {
    if (error.status === 401) return;
    if (error.status === undefined) console.error(error);
    replace(main, h("h1", null, title), refusal(error));
  }
  if (mine !== turn) return made.leave?.();
  shown?.leave?.();
  shown = made;
  app.entered(at);
  replace(document.getElementById("main"), main);
  if (focus) {
    scrollTo(0, 0);
    const heading = main.querySelector("h1");
    heading?.setAttribute("tabindex", "-1");
    heading?.focus({ preventScroll: true });
  }
}

/** The view that is shown hears nothing any more. */
export function leave() {
  shown?.leave?.();
  shown = null;
}

/** What the view that is shown hears. */
export const hear = (event) => shown?.onLive?.(event);
export const missed = () => shown?.gap?.();
