"""Tests of :mod:`palyra.cli.options`."""

from __future__ import annotations

import click
import pytest

from palyra.cli.options import duration, label


@pytest.mark.parametrize(
    ("text", "ms"), [("500ms", 500), ("30s", 30_000), ("10m", 600_000), ("1h", 3_600_000)]
)
def test_durations(text: str, ms: int) -> None:
    """A number and a unit."""
    assert duration(text) == ms


@pytest.mark.parametrize("text", ["", "10", "m", "-1s", "0s", "1.5h", "1s ", "٣s"])
def test_what_is_no_duration(text: str) -> None:
    """Everything else is refused, with an example."""
    with pytest.raises(click.BadParameter, match="30s"):
        duration(text)


def test_labels() -> None:
    """The value of a label may have an equals sign, and must not be missing."""
    assert label("a=b=c") == ("a", "b=c")
    for text in ("a", "=b", ""):
        with pytest.raises(click.BadParameter, match="key=value"):
            label(text)
