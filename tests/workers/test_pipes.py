"""Tests of :mod:`palyra.workers.pipes`."""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import IO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.errors import Malformed
from palyra.workers.pipes import MAX_STDERR_BYTES, Mutterings, Pen, read_frame

from .pools import until


@pytest.fixture
def pipe() -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Both ends of a pipe."""
    reading, writing = os.pipe()
    with ExitStack() as stack:
        yield (
            stack.enter_context(os.fdopen(reading, "rb")),
            stack.enter_context(os.fdopen(writing, "wb")),
        )


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (b"", None),
        (b"\0\0\0", None),
        (b"\0\0\0\2a", None),
        (b"\0\0\0\2abc", b"ab"),
        (b"\0\0\0\0", b""),
    ],
)
def test_read_frame(data: bytes, body: bytes | None) -> None:
    """A frame is read whole, or it is the end."""
    assert read_frame(io.BytesIO(data), lambda: 4) == body


def test_read_frame_asks_for_the_limit() -> None:
    """What is longer than may be is refused before it is read."""
    with pytest.raises(Malformed, match="has 5 bytes; the limit is 4"):
        read_frame(io.BytesIO(b"\0\0\0\5abcde"), lambda: 4)


@settings(max_examples=50)
@given(st.binary(max_size=200))
def test_read_frame_of_anything(data: bytes) -> None:
    """Any bytes are a frame, the end, or refused."""
    try:
        body = read_frame(io.BytesIO(data), lambda: 64)
    except Malformed:
        return
    assert body is None or data[4 : 4 + len(body)] == body


def test_a_pen_writes_in_order(pipe: tuple[IO[bytes], IO[bytes]]) -> None:
    """What the pipe does not take at once comes through, in the order in which it was written."""
    reading, writing = pipe
    pen = Pen(writing)
    pieces = [bytes([number]) * 50_000 for number in range(6)]
    for piece in pieces:
        pen.write(piece)
    assert reading.read(300_000) == b"".join(pieces)
    until(lambda: pen._thread is None, "the thread ends")
    pen.write(b"end")
    pen.close()
    pen.write(b"late")
    writing.close()
    assert reading.read() == b"end"


def test_a_pen_does_not_wait(pipe: tuple[IO[bytes], IO[bytes]]) -> None:
    """Nobody reads: write returns, and close ends the thread that tries."""
    pen = Pen(pipe[1])
    pen.write(b"x" * 1_000_000)
    pen.write(b"y")
    thread = pen._thread
    assert thread is not None
    pen.close()
    assert not thread.is_alive()


@pytest.mark.skipif(sys.platform == "win32", reason="a broken pipe of POSIX")
def test_a_pen_without_reader(pipe: tuple[IO[bytes], IO[bytes]]) -> None:
    """Writing to who has gone is silent."""
    pipe[0].close()
    pen = Pen(pipe[1])
    pen.write(b"x" * 1_000_000)
    pen.close()


def said(*chunks: bytes) -> tuple[Mutterings, list[str]]:
    """What a worker said on stderr, and the lines of it that were passed on."""
    lines: list[str] = []
    mutterings = Mutterings(lines.append)
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as stream:
        listener = threading.Thread(target=mutterings.listen, args=(stream,))
        listener.start()
        for chunk in chunks:
            os.write(writing, chunk)
        os.close(writing)
        listener.join()
    return mutterings, lines


def test_lines_are_passed_on() -> None:
    """Lines are cleaned; the last one may have no end."""
    mutterings, lines = said(b"one\ntw", b"o\x1b[2J\n\n", b"\xff three")
    assert lines == ["one", "two?[2J", "\ufffd three"]
    assert mutterings.last_line() == "\ufffd three"
    mutterings.new_run()
    assert (mutterings.tail(), mutterings.last_line()) == ("", "")


def test_what_is_said_is_bounded() -> None:
    """Of what has no end, some is passed on, and the end is kept."""
    mutterings, lines = said(*[b"x" * 8_000] * 20, b"\nlast.\n")
    assert len(mutterings.tail()) == MAX_STDERR_BYTES
    assert mutterings.last_line() == "last."
    assert len(lines[0]) == 1000
    _, lines = said(*[b"y" * 999 + b"\n"] * 200)
    assert sum(map(len, lines)) < MAX_STDERR_BYTES + 100
    assert lines[-1] == "(more than 64 KiB in one run; the rest is not shown)"
    for short in (b"z\n", b"\n"):
        assert len(said(short * 100_000)[1]) <= MAX_STDERR_BYTES // 64 + 1
