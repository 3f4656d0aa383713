"""Whatever is read from outside is read or refused; nothing else happens."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.wire import calls, pairing, session

from .messages import MESSAGES
from .targets import TARGETS, Target

EXAMPLES = 100
LARGE = 64 * 1024
TOKENS = (b"", b"\x00", b"\xff", b"\n", b'"', b"{", b"[", b"(", b"=", b"-", b"1" * 20)
every_target = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)


@st.composite
def inputs(draw: Any, seeds: tuple[bytes, ...]) -> bytes:
    """A seed, with some pieces of it replaced by others or by anything."""
    data: bytes = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        cut = draw(st.integers(0, 8))
        piece = draw(st.sampled_from(TOKENS) | st.binary(max_size=8))
        data = data[:at] + piece + data[at + cut :]
    return data


@every_target
def test_a_seed_is_understood(target: Target) -> None:
    """What the search begins from reaches behind the first check."""
    understood = [target.check(seed) for seed in target.seeds]
    assert any(understood)


@every_target
def test_any_input_is_read_or_refused(target: Target) -> None:
    """Random bytes, and seeds that were damaged."""

    @settings(max_examples=EXAMPLES)
    @given(inputs(target.seeds) | st.binary(max_size=100))
    def search(data: bytes) -> None:
        target.check(data)

    search()


@every_target
def test_large_input_is_read_or_refused(target: Target) -> None:
    """Depth, width and length far beyond what is meant: no error of Python's own, no hang."""
    for piece in TOKENS[1:]:
        target.check(piece * (LARGE // len(piece)))
    for seed in target.seeds:
        target.check(seed * (LARGE // len(seed)))
        for piece in TOKENS[1:]:
            for at in (len(seed) // 2, len(seed)):
                target.check(seed[:at] + piece * (LARGE // len(piece)) + seed[at:])


@pytest.mark.parametrize("opening", [b'{"x":', b'[{"x":', b"x=", b"data:"])
@every_target
def test_deep_input_is_read_or_refused(target: Target, opening: bytes) -> None:
    """What nests deeper than any parser goes."""
    for piece in (b"[", b"{", b'{"x":', b"{x=", b"(", b"not "):
        target.check(opening + piece * LARGE)


def test_every_reader_of_messages_is_a_target() -> None:
    """A reader that is added to the wire is added here."""
    named = {reader.name for reader in MESSAGES}
    found = {
        name.removeprefix("read_").replace("_", "-")
        for room in (pairing, session, calls)
        for name, _ in inspect.getmembers(room, inspect.isfunction)
        if name.startswith("read_")
    }
    assert found - {"many", "submitted"} <= named
