"""The page's shell: one document for every address of the page, into which its modules draw.

It holds nothing about anybody.  A navigation carries the session's cookie but cannot carry the CSRF
token, and a cookie alone never gets an answer (ACCESS, Console access 5): the rows come with the
first request that the modules make.
"""

from __future__ import annotations

import re

import attrs
from jinja2 import Environment, PackageLoader, StrictUndefined

SECTIONS = ("devices", "pairing", "approvals", "jobs", "audit")
"""The navigation, in its order."""

_SHEETS = ("tokens.css", "app.css", "views.css")
_ALWAYS = (
    "api.js",
    "dialogs.js",
    "dom.js",
    "keys.js",
    "live.js",
    "router.js",
    "words.js",
)
_ROWS = "table.js"
_ID = r"[^/]+"


@attrs.frozen
class _Page:
    """The addresses of one view module, its title, and the section that it belongs to."""

    path: re.Pattern[str]
    view: str
    title: str
    section: str = ""


def _page(path: str, view: str, title: str, section: str = "") -> _Page:
    return _Page(re.compile(path), view, title, section)


_PAGES = (
    _page(r"/(devices)?", "devices", "Devices", "devices"),
    _page(rf"/devices/{_ID}", "device", "Devices", "devices"),
    _page(r"/pairing", "pairing", "Pairing", "pairing"),
    _page(rf"/approvals(/{_ID})?", "approvals", "Approvals", "approvals"),
    _page(r"/jobs", "jobs", "Jobs", "jobs"),
    _page(rf"/(jobs|fanouts)/{_ID}", "job", "Jobs", "jobs"),
    _page(r"/run", "run", "Run", "devices"),
    _page(r"/audit", "audit", "Audit", "audit"),
    _page(r"/login", "login", "Sign in"),
)


class PageShell:
    """Draws the shell; each view's is drawn once."""

    def __init__(self) -> None:
        environment = Environment(
            loader=PackageLoader("palyra.console"),
            autoescape=True,
            undefined=StrictUndefined,
        )
        template = environment.get_template("page.html")
        self._drawn = {
            each.view: template.render(
                title=each.title,
                view=each.view,
                section=each.section,
                sections=SECTIONS,
                sheets=_SHEETS,
                modules=_modules(each.view),
            ).encode()
            for each in _PAGES
        }

    def render(self, path: str) -> bytes | None:
        """The document (HTML, UTF-8) of a decoded path without its query; None: no such page."""
        for each in _PAGES:
            if each.path.fullmatch(path):
                return self._drawn[each.view]
        return None


def _modules(view: str) -> tuple[str, ...]:
    """What the view's own module needs besides main.js, to be fetched at once."""
    rows = (_ROWS,) if view in ("devices", "device", "jobs", "audit") else ()
    return (*_ALWAYS, *rows, f"views/{view}.js")
