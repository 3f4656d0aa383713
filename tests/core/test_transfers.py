"""Tests of :mod:`palyra.core.transfers`."""

from __future__ import annotations

import hashlib

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.core.frames import Chunk
from palyra.core.transfers import MAX_PIECE_BYTES, MAX_TRANSFERS, Incoming, Outgoing
from palyra.errors import Malformed


def last(transfer_id: int, index: int, data: bytes) -> Chunk:
    """The only piece, or the last one, of a payload that is ``data``."""
    return Chunk(transfer_id, index, data, hashlib.sha256(data).digest())


@given(st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=12), st.integers(1, 5))
@settings(max_examples=100, deadline=None)
def test_payloads_arrive(payloads: list[bytes], pieces: int) -> None:
    """However many there are and however the pieces are mixed, each comes as it was sent; claimed
    with the message of its last piece it leaves its place to another one."""
    outgoing, incoming = Outgoing(7), Incoming()
    sent = {outgoing.start(payload): payload for payload in payloads}
    came: dict[int, bytes] = {}
    while outgoing.busy:
        chunks, ended = outgoing.take(pieces)
        assert 0 < len(chunks) <= pieces
        assert all(0 < len(chunk.data) <= 7 for chunk in chunks)
        for chunk in chunks:
            incoming.add(chunk)
        came.update((each, incoming.claim(each)) for each in ended)
    assert came == sent
    assert list(sent) == list(range(1, len(payloads) + 1))


def test_transfers_take_turns() -> None:
    """Four at once, one piece each; the fifth begins when one has ended."""
    outgoing = Outgoing(1)
    for length in (1, 2, 3, 4, 5):
        outgoing.start(b"x" * length)
    turns = []
    while outgoing.busy:
        chunks, _ = outgoing.take(4)
        turns.append([chunk.transfer_id for chunk in chunks])
    assert turns == [[1, 2, 3, 4], [2, 3, 4, 5], [3, 4, 5, 4], [5, 5, 5]]


def test_an_empty_payload_has_no_pieces() -> None:
    """Whoever has nothing to send sends it whole."""
    outgoing = Outgoing()
    with pytest.raises(ValueError):
        outgoing.start(b"")
    assert not outgoing.busy and outgoing.take() == ([], [])


@pytest.mark.parametrize(
    ("chunks", "problem"),
    [
        ([Chunk(1, 0, b"")], "a piece has 1 to 262144 bytes"),
        ([last(1, 0, b"")], "a piece has 1 to 262144 bytes"),
        ([Chunk(1, 0, b"x" * (MAX_PIECE_BYTES + 1))], "a piece has 1 to 262144 bytes"),
        ([Chunk(1, 1, b"x")], "piece 1 came out of turn"),
        ([Chunk(1, 0, b"x"), Chunk(1, 0, b"x")], "piece 0 came out of turn"),
        ([Chunk(1, 0, b"x"), Chunk(1, 2, b"x")], "piece 2 came out of turn"),
        ([last(1, 0, b"x"), Chunk(1, 1, b"x")], "piece 1 came out of turn"),
        ([Chunk(1, 0, b"x" * 6), Chunk(1, 1, b"x" * 5)], "is larger than 10 bytes"),
        ([attrs.evolve(last(1, 0, b"x"), data=b"y")], "its bytes do not have the digest"),
        ([Chunk(2, 0, b"x"), Chunk(1, 0, b"x")], "is over; a new one has a higher id"),
        ([Chunk(each, 0, b"x") for each in range(1, 6)], "is one too many (4 may be open)"),
        ([last(each, 0, b"x") for each in range(1, 6)], "is one too many (4 may be open)"),
    ],
)
def test_what_breaks_the_rules(chunks: list[Chunk], problem: str) -> None:
    """Pieces out of turn, empty, too large or too many, transfers too many or used twice."""
    incoming = Incoming(10)
    for chunk in chunks[:-1]:
        incoming.add(chunk)
    with pytest.raises(Malformed) as caught:
        incoming.add(chunks[-1])
    assert problem in caught.value.sentence
    assert caught.value.field == f"chunks.{chunks[-1].transfer_id}"


def test_a_payload_is_claimed_once_and_complete() -> None:
    """Naming a transfer that is unknown, unfinished or over ends the session as well."""
    incoming = Incoming()
    incoming.add(Chunk(1, 0, b"a"))
    incoming.add(last(2, 0, b"whole"))
    assert incoming.claim(2) == b"whole"
    for transfer_id in (1, 2, 3):
        with pytest.raises(Malformed):
            incoming.claim(transfer_id)
    with pytest.raises(Malformed):
        incoming.add(last(2, 0, b"again"))


@given(
    st.lists(
        st.builds(
            Chunk,
            st.integers(1, 6),
            st.integers(0, 3),
            st.binary(max_size=4),
            st.none() | st.just(hashlib.sha256(b"ab").digest()),
        ),
        max_size=30,
    )
)
@settings(max_examples=100, deadline=None)
def test_memory_is_bounded(chunks: list[Chunk]) -> None:
    """Whatever comes is taken within the limits or refused."""
    incoming = Incoming(8)
    for chunk in chunks:
        try:
            incoming.add(chunk)
        except Malformed:
            break
    kept = incoming._transfers.values()
    assert len(kept) <= MAX_TRANSFERS and all(len(each.data) <= 8 for each in kept)
