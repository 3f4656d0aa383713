"""The page's shell: one document for every address of the page, into which its modules draw.

It holds nothing about anybody.  A navigation carries the session's cookie but cannot carry the CSRF
token, and a cookie alone never gets an answer (ACCESS, Console access 5): the rows come with the
first request that the modules make.
"""

from __future__ import annotations

import posixpath
import re
from importlib.resources import files
from importlib.resources.abc import Traversable

import attrs
from jinja2 import Environment, PackageLoader, StrictUndefined

SECTIONS = ("devices", "pairing", "approvals", "jobs", "audit")
"""The navigation, in its order."""

_SHEETS = ("tokens.css", "app.css", "views.css")
_MAIN = "main.js"
_IMPORT = re.compile(r'^(?:import|export)\s*(?:[\w*{][^;"]*?\sfrom\s*)?"([^"]+)"', re.MULTILINE)
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
        static = files("palyra.console").joinpath("static")
        self._drawn = {
            each.view: template.render(
                title=each.title,
                view=each.view,
                section=each.section,
                sections=SECTIONS,
                sheets=_SHEETS,
                modules=_modules(static, each.view),
            ).encode()
            for each in _PAGES
        }

    def render(self, path: str) -> bytes | None:
        """The document (HTML, UTF-8) of a decoded path without its query; None: no such page."""
        for each in _PAGES:
            if each.path.fullmatch(path):
                return self._drawn[each.view]
        return None


def _modules(static: Traversable, view: str) -> list[str]:
    """What a view needs besides main.js, and they need: fetched at once, not one after another."""
    found, new = set[str](), {_MAIN, f"views/{view}.js"}
    while new:
        found |= new
        new = {each for name in new for each in _imports(static, name)} - found
    return sorted(found - {_MAIN})


def _imports(static: Traversable, name: str) -> list[str]:
    source = static.joinpath(*name.split("/")).read_text(encoding="utf-8")
    here = posixpath.dirname(name)
    return [posixpath.normpath(posixpath.join(here, each)) for each in _IMPORT.findall(source)]
