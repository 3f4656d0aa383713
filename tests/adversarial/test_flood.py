"""Thousands of wrong PINs: few are ever verified, and pairing lines go on."""

from __future__ import annotations

import contextlib
import os
import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.adversarial.device import Device, parts, wrong
from tests.adversarial.house import Gateway
from tests.adversarial.wire import grpc, refusal_of

TRIES = int(os.environ.get("ADVERSARIAL", "500"))
WORKERS = 16
MAX_FAILURES = 50
"""So many over all sources pause PIN pairing; those in verification at that moment still end."""


@pytest.fixture(scope="module")
def config() -> str:
    """Fewer session starts than tries: what is refused must not use them up."""
    return "[enrolment]\nsession_starts_per_minute = 300\n"


def attempt(gateway: Gateway, way: str, code: str) -> str:
    """Try a PIN from a new address; the code of the refusal, ``!`` where a proof was answered."""
    device = Device(gateway, way=way)
    opened: Any = None
    try:
        opened = device.begin(device.offer_pin(parts(code)[0]))
        message, _ = device.prove(opened, code)
        device.complete(message)
    except grpc.RpcError as error:
        refusal = refusal_of(error)
        assert not any(secret in refusal.text for secret in device.secrets)
        return refusal.code + ("!" if opened is not None else "")
    return "PAIRED"


def test_thousands_of_wrong_pins_from_everywhere(gateway: Gateway) -> None:
    """Five reach the code, at most some fifty are verified at all, the rest is refused unheard."""
    code = gateway.pin()
    nameplate, right = parts(code.pin)
    draw = random.Random(20261122)
    drawn = (f"{draw.randrange(10**6):06d}" for _ in range(TRIES))
    tries = [f"{nameplate}-{pin}" for pin in drawn if pin != right]
    with (
        gateway.unmoved(but=code, guesses=5),
        contextlib.closing(gateway.by_many_ways()) as way,
        ThreadPoolExecutor(WORKERS) as pool,
    ):
        ends = Counter(pool.map(lambda tried: attempt(gateway, way.address, tried), tries))
        # One by one, so that nothing but the number of failures refuses them.
        for _ in range(MAX_FAILURES):
            if not ends["pairing_paused"]:
                ends[attempt(gateway, way.address, wrong(code.pin))] += 1
    assert ends["PAIRED"] == 0
    assert 5 <= ends["pairing_failed!"] <= MAX_FAILURES + WORKERS, ends
    refused = set(ends) - {"pairing_failed!"}
    assert refused <= {"pairing_paused", "pairing_paused!", "limit_reached", "limit_reached!"}, ends
    assert gateway.state_of(code) == "burnt"


def test_the_pause_is_for_pins_only(gateway: Gateway) -> None:
    """While it lasts the right PIN is refused too; a pairing line pairs; the operator sees it."""
    assert gateway.pairing().pins_paused_until_unix_ms
    code, device = gateway.pin(), Device(gateway)
    with gateway.unmoved(but=code, guesses=0):
        refusal = device.refused(device.begin, device.offer_pin(parts(code.pin)[0]))
    assert refusal.kind == ("RESOURCE_EXHAUSTED", "pairing_paused")
    assert device.enrol().register().accepted
    rejoined = device.rejoin()[1]
    assert rejoined.paired and rejoined.mtls_client_certificate_pem
