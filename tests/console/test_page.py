"""The page: its shell, and what holds for every file that it is made of."""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import pytest

from palyra.console.assets import ROOT, read_assets
from palyra.console.page import SECTIONS, PageShell

BUDGET = 60 * 1024
STATIC = Path(str(files("palyra.console").joinpath("static")))
MODULES = sorted(path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*.js"))
SHEETS = sorted(path.name for path in STATIC.glob("*.css"))
PATHS = {
    "/": "devices",
    "/devices": "devices",
    "/devices/01M80NKQCNX4K7QM2ZT9B3FVHD": "device",
    "/pairing": "pairing",
    "/approvals": "approvals",
    "/approvals/01M80NKQCNX4K7QM2ZT9B3FVHD": "approvals",
    "/jobs": "jobs",
    "/jobs/01M80NKQCNX4K7QM2ZT9B3FVHD": "job",
    "/fanouts/01M80NKQCNX4K7QM2ZT9B3FVHD": "job",
    "/run": "run",
    "/audit": "audit",
    "/login": "login",
}
MARKUP = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|DOMParser"
    r"|\beval\b|new Function|setTimeout\(\s*[\"'`]|srcdoc|javascript:|setAttribute\(\s*[\"']style"
)
IMPORT = re.compile(r'^(?:import|export)\s*(?:[\w*{][^;"]*?\sfrom\s*)?"([^"]+)"', re.MULTILINE)


class Elements(HTMLParser):
    """Every element of a document with its attributes, and the text of scripts and styles."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.inline = ""
        self._within = ""
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._within = tag

    def handle_data(self, data: str) -> None:
        if self._within in ("script", "style"):
            self.inline += data.strip()

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture(scope="module")
def shell() -> PageShell:
    return PageShell()


def page_of(shell: PageShell, path: str) -> bytes:
    page = shell.render(path)
    assert page is not None
    return page


def source(name: str) -> str:
    return (STATIC / name).read_text(encoding="utf-8")


def imported_from(name: str, imported: str) -> str:
    """What a module means by an import, from the root of all modules."""
    path = (STATIC / name).parent.joinpath(imported).resolve()
    return path.relative_to(STATIC).as_posix()


def needs(name: str) -> set[str]:
    """A module and all that it imports, and they import."""
    found, new = set[str](), {name}
    while new:
        found |= new
        new = {imported_from(each, path) for each in new for path in IMPORT.findall(source(each))}
        new -= found
    return found


# -- the shell ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "view"), PATHS.items())
def test_every_address_has_its_page(shell: PageShell, path: str, view: str) -> None:
    """It says which view it is of, marks its section, and fetches the view's module at once."""
    page = Elements(page_of(shell, path))
    (body,) = page.named("body")
    assert body["data-view"] == view
    current = [each["data-section"] for each in page.named("a") if "aria-current" in each]
    assert len(current) <= 1 and set(current) <= set(SECTIONS)
    preloaded = {each["href"] for each in page.named("link") if each["rel"] == "modulepreload"}
    assert f"{ROOT}views/{view}.js" in preloaded


@pytest.mark.parametrize(
    "path",
    ["/nothing", "/devices/a/b", "/devices/", "//", "", "/jobs/", "/approvals/a/b", "/Login"],
)
def test_another_address_has_none(shell: PageShell, path: str) -> None:
    """It is no page, so that the site can say that it is not found."""
    assert shell.render(path) is None


@pytest.mark.parametrize("path", PATHS)
def test_the_shell_keeps_the_content_policy(shell: PageShell, path: str) -> None:
    """No script, style or handler stands in it, and it names only files that are served."""
    page, served = Elements(page_of(shell, path)), read_assets()
    assert page.inline == "" and not page.named("style")
    for tag, attributes in page.found:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
        for name in ("src", "href"):
            target = attributes.get(name)
            if target and target.startswith(ROOT):
                assert target in served
            elif target:
                assert re.match(r"/(?!/)|#", target), target


