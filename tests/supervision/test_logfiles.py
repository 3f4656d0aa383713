"""Tests of :mod:`palyra.supervision.logfiles`."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.supervision import logfiles
from palyra.supervision.logfiles import MAX_LINE, POLL_S, follow, rotate, tail


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "node-host.stdout.log"


def older(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def test_the_last_lines(path: Path) -> None:
    """Oldest first, as many as were asked for and are there; none of a file that is not there."""
    assert tail(path, 3) == []
    path.write_text("one\ntwo\nthree\n")
    assert tail(path, 2) == ["two", "three"]
    assert tail(path, 9) == ["one", "two", "three"]
    assert tail(path, 0) == []
    path.write_bytes(b"one\r\n\nt\xffwo")
    assert tail(path, 9) == ["one", "", "t\ufffdwo"]
    path.write_bytes(b"")
    assert tail(path, 9) == []


def test_the_last_lines_are_also_in_rotated_files(path: Path) -> None:
    """Up to the first that is not there."""
    path.write_text("six\n")
    older(path, 1).write_text("four\nfive\n")
    older(path, 2).write_text("three\n")
    older(path, 4).write_text("never\n")
    assert tail(path, 3) == ["four", "five", "six"]
    assert tail(path, 9) == ["three", "four", "five", "six"]
    path.unlink()
    assert tail(path, 1) == ["five"]


def test_as_much_as_is_looked_at(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory is bounded, in lines and in all."""
    monkeypatch.setattr(logfiles, "MAX_TAIL", 200_000)
    path.write_text("x" * 1_000_000 + "\n" + "\n".join("y" * 100 for _ in range(3_000)) + "\n")
    found = tail(path, 10**9)
    assert 1_900 < len(found) < 2_700 and set(found) == {"y" * 100}
    path.write_text("z" * 100_000 + "\n")
    assert tail(path, 1) == ["z" * MAX_LINE + f" (+{100_000 - MAX_LINE} bytes)"]


@given(st.lists(st.text(alphabet="ab\u20ac ", max_size=40), max_size=60), st.integers(0, 70))
@settings(max_examples=60)
def test_it_is_what_splitting_the_whole_gives(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], count: int
) -> None:
    """Wherever the pieces are cut that it is read in."""
    path = tmp_path_factory.mktemp("log") / "log"
    path.write_text("".join(f"{line}\n" for line in lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logfiles, "_PIECE", 7)
        assert tail(path, count) == (lines[-count:] if count else [])
        assert list(itertools.islice(follow(path, last=count), min(count, len(lines)))) == tail(
            path, count
        )


class Writer:
    """Does one thing to a log each time that its follower has nothing to read."""

    def __init__(self, *steps: Callable[[], object]) -> None:
        self._steps: Iterator[Callable[[], object]] = iter(steps)

    def __call__(self, pause_s: float) -> None:
        assert pause_s == POLL_S
        next(self._steps)()


def followed(path: Path, count: int, *steps: Callable[[], object], last: int = 0) -> list[str]:
    lines = follow(path, last=last, pause=Writer(*steps))
    try:
        return list(itertools.islice(lines, count))
    finally:
        lines.close()  # type: ignore[attr-defined]


def add(path: Path, text: str) -> Callable[[], object]:
    def write() -> None:
        with path.open("a") as file:
            file.write(text)

    return write


def test_following(path: Path) -> None:
    """What there was is said as often as was asked; then each line when it is whole."""
    path.write_text("one\ntwo\nthr")
    steps = [add(path, "ee\n"), add(path, ""), add(path, "four\nfive\nsi"), add(path, "x\n")]
    expected = ["one", "two", "three", "four", "five", "six"]
    assert followed(path, 6, *steps, last=9) == expected
    path.write_text("one\ntwo\nthr")
    assert followed(path, 4, *steps) == expected[2:]


def test_a_file_that_is_not_there_yet(path: Path) -> None:
    """Is waited for, and read from its beginning."""
    assert followed(path, 2, lambda: None, add(path, "one\ntwo\n")) == ["one", "two"]


def test_a_rotation_under_it(path: Path) -> None:
    """The last lines of the old file come before the first of the new one."""
    path.write_text("before\n")

    def turn() -> None:
        add(path, "last\nunended")()
        os.replace(path, older(path, 1))

    steps = [add(path, "one\n"), turn, add(path, "first\n"), turn, add(path, "next\n")]
    expected = ["one", "last", "unended", "first", "last", "unended", "next"]
    assert followed(path, 7, *steps) == expected


def test_a_file_that_is_cut_short(path: Path) -> None:
    """Is read from its beginning."""
    path.write_text("before\n" * 9)
    steps = [add(path, "half"), lambda: path.write_text("anew\n"), add(path, "two\n")]
    assert followed(path, 2, *steps) == ["anew", "two"]


def test_a_line_without_end(path: Path) -> None:
    """Is said in pieces, so that it never fills the memory."""
    path.write_text("")
    found = followed(path, 3, add(path, "x" * (3 * MAX_LINE + 1)), add(path, "\nend\n"))
    assert found == ["x" * MAX_LINE] * 3


def test_rotating(path: Path) -> None:
    """Only what is too long, and so many are kept."""
    rotate(path, over_bytes=4, keep=3)
    for number in range(5):
        path.write_text("1234")
        rotate(path, over_bytes=4, keep=3)
        path.write_text(f"12345 {number}")
        rotate(path, over_bytes=4, keep=3)
        assert not path.exists()
    assert sorted(each.name for each in path.parent.iterdir()) == [
        f"{path.name}.{number}" for number in (1, 2, 3)
    ]
    assert [older(path, number).read_text()[-1] for number in (1, 2, 3)] == ["4", "3", "2"]


def test_nothing_but_a_file_is_read(path: Path, tmp_path: Path) -> None:
    """Root looks at logs in a directory of the service's user, who could have it read what only
    root may, or wait for ever."""
    (tmp_path / "secret").write_text("secret\n")
    path.symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match="symbolic links"):
        tail(path, 1)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(OSError, match="it is no file"):
        next(follow(path, last=1))
    path.unlink()
    path.write_text("one\n")
    os.mkfifo(older(path, 1))
    assert tail(path, 2) == ["one"]
