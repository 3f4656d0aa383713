"""What every store keeps of what devices may be asked for."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from palyra.core.devices import (
    INVOKE_OTHERS,
    AnnouncedCapability,
    ClientKind,
    Device,
    DeviceChange,
    Risk,
)
from palyra.core.identifiers import sha256_hex
from palyra.core.pairing import PairingRequest
from palyra.errors import Malformed
from palyra.store.grants import MAX_SEEN
from tests.contract.ways import Ways
from tests.store.samples import ECHO, a_device, a_registration, a_renewal, approved

HEALTH = AnnouncedCapability("system.health")
OPEN = AnnouncedCapability("desktop.open_url", risk="medium")
SHELL = AnnouncedCapability("acme.shell", risk="high")
LAMP = AnnouncedCapability("acme.lamp", risk="low")
NOTHING: frozenset[str] = frozenset()


def names(*given: str) -> frozenset[str]:
    return frozenset(given)


class GrantsContract(Ways):
    """Part of :class:`tests.contract.store.StoreContract`."""

    def pair(
        self,
        *announced: AnnouncedCapability,
        grants: frozenset[str] = NOTHING,
        grant_risk: Risk = Risk.LOW,
        code: str = "code",
        **changes: Any,
    ) -> PairingRequest:
        """Pair a device that announced these, and was granted some of them."""
        request = self.opened("lab-7", code, capabilities=announced, **changes)
        decided = attrs.evolve(approved(request), grants=grants, grant_risk=grant_risk)
        device = attrs.evolve(a_device(request), grants=grants)
        self.wait(self.store.approve_request(decided, device))
        return decided

    def kept(self, request: PairingRequest) -> Device:
        device: Device = self.wait(self.store.device(request.device_id))
        return device

    def announce(self, request: PairingRequest, *announced: AnnouncedCapability) -> Device:
        """Let the device register with these."""
        certificate = self.wait(self.store.renew(a_renewal(request, "used", None)))
        registration = a_registration(
            request.device_id, certificate.fingerprint, capabilities=announced
        )
        device: Device = self.wait(self.store.register(registration))
        assert self.kept(request) == device
        return device

    def change(self, request: PairingRequest, **changes: Any) -> Device:
        changed: Device = self.wait(self.store.change(DeviceChange(request.device_id, **changes)))
        assert self.kept(request) == changed
        return changed

    # -- approval ---------------------------------------------------------------------------------

    def test_what_is_not_granted_is_withheld(self) -> None:
        """Approval may grant less than was announced, and sets the risk for what comes later."""
        request = self.pair(ECHO, OPEN, SHELL, grants=names("echo"), grant_risk=Risk.MEDIUM)
        device = self.kept(request)
        assert device.grants == names("echo")
        assert device.withheld == names(OPEN.name, SHELL.name)
        assert device.grant_risk is Risk.MEDIUM
        assert self.wait(self.store.request(request.request_id)) == request

    def test_approving_the_same_key_again_decides_anew(self) -> None:
        """The grants are those of the new decision; what was withheld before stays withheld."""
        self.pair(ECHO, OPEN, grants=names("echo"), grant_risk=Risk.HIGH)
        again = self.pair(ECHO, HEALTH, grants=names(HEALTH.name), code="c2")
        device = self.kept(again)
        assert device.grants == names(HEALTH.name)
        assert device.withheld == names("echo", OPEN.name)
        assert device.grant_risk is Risk.LOW

    def test_another_key_starts_from_nothing(self) -> None:
        """Neither grants nor what was withheld carry over."""
        self.pair(ECHO, OPEN, grants=names("echo"), grant_risk=Risk.HIGH)
        key = sha256_hex(b"new")
        other = self.pair(HEALTH, code="c2", identity_fingerprint=key)
        device = self.kept(other)
        assert (device.grants, device.withheld) == (NOTHING, names(HEALTH.name))

    # -- what appears later -----------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("risk", "granted"),
        [
            (Risk.NONE, set()),
            (Risk.LOW, {HEALTH.name}),
            (Risk.MEDIUM, {HEALTH.name, OPEN.name, LAMP.name}),
            (Risk.HIGH, {HEALTH.name, OPEN.name, LAMP.name, SHELL.name}),
        ],
    )
    def test_what_appears_later_is_granted_up_to_a_risk(
        self, risk: Risk, granted: set[str]
    ) -> None:
        """A plugin's own word that its risk is low counts as medium; all else is withheld."""
        request = self.pair(grant_risk=risk)
        announced = (HEALTH, OPEN, LAMP, SHELL)
        device = self.announce(request, *announced)
        assert device.capabilities == announced
        assert device.grants == granted
        assert device.withheld == {each.name for each in announced} - granted

    def test_what_was_withheld_once_is_not_granted_by_itself(self) -> None:
        """Not when its risk is said to be lower, nor when it went away and came back."""
        request = self.pair(HEALTH, OPEN)
        device = self.announce(request, attrs.evolve(OPEN, risk="low"))
        assert (device.grants, device.withheld) == (NOTHING, names(HEALTH.name, OPEN.name))
        device = self.announce(request, HEALTH, OPEN)
        assert (device.grants, device.withheld) == (NOTHING, names(HEALTH.name, OPEN.name))

    def test_what_was_granted_stays_granted(self) -> None:
        """Also while it is away, and when its risk is said to be higher."""
        request = self.pair(HEALTH, grants=names(HEALTH.name))
        self.announce(request)
        device = self.announce(request, attrs.evolve(HEALTH, risk="high"))
        assert (device.grants, device.withheld) == (names(HEALTH.name), NOTHING)

    def test_no_name_gives_power_over_other_devices(self) -> None:
        """A capability that is called like that grant is never granted by itself."""
        request = self.pair(grant_risk=Risk.HIGH, client_kind=ClientKind.CLI)
        device = self.announce(request, AnnouncedCapability(INVOKE_OTHERS))
        assert (device.grants, device.withheld) == (NOTHING, names(INVOKE_OTHERS))

    def test_a_device_that_invents_names_is_not_listened_to(self) -> None:
        """Only so many are kept of a device, and no further one is granted by itself."""
        request = self.pair(OPEN)
        invented = [f"system.x{n}" for n in range(MAX_SEEN + 40)]
        device = self.announce(request, *map(AnnouncedCapability, invented))
        assert len(device.grants) == MAX_SEEN - 1
        assert device.withheld == names(OPEN.name)
        device = self.announce(request, OPEN, *map(AnnouncedCapability, invented[::-1]))
        assert len(device.grants) == MAX_SEEN - 1
        assert OPEN.name in device.withheld

    # -- an operator's word -----------------------------------------------------------------------

    def test_an_operator_grants_and_withholds(self) -> None:
        """What is granted is not withheld any more, and the other way round."""
        request = self.pair(ECHO, HEALTH, OPEN, grants=names("echo", HEALTH.name))
        device = self.change(
            request, grant=names(OPEN.name), withhold=names(HEALTH.name, LAMP.name)
        )
        assert device.grants == names("echo", OPEN.name)
        assert device.withheld == names(HEALTH.name, LAMP.name)
        assert device.grant_risk is Risk.LOW
        device = self.announce(request, LAMP, HEALTH)
        assert device.grants == names("echo", OPEN.name)

    def test_an_operator_sets_the_risk_for_what_comes_later(self) -> None:
        """Nothing that was withheld before is granted by that."""
        request = self.pair(OPEN)
        device = self.change(request, grant_risk=Risk.HIGH)
        assert (device.grant_risk, device.grants) == (Risk.HIGH, NOTHING)
        device = self.announce(request, OPEN, SHELL)
        assert (device.grants, device.withheld) == (names(SHELL.name), names(OPEN.name))

    def test_what_was_seen_once_can_be_granted(self) -> None:
        """Also while the device does not announce it."""
        request = self.pair(OPEN)
        self.announce(request, HEALTH)
        assert OPEN.name in self.change(request, grant=names(OPEN.name)).grants

    def test_what_was_never_seen_cannot_be_granted(self) -> None:
        """A name with a slip in it is told, and nothing changes."""
        request = self.pair(ECHO)
        before = self.kept(request)
        wrong = names("echo", "eccho")
        for changes in (
            {"grant": wrong, "name": "new"},
            {"grant": names("echo"), "withhold": names("echo")},
            {"grant": names(INVOKE_OTHERS)},
        ):
            with pytest.raises(Malformed) as caught:
                self.change(request, **changes)
            assert caught.value.field == "grants"
        assert self.kept(request) == before

    @pytest.mark.parametrize("kind", [ClientKind.CLI, ClientKind.DESKTOP])
    def test_clients_may_be_let_address_others(self, kind: ClientKind) -> None:
        """Only by an operator's word, and it can be taken back."""
        request = self.pair(client_kind=kind)
        others = names(INVOKE_OTHERS)
        assert self.change(request, grant=others).grants == others
        assert self.change(request, withhold=others).grants == NOTHING
