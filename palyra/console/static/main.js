/** The console's page: who is signed in, the frame around every view, and what is live in it. */
import { get, post, setToken, token, tokenChanged } from "./api.js";
import { alarm, button, h, link, replace, say, setCounting, state, tell, tick } from "./dom.js";
import * as keys from "./keys.js";
import * as live from "./live.js";
import * as router from "./router.js";
import { clock, counted, FINAL, thousands } from "./words.js";

const at = (id) => document.getElementById(id);

/**
 * What every view is given as `app`.
 * @property {object|null} caller models.CallerItem
 * @property {object} counts models.Counts, the newest; empty before the first
 * @property {(right: string) => boolean} may whether the role has read, submit, decide, administer
 * @property {(shown: {devices?, jobs?, topics?}) => void} show what the view shows from now on: the
 *   view's `onLive(event)` hears of it, `gap()` says to fetch again
 * @property {(text: string) => void} title of the document (a view is given its own app for it)
 */
const app = {
  caller: null,
  counts: {},
  go: router.go,
  may: (right) => app.caller?.rights.includes(right) ?? false,
  show: (shown) => shell?.show(withOurs(shown)),
  entered,
  signedIn,
};

let shell = null, started = false, saidCounts = "", saidAt = 0;

const withOurs = (shown) => ({ ...shown, topics: [...new Set(["approvals", ...shown.topics ?? []])] });

// -- signing in and out ---------------------------------------------------------------------------

/** Somebody is signed in: `caller` as the gateway knows them. */
function signedIn(caller) {
  app.caller = caller;
  document.body.classList.remove("signed-out");
  at("bar").hidden = true;
  replace(at("gateway"), caller.gateway || "Palyra");
  replace(at("who"), h("b", null, caller.name), ` ${caller.role}`);
  document.body.classList.add("signed-in");
  shell ??= live.watch(withOurs({}), { event: heard, gap: router.missed });
  live.start();
}

/** Nobody is, not any more: what is shown stays, and says what to do. */
function signedOut() {
  if (!started || document.body.classList.contains("signed-out")) return;
  if (!app.caller && location.pathname === "/login") return;
  live.stop();
  const was = app.caller;
  app.caller = null;
  document.body.classList.add("signed-out");
  document.body.classList.remove("signed-in");
  setToken(null);
  if (!was || !at("main").childElementCount) return router.go("/login", { replace: true });
  setCounting(false);
  bar("Signed out. To sign in again run ", h("code", null, "palyra console login"),
    " and open its link.");
}

async function signOut() {
  live.stop();
  router.leave();
  await post("auth/logout").catch(() => {});
  setToken(null);
  location.assign("/login");
}

async function boot() {
  document.addEventListener("signed-out", signedOut);
  tokenChanged(() => token() && location.reload());
  if (location.pathname !== "/login" && token()) {
    try {
      signedIn((await get("auth/self")).caller);
    } catch (error) {
      if (error.status === 401) return start("/login");
      bar(error.message, " ", button("Try again", () => location.reload(), { class: "small" }));
      return undefined;
    }
  } else if (location.pathname !== "/login") return start("/login");
  return start();
}

function start(path) {
  if (path) history.replaceState(null, "", path);
  if (!started) router.start(app);
  started = true;
  return router.show(false);
}

// -- the frame ------------------------------------------------------------------------------------

/** A view has come: its section is marked, and nothing of the last one is watched. */
function entered(its) {
  for (const each of document.querySelectorAll("#nav a")) {
    const here = each.dataset.section === its?.section;
    if (here) each.setAttribute("aria-current", "page");
    else each.removeAttribute("aria-current");
  }
  document.body.dataset.view = its?.name ?? "";
}

function bar(...children) {
  replace(at("bar"), ...children);
  at("bar").hidden = false;
}

document.addEventListener("palyra:live", ({ detail }) => {
  if (!app.caller) return;
  setCounting(detail.live);
  document.body.classList.toggle("not-live", !detail.live);
  if (detail.live) {
    at("bar").hidden = true;
    return tick();
  }
  bar(`Not live since ${clock(detail.since)}, reconnecting`);
  return alarm("The page is not live any more; reconnecting.");
});

// -- what is live in it ---------------------------------------------------------------------------

function heard(event) {
  if (event.kind === "counts") counted_(event.counts);
  if (event.kind === "approval") asked(event.approval);
  if (event.kind === "job" && FINAL.has(event.job.state) && document.body.dataset.view === "job") {
    tell(`${event.job.capability} on ${event.job.device_name}: ${state(event.job.state).textContent}`);
  }
  router.hear(event);
}

function counted_(counts) {
  app.counts = counts;
  const show = (name, count, word) => {
    const place = document.querySelector(`#nav [data-count=${name}]`);
    replace(place, count ? `${thousands(count)}${word}` : "");
  };
  show("pairing", counts.pairing_pending, "");
  show("approvals", counts.approvals_pending, "");
  show("jobs", counts.jobs_unfinished, " running");
  const text = `${counted(counts.devices, "device")}, ${thousands(counts.online)} online, ` +
    `${counted(counts.pairing_pending + counts.approvals_pending, "approval")} waiting`;
  if (text !== saidCounts && Date.now() - saidAt > 5000) {
    if (saidCounts) tell(text);
    [saidCounts, saidAt] = [text, Date.now()];
  }
}

const announced = new Set();

/** Something new waits for an operator. */
function asked(approval) {
  if (approval.state !== "pending" || announced.has(approval.approval_id)) return;
  announced.add(approval.approval_id);
  if (!app.may("decide")) return;
  const { pairing, call } = approval;
  const text = pairing ? `${pairing.name} asks to be paired`
    : `${call.requested_by} asks for ${call.capability}`;
  const path = pairing ? "/pairing" : `/approvals/${approval.approval_id}`;
  if (location.pathname !== path) say(h("span", null, `${text}. `, link(path, "Look")));
}

// -- the head -------------------------------------------------------------------------------------

const THEMES = { "": "system", light: "light", dark: "dark" };

function showTheme() {
  const theme = document.documentElement.dataset.theme ?? "";
  at("theme").setAttribute("aria-label", `Theme: ${THEMES[theme]}`);
  at("theme").title = `Theme: ${THEMES[theme]}`;
}

function turnTheme() {
  const order = Object.keys(THEMES), root = document.documentElement;
  const next = order[(order.indexOf(root.dataset.theme ?? "") + 1) % order.length];
  if (next) root.dataset.theme = next;
  else delete root.dataset.theme;
  localStorage.setItem("palyra-theme", next);
  showTheme();
  tell(`Theme: ${THEMES[next]}`);
}

at("theme").addEventListener("click", turnTheme);
at("keys").addEventListener("click", keys.help);
at("sign-out").addEventListener("click", signOut);
at("search").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = new FormData(event.target).get("q").trim();
  router.go("/devices" + (text ? `?q=${encodeURIComponent(text)}` : ""));
});
document.addEventListener("click", ({ target }) => {
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(target)) menu.open = false;
  }
});
addEventListener("unhandledrejection", (event) => {
  const { reason } = event;
  if (reason?.status === undefined) return;
  event.preventDefault();
  if (reason.status !== 401) say(reason.message);
});
setInterval(tick, 1000);
keys.start(turnTheme);
showTheme();
boot();
