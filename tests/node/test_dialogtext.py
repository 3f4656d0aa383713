"""Tests of :mod:`palyra.node.dialogtext`."""

from __future__ import annotations

import unicodedata

from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.core.jobs import ALWAYS, FOR_SESSION, ONCE, REFUSED
from palyra.node.dialogtext import shown
from tests.node.dialoghouse import question

HOSTILE = st.text(max_size=300) | st.text(alphabet="\n\r\u2028\u2029\u202e\x1b<>& a", max_size=300)


def test_all_of_it() -> None:
    """Who, what, how bad, what a longer yes is for, and how long is left."""
    dialog = shown(question(scope="https://example.org"), 29.6)
    assert dialog.text == (
        "Somebody asks to use this device.\n"
        "\n"
        "| ana asks to open https://example.org/\n"
        "\n"
        "Capability (risk medium):\n"
        "| desktop.open_url\n"
        "'Allow for this session' and 'Always allow' are for this capability and:\n"
        "| https://example.org\n"
        "\n"
        "It is refused if nobody answers in 30s."
    )
    assert dialog.choices == (REFUSED, ONCE, FOR_SESSION, ALWAYS)
    assert dialog.lasts_s == 30


def test_without_scope_and_end() -> None:
    """Without a scope only one yes can be given; without an end none is named."""
    dialog = shown(question(opens=""), None)
    assert dialog.choices == (REFUSED, ONCE)
    assert dialog.text.endswith("desktop.open_url")
    assert '| ana asks: {"url":"https://example.org/"}\n' in dialog.text


def test_what_is_cut_is_said() -> None:
    """A long argument and a long scope are cut, and how much is missing is shown."""
    text = shown(question(opens="x" * 600, scope="y" * 600), None).text
    flat = text.replace("\n| ", "")
    assert "x" * 512 + " (+88 characters, palyra node requests" in flat
    assert "y" * 512 + " (+88 characters)" in flat


@settings(max_examples=60)
@given(HOSTILE, HOSTILE, HOSTILE, HOSTILE)
def test_nobody_else_writes_a_line(who: str, opens: str, argument: str, scope: str) -> None:
    """What others wrote is on marked lines only, holds no separator or control character, and
    cannot make the dialog larger than a screen."""
    hostile = question(requested_by=who, opens=opens, argument=argument, scope=scope)
    plain = question(requested_by="", opens="", argument="", scope=scope and "x")
    lines = shown(hostile, 5).text.split("\n")
    ours = [line for line in lines if not line.startswith("| ")]
    assert ours == [line for line in shown(plain, 5).text.split("\n") if not line.startswith("| ")]
    assert all(line.splitlines() in ([], [line]) and len(line) <= 76 for line in lines)
    assert not any(unicodedata.category(each)[0] == "C" for line in lines for each in line)
    assert len(lines) < 40
