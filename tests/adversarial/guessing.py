"""Steps of pairing by PIN that several tests take."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

from palyra.console.models import MintedCode
from tests.adversarial.device import Device, parts
from tests.adversarial.house import Gateway
from tests.adversarial.wire import Refusal

BURNT_BY = 5


def opened_for(device: Device, code: MintedCode) -> Any:
    """A pairing session for a PIN."""
    device.secrets |= {parts(code.pin)[1]}
    return device.begin(device.offer_pin(parts(code.pin)[0]))


def guess(device: Device, code: str) -> Refusal:
    """Try a PIN that is not the one."""
    opened = device.begin(device.offer_pin(parts(code)[0]))
    message, _ = device.prove(opened, code)
    return device.refused(device.complete, message)


def end(gateway: Gateway, code: MintedCode) -> None:
    """Use a code up, so that its nameplate is free again for the next test."""
    if gateway.state_of(code) == "active":
        Device(gateway).pair_by_pin(code.pin)


def each_is_a_wrong_guess(
    gateway: Gateway, proofs: Mapping[str, Callable[[Device, MintedCode], Any]]
) -> None:
    """Each of these Completes is refused as a wrong PIN is, and counted; five burn a code."""
    left = iter(proofs.items())
    while some := list(itertools.islice(left, BURNT_BY)):
        code = gateway.pin()
        for what, proof in some:
            device = Device(gateway)
            message = proof(device, code)
            with gateway.unmoved(but=code, guesses=1):
                refusal = device.refused(device.complete, message)
            assert refusal.kind == ("FAILED_PRECONDITION", "pairing_failed"), (what, refusal)
            assert gateway.tries(device.source) == 1, what
        assert gateway.state_of(code) == ("burnt" if len(some) == BURNT_BY else "active")
        end(gateway, code)
