"""Tests of :mod:`palyra.afar.eventstream`."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.afar import eventstream
from palyra.afar.eventstream import EventReader

STREAM = b': hello\n\nevent: job\nid: 1\ndata: {"a":1}\n\n: keep-alive\n\ndata:x\r\ndata:y\r\n\r\n'


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(min_value=0, max_value=len(STREAM)), max_size=20))
def test_however_it_is_cut(places: list[int]) -> None:
    """The events are the same, and each is given once."""
    cuts = sorted({0, len(STREAM), *places})
    reader = EventReader()
    found = []
    for begin, end in itertools.pairwise(cuts):
        found += reader.feed(STREAM[begin:end])
    assert found == [b'{"a":1}', b"x\ny"]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=8))
def test_whatever_comes(pieces: list[bytes]) -> None:
    """Bytes that are no event are no event and no exception."""
    reader = EventReader()
    for piece in pieces:
        for data in reader.feed(piece):
            assert isinstance(data, bytes)


def test_a_line_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded."""
    monkeypatch.setattr(eventstream, "MAX_LINE", 8)
    with pytest.raises(ValueError, match="does not end"):
        EventReader().feed(b"data: 123456")
