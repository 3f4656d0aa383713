"""Tests of :mod:`palyra.node.opening`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.node.opening import opened_by, shown_path, shown_url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://example.org/a?b=c", "https://example.org/a?b=c"),
        ("https://b\u00fccher.example:8443/\u00e9", "https://xn--bcher-kva.example:8443/\u00e9"),
        ("https://ex\u0430mple.org", "https://xn--exmple-4nf.org"),
        ("https://\uff45xample.org", "https://example.org"),
        ("https://ex\u0430mple.org@example.org/", "https://ex\\u0430mple.org@example.org/"),
        ("https://\u2028.org", "https://\\u2028.org"),
        ("https://[\u00e9/", "https://[\\xe9/"),
    ],
)
def test_a_host_is_shown_in_ascii(url: str, shown: str) -> None:
    """No letter can pass for another; what is no host is spelled out."""
    assert shown_url(url) == shown


@given(st.text(max_size=60))
@settings(max_examples=100)
def test_any_url_can_be_shown(text: str) -> None:
    """Whatever it is; and its host is in ASCII."""
    shown = shown_url(f"https://{text}")
    assert shown.partition("://")[2].partition("/")[0].partition("?")[0].partition("#")[0].isascii()


def test_a_path_is_shown_as_it_leads(tmp_path: Path) -> None:
    """Links are resolved; a path that leads nowhere is shown."""
    (tmp_path / "link").symlink_to(tmp_path / "there")
    assert shown_path(str(tmp_path / "link")) == str(tmp_path.resolve() / "there")
    assert shown_path("/nowhere/../x\0y") == "/nowhere/../x\0y"


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names there are text")
def test_a_name_that_is_no_text_is_spelled_out(tmp_path: Path) -> None:
    """It could be neither shown nor sent as it is."""
    os.symlink(b"/nowhere/\xff", os.fsencode(tmp_path / "link"))
    assert shown_path(str(tmp_path / "link")) == "/nowhere/\\xff"


@pytest.mark.parametrize(
    ("capability", "value", "opens"),
    [
        ("desktop.open_url", {"url": "https://example.org"}, "https://example.org"),
        ("desktop.open_path", {"path": "/"}, "/"),
        ("desktop.open_url", {"url": 1}, ""),
        ("desktop.open_url", {"path": "/"}, ""),
        ("desktop.open_url", "https://example.org", ""),
        ("other.thing", {"url": "https://example.org"}, ""),
    ],
)
def test_what_a_call_opens(capability: str, value: object, opens: str) -> None:
    """Of the two that open something, and of an input that says what."""
    assert opened_by(capability, value) == opens
