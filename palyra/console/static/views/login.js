/** Signing in: a link's token lies behind the #, where no server and no referrer sees it. */
import { post, setToken, token } from "../api.js";
import { button, copier, h, problem, replace } from "../dom.js";

const COMMAND = "palyra console login";

export const title = () => "Sign in";

export async function render(main, params, app) {
  const secret = location.hash.slice(1);
  if (secret) history.replaceState(null, "", "/login");
  if (!secret) return replace(main, card("Sign in", ...how()));
  try {
    const seen = await post("auth/login/preview", { token: secret });
    replace(main, question(seen, secret, app));
  } catch (error) {
    replace(main, card("Sign in", problem(error), ...how()));
  }
  return {};
}

const card = (heading, ...children) =>
  h("section", { class: "card narrow" }, h("h1", null, heading), ...children);

const how = () => [
  h("p", null, "On a machine where you are an operator, run"),
  h("p", { class: "command" }, h("code", null, COMMAND), copier(COMMAND)),
  h("p", { class: "dim" }, "and open the link that it prints. It works once, for two minutes."),
  token() && h("p", null, h("a", { href: "/devices" }, "You may still be signed in.")),
];

function question(seen, secret, app) {
  const refused = h("div");
  const go = button("Sign in", async () => {
    go.disabled = true;
    try {
      const answer = await post("auth/login", { token: secret });
      setToken(answer.csrf_token);
      app.signedIn(answer.caller);
      app.go("/devices", { replace: true });
    } catch (error) {
      replace(refused, problem(error), ...how());
      go.hidden = true;
    }
  }, { class: "main" });
  return card("Sign in",
    h("p", null, "Sign in to ", h("b", null, seen.gateway), " as ", h("b", null, seen.name),
      ` (${seen.role})?`),
    refused, h("div", { class: "actions" }, go));
}
