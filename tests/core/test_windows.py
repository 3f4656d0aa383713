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


def test_so_many_keys() -> None:
    """However many keys come, so many are kept: the one that came first is forgotten, and what is
    kept still counts."""
    windows = Windows(1, 1_000, max_keys=3)
    for key in ("a", "b", "c"):
        windows.add(key, 0)
    windows.add("a", 0)
    assert [windows.wait_ms(key, 500) for key in "abc"] == [500] * 3
    windows.add("d", 0)
    assert [windows.wait_ms(key, 500) for key in "abcd"] == [0, 500, 500, 500]
    for number in range(100):
        windows.add(number, 500)
    assert windows.wait_ms(99, 600) == 900 and windows.wait_ms("d", 600) == 0
    assert len(windows._times) == 3
