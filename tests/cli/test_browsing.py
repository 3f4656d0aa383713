"""Tests of :mod:`palyra.cli.browsing`."""

from __future__ import annotations

import os
import webbrowser
from pathlib import Path

import pytest

from palyra.cli import browsing

LINK = 'https://atlas:7142/login#a&"<T'


class Browser:
    """It notes what it was given, and what there is."""

    def __init__(self, *, there: bool = True) -> None:
        self.there = there
        self.modes: list[int] = []
        self.page = ""
        self.file = Path()
        self.argument = ""

    def open(self, url: str) -> bool:
        self.argument = url
        self.file = Path(url.removeprefix("file://"))
        self.modes = [each.stat().st_mode & 0o777 for each in (self.file.parent, self.file)]
        return self.there

    def reads(self) -> None:
        self.page = self.file.read_text()
        now_ns = self.file.stat().st_mtime_ns
        os.utime(self.file, ns=(now_ns, now_ns))  # also where reading leaves no trace


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch) -> Browser:
    found = Browser()
    monkeypatch.setattr(webbrowser, "open", lambda url: found.open(url))
    return found


def test_a_link_is_no_argument(browser: Browser) -> None:
    """It is in a private file, which is gone soon after it was read."""
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            browser.reads()

    with browsing.opened(LINK, sleep) as found:
        assert found
    assert browser.argument.startswith("file:///") and "login#" not in browser.argument
    assert browser.modes == [0o700, 0o600]
    assert 'url=https://atlas:7142/login#a&amp;&quot;&lt;T"' in browser.page
    assert (len(slept), slept[-1]) == (4, browsing.AGAIN_S)
    assert not browser.file.parent.exists()


def test_a_browser_that_reads_nothing(browser: Browser) -> None:
    """The file does not wait for ever."""
    slept: list[float] = []
    with browsing.opened(LINK, slept.append):
        pass
    assert sum(slept) == pytest.approx(browsing.PATIENCE_S)
    assert not browser.file.parent.exists()


def test_no_browser(browser: Browser) -> None:
    """Then nothing is waited for, and nothing stays."""
    browser.there = False
    with browsing.opened(LINK, lambda seconds: pytest.fail("it waits")) as found:
        assert not found
    assert not browser.file.parent.exists()


def test_what_cannot_be_written(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller is told, and prints the link."""
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")
    with browsing.opened(LINK) as found:
        assert not found
    assert not browser.argument


def test_what_goes_wrong_meanwhile(browser: Browser) -> None:
    """The file goes also then."""
    with pytest.raises(KeyboardInterrupt), browsing.opened(LINK):
        raise KeyboardInterrupt
    assert not browser.file.parent.exists()
