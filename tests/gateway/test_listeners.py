"""Promises of the listeners of devices, which may have to wait for an operator."""

from __future__ import annotations

import itertools
from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred, fail, succeed

from palyra.errors import PortTaken
from palyra.gateway.listeners import DeviceDoors
from tests.gateway.house import fired, result_of


@attrs.define(eq=False, slots=False)
class Door:
    """A listener whose port opens when a test says so."""

    opening: list[Deferred[None]] = attrs.Factory(list)

    def open(self) -> Deferred[None]:
        self.opening.append(Deferred())
        return self.opening[-1]


def serve(doors: DeviceDoors) -> Deferred[None]:
    return Deferred.fromCoroutine(doors.serve())


def test_two_operators_confirm_at_once() -> None:
    """Each port is opened once, and both are answered when devices are served."""
    first, second = Door(), Door()
    doors = DeviceDoors(first, second)
    asked = [serve(doors), serve(doors)]
    assert (len(first.opening), len(second.opening)) == (1, 0) and not doors.serving
    first.opening[0].callback(None)
    assert len(second.opening) == 1 and not any(map(fired, asked)) and not doors.serving
    second.opening[0].callback(None)
    for each in asked:
        result_of(each)
    assert doors.serving and (len(first.opening), len(second.opening)) == (1, 1)


def test_a_port_that_is_taken() -> None:
    """Whoever waits behind it tries for himself; what was opened stays open."""
    first, second = Door(), Door()
    doors = DeviceDoors(first, second)
    tries = itertools.count()
    tried: Any = second
    tried.open = lambda: fail(PortTaken("[::]", 7444)) if next(tries) == 0 else succeed(None)
    asked = [serve(doors), serve(doors)]
    first.opening[0].callback(None)
    with pytest.raises(PortTaken):
        result_of(asked[0])
    result_of(asked[1])
    assert doors.serving and len(first.opening) == 1 and next(tries) == 2
