"""Tests of :mod:`palyra.node.typedpins`, on a terminal of their own."""

from __future__ import annotations

import io
import os
import pty
import select
import termios
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from palyra._reactor import the_reactor
from palyra.config.addresses import HostPort
from palyra.core.pin import PinCode
from palyra.errors import GatewayNotProven, PairingFailed, PalyraError
from palyra.node.typedpins import PROMPT, PinPrompt, pair_by_pin
from tests.node.awaiting import awaiting
from tests.node.pairingdevice import refused, until

ADDRESS = HostPort("gw.example", 7443)


class Person:
    """Sits at a terminal."""

    def __init__(self) -> None:
        self._ours, theirs = pty.openpty()
        self.source = os.fdopen(theirs)
        self.out = io.StringIO()
        self.prompt = PinPrompt(the_reactor(), source=self.source, out=self.out)

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def echoes(self) -> bool:
        """Whether what is typed is shown."""
        return bool(termios.tcgetattr(self.source)[3] & termios.ECHO)

    def leave(self) -> None:
        """Close everything."""
        self.source.close()
        if self._ours >= 0:
            os.close(self._ours)

    def hang_up(self) -> None:
        """The terminal is gone."""
        os.close(self._ours)
        self._ours = -1


@pytest.fixture
def person() -> Iterator[Person]:
    made = Person()
    yield made
    made.leave()


@awaiting
async def test_a_pin_that_is_typed(person: Person) -> None:
    """Without echo while it is asked for, blanks and the dash ignored, and not repeated."""
    asked = person.prompt.ask()
    assert not person.echoes()
    person.type("2-530 946\n")
    assert await asked == PinCode(2, "530946")
    assert person.echoes()
    assert person.out.getvalue() == f"{PROMPT}\n"
    assert "530946" not in repr(vars(person.prompt))


@awaiting
async def test_what_is_no_pin(person: Person) -> None:
    """Is asked for again, as nothing was tried with it."""
    asked = person.prompt.ask()
    person.type("12345\n")
    await until(lambda: person.out.getvalue().count(PROMPT) == 2)
    person.type("123456\n")
    assert await asked == PinCode(1, "123456")
    assert "PIN: must be six digits" in person.out.getvalue()
    assert "12345\n" not in person.out.getvalue()


@awaiting
async def test_what_was_typed_before(person: Person) -> None:
    """Is no answer."""
    person.type("111111\n")
    assert select.select([person.source], [], [], 10)[0], "it has come to the terminal"
    asked = person.prompt.ask()
    person.type("222222\n")
    assert await asked == PinCode(1, "222222")


@pytest.mark.parametrize("end", ["\x04", None])
@awaiting
async def test_a_person_who_gives_up(person: Person, end: str | None) -> None:
    """By the end of input, or by closing the terminal: there is no PIN."""
    asked = person.prompt.ask()
    if end is None:
        person.hang_up()
    else:
        person.type(end)
    assert await asked is None


@awaiting
async def test_stop_while_it_asks(person: Person) -> None:
    """The terminal is as it was, and another question can follow."""
    asked = person.prompt.ask()
    asked.cancel()
    assert isinstance(await refused(asked), CancelledError)
    assert person.echoes()
    again = person.prompt.ask()
    person.type("123456\n")
    assert await again == PinCode(1, "123456")


# -- three tries --------------------------------------------------------------------------------


class Tries:
    """A pairing that fails so many times, and a person who types another PIN each time."""

    def __init__(self, *outcomes: PalyraError | str, typed: int = 9) -> None:
        self.outcomes = list(outcomes)
        self.typed = [PinCode(1, f"{number:06}") for number in range(typed)]
        self.pins: list[PinCode] = []
        self.warnings: list[str] = []

    async def run_pin(self, address: HostPort, pin: PinCode, ca_pem: bytes | None) -> str:
        assert (address, ca_pem) == (ADDRESS, b"ca")
        self.pins.append(pin)
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, PalyraError):
            raise outcome
        return outcome

    async def next_pin(self, failed: PairingFailed | None) -> PinCode | None:
        if failed is not None:
            self.warnings.append(failed.sentence)
        return self.typed.pop(0) if self.typed else None

    def pair(self) -> Deferred[Any]:
        """Pair with what is typed."""
        pairing: Any = self
        return Deferred.fromCoroutine(pair_by_pin(pairing, ADDRESS, b"ca", self.next_pin))


def failures(count: int) -> list[PalyraError]:
    """As so many PINs fail, one after the other."""
    return [PairingFailed(pin=True, tries=number + 1) for number in range(count)]


@awaiting
async def test_a_pin_is_used_once() -> None:
    """After a failure another one is asked for, with what is to be known about that."""
    tries = Tries(*failures(2), "paired")
    assert await tries.pair() == "paired"
    assert len(set(tries.pins)) == 3
    assert tries.warnings == [
        "That PIN is wrong, expired or used up.",
        "That PIN is wrong, expired or used up. Someone may be in between.",
    ]


@awaiting
async def test_three_pins_at_most() -> None:
    """The third failure is final."""
    tries = Tries(*failures(3), "paired")
    error = await refused(tries.pair())
    assert isinstance(error, PairingFailed) and error.tries == 3
    assert len(tries.pins) == 3


@awaiting
async def test_nobody_to_ask_again() -> None:
    """One try is all, and its failure is the answer."""
    tries = Tries(*failures(1), typed=1)
    error = await refused(tries.pair())
    assert isinstance(error, PairingFailed) and error.tries == 1


@awaiting
async def test_a_gateway_that_did_not_prove_itself() -> None:
    """Nobody is asked for another PIN: it is time to stop."""
    tries = Tries(GatewayNotProven(), "paired")
    assert isinstance(await refused(tries.pair()), GatewayNotProven)
    assert len(tries.pins) == 1
