"""Tests of :mod:`palyra.cli.words`."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.cli import words
from tests.cli.things import JOB, NOW, PI, D, H, M, S


@pytest.mark.parametrize(
    ("ms", "text"), [(0, "0s"), (4 * S, "4s"), (2 * M, "2m"), (3 * H, "3h"), (31 * D, "31d")]
)
def test_age(ms: int, text: str) -> None:
    """An age has one unit, the largest."""
    assert words.age(ms) == text
    assert words.ago(NOW - ms, NOW) == f"{text} ago"


def test_no_time() -> None:
    """Nothing is a dash."""
    assert words.ago(None, NOW) == words.when(None, NOW) == words.utc(None) == "-"
    assert words.day(None, NOW) == words.whole_time(None) == words.duration(None) == "-"


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (14, "14ms"),
        (1234, "1.2s"),
        (3000, "3s"),
        (9999, "9.9s"),
        (30_000, "30s"),
        (124_000, "2m 4s"),
        (120_000, "2m"),
        (2 * H + 5 * M, "2h 5m"),
        (2 * D + 4 * H, "2d 4h"),
    ],
)
def test_duration(ms: int, text: str) -> None:
    """A duration is as exact as it is short."""
    assert words.duration(ms) == text


def test_countdown_and_span() -> None:
    """What is left counts down in minutes and seconds; a chosen time is in words."""
    assert words.countdown(8 * M + 12 * S) == "8:12"
    assert words.countdown(H + 8 * M) == "1:08:00"
    assert words.countdown(-5) == "0:00"
    assert [words.span(ms) for ms in (10 * M, 45 * S, 24 * H)] == ["10 min", "45 s", "24 h"]


def test_times() -> None:
    """A time is told as far as it differs from now."""
    assert words.when(NOW - S, NOW) == "03:44:13"
    assert words.when(NOW + D, NOW) == "23 Nov 03:44"
    assert words.when(NOW - 400 * D, NOW) == "18 Oct 2025"
    assert words.clock(NOW + 7 * M, NOW) == "03:51"
    assert words.clock(NOW + D, NOW) == "23 Nov 03:44"
    assert words.day(NOW - 400 * D, NOW) == "18 Oct 2025"
    assert words.whole_time(NOW) == "2026-11-22 03:44:14 +00:00"
    assert words.utc(NOW) == "2026-11-22T03:44:14Z"
    assert {words.utc(each) for each in (2**63, -(2**63), 10**30)} == {"-"}


def test_sizes_and_numbers() -> None:
    """Sizes are 1024-based; thousands have a thin blank."""
    assert words.size(100) == "100 bytes"
    assert words.size(71 * 1024) == "71 KiB"
    assert words.size(int(3.1 * 1024**3)) == "3.1 GiB"
    assert words.size(40 * 1024**3) == "40 GiB"
    assert words.number(10_000) == "10\u2009000"
    assert words.counted(1, "device") == "1 device"


def test_short_ids_differ() -> None:
    """Short ids are as long as they must be to differ in the list that is printed."""
    near = PI[:16] + "Z" + PI[17:]
    assert words.shortener([PI, JOB]) == {PI: "X4K7QM", JOB: "B8Q2ZN"}
    assert words.shortener([PI, near, PI]) == {PI: "X4K7QM2", near: "X4K7QMZ"}


def test_cuts() -> None:
    """What was cut says so, and keeps the end of a name."""
    assert words.cut_middle("build-agent-long-07", 13) == "build-age~-07"
    assert words.cut_end("abcdef", 4) == "abc~"
    assert words.cut_start("abcdef", 4) == "~def"
    assert words.cut_end("abcd", 4) == words.cut_middle("abcd", 4) == "abcd"


def test_labels() -> None:
    """Labels are in the order of their keys, and the rest is counted."""
    many = {"c": "3", "a": "1", "b": "2", "d": "4"}
    assert words.labels(many, 2) == "a=1,b=2 +2"
    assert words.labels({}) == "-"
    assert words.labels({"site": "prague", "lab": ""}) == "lab,site=prague"


def test_controls_are_escaped() -> None:
    """No character of a device steers the terminal."""
    assert words.escaped("a\x1b[2Jb\u202e\x9bc\n") == "a\\u001b[2Jb\\u202e\\u009bc\\u000a"


@settings(max_examples=100, deadline=None)
@given(st.text())
def test_escaped_json_means_the_same(text: str) -> None:
    """JSON with escapes is the same JSON, and has no character that steers a terminal."""
    document = words.escaped_lines(json.dumps({"x": text}, ensure_ascii=False))
    assert json.loads(document) == {"x": text}
    assert words.escaped(document) == document


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60), st.integers(min_value=1, max_value=40))
def test_cut_is_never_too_wide(text: str, width: int) -> None:
    """Cut text fits."""
    assert len(words.cut_middle(text, width)) <= width
    assert len(words.cut_end(text, width)) <= width
    assert len(words.cut_start(text, width)) <= width
