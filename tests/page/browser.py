"""Somebody at the page: what they do, and what the browser would say against the page."""

from __future__ import annotations

import json
import os
import shutil
from importlib.resources import files
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Locator, Request, expect

from tests.integration.house import Gateway
from tests.integration.processes import Ran

LIMIT_MS = 20_000
NAME = "home.example.org"
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
expect.set_options(timeout=LIMIT_MS)


def program() -> str | None:
    """The browser of this machine."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


def flags() -> list[str]:
    """The gateway's name leads to this machine; Chromium has no sandbox where root runs it."""
    alone = ["--no-sandbox"] if os.geteuid() == 0 else []
    return [*alone, f"--host-resolver-rules=MAP {NAME} 127.0.0.1"]


def link_from(made: Ran) -> str:
    """The link that ``palyra console login --json`` printed."""
    assert made.code == 0, made
    return str(json.loads(made.out)["link"])


def sign_in_link(gateway: Gateway) -> str:
    """A link for whoever owns the gateway."""
    return link_from(gateway.cli("console", "login", "--json"))


class Visitor:
    """One browser with nothing in it, and all that it was told to fetch or complained of."""

    def __init__(self, browser: Browser, origin: str, **options: Any) -> None:
        self.origin = origin
        self.context = browser.new_context(ignore_https_errors=True, **options)
        self.context.set_default_timeout(LIMIT_MS)
        self.faults: list[str] = []
        self.asked: list[Request] = []
        self.context.on("request", self._asked)
        self.context.on("console", self._said)
        self.context.on("weberror", lambda error: self.faults.append(str(error.error)))
        self.page = self.context.new_page()

    def _asked(self, request: Request) -> None:
        self.asked.append(request)
        if not request.url.startswith((self.origin + "/", f"blob:{self.origin}/")):
            self.faults.append(f"asked somebody else: {request.url}")

    def _said(self, message: ConsoleMessage) -> None:
        # A violation of the content security policy is an error there, too.
        if message.type in ("error", "warning"):
            self.faults.append(f"{message.text} ({message.location})")

    def forgive(self, *texts: str) -> None:
        """Forget complaints that are as they should be: of a refusal that was asked for, or of
        what was on its way while they signed out."""
        self.faults = [each for each in self.faults if not any(text in each for text in texts)]

    def close(self) -> None:
        """End it; the test fails where the browser had to complain, or went elsewhere."""
        self.context.close()
        assert not self.faults, "\n".join(self.faults)

    # -- what they do -----------------------------------------------------------------------

    def sign_in(self, link: str) -> Visitor:
        """Open a link and say yes."""
        self.page.goto(link)
        self.button("Sign in").click()
        self.heading("Devices")
        return self

    def go(self, path: str, heading: str) -> Visitor:
        """Open an address of the page, as from a bookmark."""
        self.page.goto(self.origin + path)
        self.heading(heading)
        return self

    def section(self, name: str) -> Visitor:
        """Go there by the navigation, without a reload."""
        self.page.get_by_role("navigation", name="Views").get_by_role("link", name=name).click()
        self.heading(name)
        return self

    # -- what they see ----------------------------------------------------------------------

    def heading(self, text: str) -> None:
        """The view's heading is there."""
        expect(self.page.get_by_role("heading", level=1)).to_contain_text(text)

    def button(self, name: str) -> Locator:
        """A button by what it says."""
        return self.page.get_by_role("button", name=name, exact=True)

    def link(self, name: str) -> Locator:
        """A link by what it says."""
        return self.main.get_by_role("link", name=name, exact=True)

    @property
    def main(self) -> Locator:
        """The view."""
        return self.page.locator("#main")

    @property
    def dialog(self) -> Locator:
        """The question that stops."""
        return self.page.get_by_role("dialog")

    def row(self, text: str) -> Locator:
        """The rows that have a text."""
        return self.main.get_by_role("row").filter(has_text=text)

    def fact(self, term: str) -> Locator:
        """What stands beside a term in a list of facts."""
        terms = self.page.locator("dt").filter(has_text=term)
        return self.main.locator("dl > div").filter(has=terms).locator("dd").first

    def says(self, text: str) -> None:
        """The page says it somewhere in the view."""
        expect(self.main).to_contain_text(text)

    def told(self, text: str) -> None:
        """The page says it at the bottom, for some seconds."""
        expect(self.page.locator("#said")).to_contain_text(text)

    @property
    def focused(self) -> str:
        """What has the focus: its text, or its label."""
        return str(
            self.page.evaluate(
                "() => { const e = document.activeElement;"
                " return e.getAttribute('aria-label') || e.labels?.[0]?.textContent"
                " || e.textContent; }"
            )
        ).strip()

    def wider_than_screen(self) -> str:
        """What makes the view scroll sideways; nothing where it does not."""
        return str(self.page.evaluate(_SIDEWAYS))


_SIDEWAYS = """
() => {
  const root = document.documentElement, wide = root.clientWidth;
  if (root.scrollWidth <= wide && document.body.scrollWidth <= wide) return "";
  const found = [...document.querySelectorAll("body *")].filter((each) => {
    const { right, width } = each.getBoundingClientRect();
    return width && right > wide + 0.5 && !each.closest(".scroll, pre, .tabs, .unseen");
  }).map((each) => each.tagName + "." + each.className);
  return `${root.scrollWidth} > ${wide}: ${found.slice(0, 5)}`;
}
"""


def axe_source() -> str:
    """axe-core, as its Python package carries it."""
    package = files("axe_playwright_python")
    return package.joinpath("axe.min.js").read_text(encoding="utf-8")
