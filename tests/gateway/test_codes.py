"""Codes by themselves: nameplates, what is kept of a PIN, and when a code ends."""

from __future__ import annotations

import re
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail

from palyra.core.pairing import CodeMethod, CodeState, PairingCode
from palyra.core.pin import MAX_NAMEPLATES, PinCode
from palyra.errors import DiskFull, LimitReached
from palyra.gateway import codes as codes_module
from palyra.pki.sealing import Sealer
from tests.gateway.enrolling import HOME, Gateway
from tests.gateway.house import result_of


def kept(gateway: Gateway) -> list[PairingCode]:
    return result_of(gateway.store.active_codes(gateway.now_ms()))


def found(gateway: Gateway, pin: PinCode, address: str = HOME) -> PairingCode:
    code = gateway.codes.by_nameplate(pin.nameplate, address)
    assert code is not None
    return code


def test_the_usual_code_is_six_digits(gateway: Gateway) -> None:
    """The first active PIN has nameplate 1, which is not written; the next has 2, and so on."""
    first, second = gateway.pin(), gateway.pin()
    assert re.fullmatch(r"[0-9]{6}", str(first)) and re.fullmatch(r"2-[0-9]{6}", str(second))
    assert first.pin != second.pin


def test_the_lowest_free_nameplate(gateway: Gateway) -> None:
    """A nameplate is free again when its code has ended, and not before."""
    gateway.pin()
    gateway.pin(ttl_ms=30_000)
    assert gateway.pin().nameplate == 3
    gateway.pass_time(29)
    assert gateway.pin().nameplate == 4
    gateway.pass_time(1)
    assert gateway.pin().nameplate == 2


def test_twenty_pins_and_no_more(gateway: Gateway) -> None:
    """Nameplates are scarce, pairing lines are not."""
    numbers = [gateway.pin(ttl_ms=30_000).nameplate for _ in range(MAX_NAMEPLATES)]
    assert numbers == list(range(1, 21))
    with pytest.raises(LimitReached):
        gateway.pin()
    gateway.code()
    gateway.pass_time(31)
    assert gateway.pin().nameplate == 1


def test_a_pin_that_could_not_be_kept(gateway: Gateway) -> None:
    """It is not shown, and takes no nameplate."""
    store: Any = gateway.store
    store.add_code = lambda _: fail(DiskFull("/var/lib/palyra"))
    with pytest.raises(DiskFull):
        gateway.pin()
    del store.add_code
    assert gateway.codes.by_nameplate(1, HOME) is None
    assert gateway.pin().nameplate == 1


def test_a_pin_is_kept_sealed(gateway: Gateway) -> None:
    """The record has no digest to be searched by anybody who reads it, and opens only as the entry
    it is."""
    pin = gateway.pin()
    (code,) = kept(gateway)
    assert (code.method, code.digest, code.nameplate) == (CodeMethod.PIN, "", 1)
    assert pin.pin.encode() not in code.sealed_pin and pin.pin not in repr(code)
    assert gateway.codes.pin_of(code) == pin.pin
    other = found(gateway, gateway.pin())
    other.sealed_pin = code.sealed_pin
    assert gateway.codes.pin_of(other) != pin.pin


def test_a_pin_of_another_store_key(gateway: Gateway) -> None:
    """What cannot be opened any more is a PIN that nobody knows, not a failure."""
    pin = gateway.pin()
    gateway.identity.sealer = Sealer(bytes(range(32)), entropy=gateway.entropy)
    gateway.restart()
    code = found(gateway, pin)
    assert gateway.codes.pin_of(code) not in (pin.pin, gateway.codes.pin_of(code))


def test_nobody_knows_the_pin_of_no_code(gateway: Gateway) -> None:
    """It is another one each time, and none that a person could type."""
    made = {gateway.codes.pin_of(None) for _ in range(5)}
    assert len(made) == 5 and all(len(each) == 32 for each in made)


def test_tries_are_reserved(gateway: Gateway) -> None:
    """Five at once at most; what was no guess is given back."""
    code = found(gateway, gateway.pin())
    assert [gateway.codes.reserve(code) for _ in range(6)] == [True] * 5 + [False]
    gateway.codes.released(code)
    assert gateway.codes.reserve(code)
    assert not gateway.codes.reserve(None)


def test_a_failure_is_on_record_when_it_is_answered(gateway: Gateway) -> None:
    """A restart forgets who is being verified, never what has failed."""
    pin = gateway.pin()
    code = found(gateway, pin)
    for _ in range(3):
        gateway.codes.reserve(code)
    for _ in range(2):
        result_of(Deferred.fromCoroutine(gateway.codes.failed(code)))
    assert [each.failed for each in kept(gateway)] == [2]
    gateway.restart()
    again = found(gateway, pin)
    assert (again.failed, again.reserved) == (2, 0)
    assert [gateway.codes.reserve(again) for _ in range(4)] == [True] * 3 + [False]