def test_the_shell_has_its_landmarks(shell: PageShell) -> None:
    """Header, navigation, main, a skip link, a title and a language; the regions that speak."""
    page = Elements(page_of(shell, "/devices"))
    tags = [tag for tag, _ in page.found]
    assert all(tags.count(tag) == 1 for tag in ("header", "nav", "main", "title"))
    assert page.named("html")[0]["lang"] == "en"
    assert page.named("a")[0]["href"] == "#main"
    roles = {each.get("id"): each.get("role") or each.get("aria-live") for _, each in page.found}
    assert (roles["told"], roles["alarm"], roles["said"]) == ("polite", "alert", "status")


def test_the_shell_and_the_router_know_the_same_addresses(shell: PageShell) -> None:
    """Each view of the page has a route in the browser and a module."""
    views = set(re.findall(r'\$/, "(\w+)", "\w*"\]', source("router.js")))
    assert views == set(PATHS.values())
    assert {f"views/{view}.js" for view in views} == {
        name for name in MODULES if name.startswith("views/")
    }


# -- every file -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODULES)
def test_a_module_parses_no_markup(name: str) -> None:
    """What a device says becomes text and nothing else: there is no way to make markup of it."""
    assert not MARKUP.findall(source(name))


@pytest.mark.parametrize("name", MODULES)
def test_what_a_module_imports_is_there(name: str) -> None:
    """Every import is a file beside it: nothing is built, nothing comes from elsewhere."""
    for imported in IMPORT.findall(source(name)):
        assert imported.startswith("."), imported
        assert imported_from(name, imported) in MODULES


def test_imports_are_seen() -> None:
    """The test above looks at something."""
    assert "dom.js" in needs("views/device.js") and "words.js" in needs("views/device.js")


@pytest.mark.parametrize("name", [*MODULES, *SHEETS, "icon.svg"])
def test_nothing_is_loaded_from_elsewhere(name: str) -> None:
    """No address of another origin is in any file, the name of SVG itself aside."""
    text = source(name).replace("http://www.w3.org/2000/svg", "")
    assert not re.findall(r"[\"'(`](?:https?:)?//[a-z]|@import|url\(", text)


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_every_module_parses() -> None:
    """Each one is JavaScript."""
    for name in MODULES:
        command = ["node", "--check", "--input-type=module"]
        run = subprocess.run(command, input=source(name), capture_output=True, text=True)
        assert run.returncode == 0, f"{name}: {run.stderr}"


@pytest.mark.parametrize(("path", "view"), PATHS.items())
def test_a_first_visit_is_small(shell: PageShell, path: str, view: str) -> None:
    """The document, its style and every module of the view, as they are sent: within 60 KiB."""
    assets, page = read_assets(), page_of(shell, path)
    named = {"theme.js", "icon.svg", *SHEETS, *needs("main.js"), *needs(f"views/{view}.js")}
    sent = sum(len(assets[ROOT + name].zipped) for name in named)
    assert sent + len(gzip.compress(page)) <= BUDGET


def test_what_a_view_needs_is_fetched_at_once(shell: PageShell) -> None:
    """No module of a first visit waits until another one has come and names it."""
    for path, view in PATHS.items():
        links = Elements(page_of(shell, path)).named("link")
        at_once = {str(each["href"]) for each in links if each["rel"] == "modulepreload"}
        assert at_once | {f"{ROOT}main.js"} == {
            f"{ROOT}{name}" for name in needs("main.js") | needs(f"views/{view}.js")
        }


# -- colours --------------------------------------------------------------------------------------


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance of ``#rrggbb``."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """WCAG 2.2, contrast ratio."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def palettes() -> list[dict[str, str]]:
    """The colours of each block that sets them: light, dark by the system, dark by choice."""
    blocks = re.findall(r"\{([^{}]*--bg:[^{}]*)\}", source("tokens.css"))
    return [dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6});", block)) for block in blocks]


@pytest.mark.parametrize("colours", palettes())
def test_colours_can_be_read(colours: dict[str, str]) -> None:
    """Words have a contrast of 4.5 or more on both grounds, borders of controls 3 (WCAG AA)."""
    for name in ("text", "dim", "link", "ok", "warn", "bad", "unknown", "line"):
        least = 3.0 if name == "line" else 4.5
        for ground in ("bg", "surface"):
            assert contrast(colours[name], colours[ground]) >= least, (name, ground)


def test_dark_is_one_palette() -> None:
    """Dark by the system and dark by choice are the same colours."""
    light, *dark = palettes()
    assert len(dark) == 2 and dark[0] == dark[1] != light
