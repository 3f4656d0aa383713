"""A browser for the whole run; visitors of its own for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from tests.integration.house import Gateway, House, opened

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.page.browser import Visitor

collect_ignore_glob: list[str] = []


def _missing(config: pytest.Config) -> str:
    """Why there is nothing to run here; nothing where all is there."""
    try:
        from tests.page import browser
    except ImportError:
        return "needs playwright: tox -e page"
    if config.pluginmanager.hasplugin("twisted"):
        return "playwright refuses to run where an event loop does: tox -e page"
    return "" if browser.program() else f"needs a browser: {' or '.join(browser.PROGRAMS)}"