def test_the_fifth_failure_burns(gateway: Gateway) -> None:
    """The code is gone, its sealed PIN too; its nameplate is free; for an hour it is shown."""
    pin = gateway.pin()
    code = found(gateway, pin)
    for number in range(5):
        assert gateway.codes.by_nameplate(1, HOME) is code, number
        gateway.codes.reserve(code)
        result_of(Deferred.fromCoroutine(gateway.codes.failed(code)))
    assert gateway.codes.by_nameplate(1, HOME) is None and kept(gateway) == []
    record = gateway.store.store._codes[code.code_id]
    assert (record.state, record.sealed_pin) == (CodeState.BURNT, b"")
    assert [each.code_id for each in gateway.codes.burnt()] == [code.code_id]
    assert gateway.pin().nameplate == 1
    gateway.pass_time(3_599)
    assert len(gateway.codes.burnt()) == 1
    gateway.pass_time(2)
    assert gateway.codes.burnt() == []
    gateway.restart()
    assert gateway.codes.by_nameplate(1, HOME) is None


def test_a_used_code_takes_no_more_tries(gateway: Gateway) -> None:
    """Neither by its nameplate nor from a session that was opened before; nothing burns it."""
    code = found(gateway, gateway.pin())
    gateway.codes.used(code)
    assert gateway.codes.by_nameplate(1, HOME) is None
    assert not gateway.codes.reserve(code)
    gateway.codes.used(code)
    assert gateway.codes.burnt() == []


def test_an_ended_pin(gateway: Gateway) -> None:
    """Over by its time: neither found, nor reserved from an open session, nor loaded."""
    pin = gateway.pin(ttl_ms=30_000)
    code = found(gateway, pin)
    gateway.pass_time(30)
    assert gateway.codes.by_nameplate(pin.nameplate, HOME) is None
    assert not gateway.codes.reserve(code)
    gateway.restart()
    assert gateway.codes.by_nameplate(pin.nameplate, HOME) is None


def test_an_ended_pin_is_erased(gateway: Gateway) -> None:
    """From the record too; one that is used or burnt was erased before."""
    codes = [found(gateway, gateway.pin(ttl_ms=each)) for each in (30_000, 30_000, 60_000)]
    gateway.codes.used(codes[1])
    gateway.pass_time(31)
    result_of(Deferred.fromCoroutine(gateway.codes.forget_ended()))
    records = [gateway.store.store._codes[each.code_id] for each in codes]
    assert [each.state for each in records[::2]] == [CodeState.EXPIRED, CodeState.ACTIVE]
    assert [bool(each.sealed_pin) for each in records[::2]] == [False, True]
    assert [each.code_id for each in kept(gateway)] == [codes[2].code_id]


def test_a_pin_for_one_network(gateway: Gateway) -> None:
    """To others there is no such code."""
    gateway.pin(source="198.51.100.0/24")
    assert gateway.codes.by_nameplate(1, HOME) is None
    assert gateway.codes.by_nameplate(1, "198.51.100.9") is not None


def test_five_faults_end_a_code(gateway: Gateway) -> None:
    """Whoever knows the secret and sends nonsense is stopped; the code is not called burnt."""
    code = found(gateway, gateway.pin())
    for _ in range(4):
        gateway.codes.faulty(code)
    assert gateway.codes.by_nameplate(1, HOME) is code
    gateway.codes.faulty(code)
    assert gateway.codes.by_nameplate(1, HOME) is None and gateway.codes.burnt() == []


def test_faults_are_bounded(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many codes have faults, so many are remembered: the newest."""
    monkeypatch.setattr(codes_module, "MAX_ACTIVE_CODES", 2)
    made = [found(gateway, gateway.pin()) for _ in range(2)]
    for code in (*made, PairingCode("x", CodeMethod.QR, "", "ana", 0, 0)):
        for _ in range(5):
            gateway.codes.faulty(code)
    assert len(gateway.codes._faults) == 2
    assert gateway.codes.by_nameplate(1, HOME) is made[0]
    assert gateway.codes.by_nameplate(2, HOME) is None


def test_active_codes_are_listed_with_their_failures(gateway: Gateway) -> None:
    """Also with those in verification, which no store has seen."""
    code = found(gateway, gateway.pin())
    gateway.code()
    gateway.codes.reserve(code)
    listed = result_of(Deferred.fromCoroutine(gateway.codes.active()))
    assert sorted(each.method.value for each in listed) == ["pin", "qr"]
    assert [each.reserved for each in listed if each.method is CodeMethod.PIN] == [1]
