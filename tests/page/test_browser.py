"""That there is a browser, or why the page is not driven here."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def test_there_is_a_browser(browser: Browser) -> None:
    """It starts, and is a Chromium."""
    assert browser.browser_type.name == "chromium" and browser.version
