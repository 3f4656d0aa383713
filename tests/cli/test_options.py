"""Tests of :mod:`palyra.cli.options`."""

from __future__ import annotations

import click
import pytest

from palyra.cli.options import batch, duration


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


@pytest.mark.parametrize("text", ["1", "25", "1%", "100%"])
def test_batches(text: str) -> None:
    """A number of devices, or a share of them."""
    assert batch(text) == text


@pytest.mark.parametrize("text", ["", "0", "0%", "101%", "-1", "1.5", "x", "%", "10 %"])
def test_what_is_no_batch(text: str) -> None:
    """Everything else is refused, with an example."""
    with pytest.raises(click.BadParameter, match="such as 25, or 10%"):
        batch(text)
