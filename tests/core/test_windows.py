"""Sliding windows."""

from __future__ import annotations

from palyra.core.windows import Windows


def test_so_many_in_a_window() -> None:
    """The next one waits until the oldest has left; other keys do not."""
    windows = Windows(2, 1_000)
    for now_ms in (0, 400):
        assert windows.wait_ms("a", now_ms) == 0
        windows.add("a", now_ms)
    assert windows.wait_ms("a", 600) == 400
    assert windows.wait_ms("b", 600) == 0
    assert windows.wait_ms("a", 1_000) == 0
    windows.add("a", 1_000)
    assert windows.wait_ms("a", 1_100) == 300


def test_a_clock_that_is_set_back() -> None:
    """Nobody waits for longer than the window."""
    windows = Windows(1, 1_000)
    windows.add("a", 5_000)
    assert windows.wait_ms("a", 3_000) == 0
    assert windows.wait_ms("a", 4_000) == 0
    assert windows.wait_ms("a", 4_500) == 0
    assert windows.wait_ms("a", 5_000) == 1_000
