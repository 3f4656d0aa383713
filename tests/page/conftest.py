"""A browser for the whole run, and somebody at it for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.house import House, opened

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.page.browser import Visitor

ALWAYS = "test_browser.py"
"""Says why the others are not here, where they are not."""


def missing(config: pytest.Config) -> str:
    """Why the page cannot be driven here; nothing where it can."""
    try:
        from tests.page import browser
    except ImportError:
        return "needs playwright: tox -e page"
    if config.pluginmanager.hasplugin("twisted"):
        return "playwright does not run beside a reactor: tox -e page"
    return "" if browser.program() else f"needs one of {', '.join(browser.PROGRAMS)}"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Without a browser there is nothing to import."""
    of_the_page = collection_path.name.startswith("test_") and collection_path.name != ALWAYS
    return True if of_the_page and missing(config) else None


@pytest.fixture(scope="session")
def browser(pytestconfig: pytest.Config) -> Iterator[Browser]:
    """Debian's Chromium, or the one that is there."""
    if reason := missing(pytestconfig):
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    from tests.page.browser import flags, program

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=program(), args=flags())
        yield found
        found.close()


Visits = Callable[..., "Visitor"]


@pytest.fixture
def visits(browser: Browser) -> Iterator[Visits]:
    """Makes visitors of an origin; none of them may have had to complain."""
    from tests.page.browser import Visitor

    made: list[Visitor] = []

    def visit(origin: str, **options: Any) -> Visitor:
        made.append(Visitor(browser, origin, **options))
        return made[-1]

    yield visit
    for visitor in made:
        visitor.close()


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    """A house for the tests of one module."""
    with opened() as house:
        yield house
