"""What every store keeps of descriptors, and of devices that change what they offer."""

from __future__ import annotations

import attrs
import pytest

from palyra.core.auditlog import AuditQuery
from palyra.core.devices import (
    INVOKE_OTHERS,
    AnnouncedCapability,
    ClientKind,
    Device,
    Offering,
    Risk,
)
from palyra.core.identifiers import DeviceId, sha256_hex
from palyra.core.journal import RESTORED, SUSPENDED, JournalPage
from palyra.core.pairing import PairingRequest
from palyra.errors import DeviceRevoked, NotFound, NotRegistered
from palyra.store.grants import MAX_SEEN
from tests.contract.grants import ECHO, NOTHING, GrantsContract, names
from tests.store.samples import NOW_MS, ulid

ONE, OTHER = sha256_hex(b"one"), sha256_hex(b"other")
LAMP = AnnouncedCapability("acme.lamp", risk="medium", digest="a", contract="A")
CHANGED = attrs.evolve(LAMP, digest="b", contract="B")
SILENT = attrs.evolve(LAMP, contract="")
SECOND = attrs.evolve(LAMP, name="acme.other")
BROKEN = AnnouncedCapability(LAMP.name, available=False, risk="medium", fault="broken")


class DescriptorsContract(GrantsContract):
    """Part of :class:`tests.contract.store.StoreContract`."""

    def forgotten_descriptors(self, before_ms: int) -> tuple[str, ...]:
        gone: tuple[str, ...] = self.wait(self.store.forget_descriptors(before_ms))
        return gone

    def offer(self, device: Device, *offered: AnnouncedCapability) -> Device:
        """Say in the device's session that it offers these."""
        owner = device.gateway_id, device.session_epoch
        changed: Device = self.wait(
            self.store.offer(Offering(device.device_id, *owner, offered, NOW_MS + 7))
        )
        assert self.wait(self.store.device(device.device_id)) == changed
        return changed

    def lamp(self, **changes: Risk) -> tuple[PairingRequest, Device]:
        """A device with a lamp that was granted at its approval, registered."""
        request = self.pair(LAMP, grants=names(LAMP.name), **changes)
        return request, self.announce(request, LAMP)

    def turns(self, device_id: DeviceId) -> list[tuple[str, object]]:
        """What the journal of a device says of suspended grants."""
        page: JournalPage = self.wait(self.store.journal(device_id, 0, 100))
        return [
            (each.kind, each.details["capabilities"])
            for each in page.events
            if each.kind in (SUSPENDED, RESTORED)
        ]

    # -- descriptors ------------------------------------------------------------------------------

    def test_descriptors_are_kept_by_digest(self) -> None:
        """As the bytes they are; again: nothing, and none is overwritten."""
        assert self.wait(self.store.descriptors()) == {}
        self.wait(self.store.keep_descriptors({ONE: b"{}", OTHER: b"\x00\xff"}, NOW_MS))
        self.wait(self.store.keep_descriptors({ONE: b"else"}, NOW_MS))
        self.wait(self.store.keep_descriptors({}, NOW_MS))
        assert self.wait(self.store.descriptors()) == {ONE: b"{}", OTHER: b"\x00\xff"}

    def test_descriptors_that_nobody_announces_are_forgotten(self) -> None:
        """Once they were not seen for long; who keeps one again has seen it."""
        self.wait(self.store.keep_descriptors({ONE: b"1", OTHER: b"2"}, NOW_MS))
        self.wait(self.store.keep_descriptors({OTHER: b"2"}, NOW_MS + 1))
        assert self.forgotten_descriptors(NOW_MS) == ()
        assert self.forgotten_descriptors(NOW_MS + 1) == (ONE,)
        assert self.wait(self.store.descriptors()) == {OTHER: b"2"}
        assert self.forgotten_descriptors(NOW_MS + 2) == (OTHER,)

    def test_descriptors_that_a_device_announces_stay(self) -> None:
        """However old; and they were seen when that was looked at."""
        self.pair(attrs.evolve(LAMP, digest=ONE), ECHO)
        self.wait(self.store.keep_descriptors({ONE: b"1", OTHER: b"2"}, NOW_MS - 50))
        assert self.forgotten_descriptors(NOW_MS - 40) == (OTHER,)
        assert self.forgotten_descriptors(NOW_MS - 40) == ()
        assert self.wait(self.store.descriptors()) == {ONE: b"1"}

    # -- what is offered in a session -------------------------------------------------------------

    def test_a_device_offers_something_else_in_its_session(self) -> None:
        """By the rules of a registration; nothing else of it changes."""
        _, device = self.lamp()
        health = AnnouncedCapability("system.health")
        now = self.offer(device, LAMP, health)
        assert now == attrs.evolve(
            device,
            capabilities=(LAMP, health),
            grants=names(LAMP.name, health.name),
        )

    def test_only_the_session_that_owns_dispatch_offers(self) -> None:
        """Neither an older one, nor one of another gateway, nor one of no device."""
        request, device = self.lamp()
        newer = self.announce(request, LAMP)
        for wrong in (
            device,
            attrs.evolve(newer, gateway_id="other"),
            attrs.evolve(newer, session_epoch=newer.session_epoch + 1),
        ):
            with pytest.raises(NotRegistered):
                self.offer(wrong, CHANGED)
        with pytest.raises(NotFound):
            self.offer(attrs.evolve(newer, device_id=DeviceId(ulid("none"))), CHANGED)
        assert self.kept(request) == newer

    def test_a_revoked_device_offers_nothing(self) -> None:
        """Its session is about to end."""
        request, device = self.lamp()
        self.wait(self.store.revoke(request.device_id, "ana", "lost", NOW_MS))
        with pytest.raises(DeviceRevoked):
            self.offer(device, CHANGED)

    # -- what a grant is for ----------------------------------------------------------------------

    def test_a_grant_is_for_a_contract(self) -> None:
        """From the approval on; what was not granted has none."""
        request = self.pair(LAMP, SECOND, grants=names(LAMP.name))
        assert self.kept(request).contracts == {LAMP.name: "A"}

    def test_a_grant_without_a_contract_gets_the_first_one(self) -> None:
        """Of a device that did not say one when it was approved."""
        request = self.pair(SILENT, grants=names(LAMP.name))
        assert self.kept(request).contracts == {}
        device = self.announce(request, CHANGED)
        assert (device.grants, device.contracts) == (names(LAMP.name), {LAMP.name: "B"})

    @pytest.mark.parametrize("instead", [CHANGED, SILENT])
    def test_another_contract_suspends_the_grant(self, instead: AnnouncedCapability) -> None:
        """What it was for stays known; the journal and the audit chain say it, once."""
        request, device = self.lamp()
        assert device.suspended == NOTHING
        device = self.offer(device, ECHO, instead)
        device = self.offer(device, instead)
        assert (device.grants, device.withheld) == (names("echo"), names(LAMP.name))
        assert (device.suspended, device.contracts) == (names(LAMP.name), {LAMP.name: "A"})
        assert self.turns(request.device_id) == [(SUSPENDED, LAMP.name)]
        rows = self.wait(self.store.audit_rows(AuditQuery(limit=1))).rows
        assert rows[0].line.action == SUSPENDED

    def test_an_event_names_only_some(self) -> None:
        """A device that changes everything at once fills no record with names of its choice."""
        every = [attrs.evolve(LAMP, name=f"acme.x{number:02}") for number in range(18)]
        granted = frozenset(each.name for each in every)
        request = self.pair(*every, grants=granted)
        device = self.announce(request, *(attrs.evolve(each, contract="B") for each in every))
        assert device.suspended == granted
        named = ", ".join(sorted(granted)[:16])
        assert self.turns(request.device_id) == [(SUSPENDED, f"{named} and 2 more")]

    def test_a_registration_suspends_too(self) -> None:
        """In its transaction."""
        request, _ = self.lamp()
        device = self.announce(request, CHANGED)
        assert device.suspended == names(LAMP.name)
        assert self.turns(request.device_id) == [(SUSPENDED, LAMP.name)]

    def test_the_old_contract_restores_the_grant(self) -> None:
        """Nobody has to be asked for what was granted; a third contract does not."""
        request, device = self.lamp()
        device = self.offer(device, CHANGED)
        device = self.offer(device, attrs.evolve(CHANGED, contract="C"))
        assert device.suspended == names(LAMP.name)
        device = self.offer(device, LAMP)
        assert (device.grants, device.suspended) == (names(LAMP.name), NOTHING)
        assert device.withheld == NOTHING
        expected = [(SUSPENDED, LAMP.name), (RESTORED, LAMP.name)]
        assert self.turns(request.device_id) == expected

    @pytest.mark.parametrize("away", [(), (BROKEN,)])
    def test_what_cannot_be_run_is_not_judged(self, away: tuple[AnnouncedCapability, ...]) -> None:
        """A plugin that is away or broken keeps its grant, for what it was."""
        _, device = self.lamp()
        device = self.offer(device, *away)
        assert (device.grants, device.contracts) == (names(LAMP.name), {LAMP.name: "A"})
        assert self.offer(device, CHANGED).suspended == names(LAMP.name)

    def test_what_would_be_granted_by_itself_is_not_suspended(self) -> None:
        """It is for the new contract from then on; one of a higher risk is suspended."""
        _, device = self.lamp(grant_risk=Risk.MEDIUM)
        device = self.offer(device, CHANGED)
        assert (device.grants, device.contracts) == (names(LAMP.name), {LAMP.name: "B"})
        device = self.offer(device, attrs.evolve(LAMP, risk="high"))
        assert (device.suspended, device.contracts) == (names(LAMP.name), {LAMP.name: "B"})

    def test_what_is_granted_by_itself_has_a_contract(self) -> None:
        """The one it was first announced with."""
        request = self.pair(grant_risk=Risk.MEDIUM)
        assert self.announce(request, LAMP).contracts == {LAMP.name: "A"}

    def test_an_operator_grants_what_has_changed(self) -> None:
        """For what the device offers now: then the old one is the other one."""
        request, device = self.lamp()
        self.offer(device, CHANGED)
        device = self.change(request, grant=names(LAMP.name))
        assert (device.grants, device.contracts) == (names(LAMP.name), {LAMP.name: "B"})
        assert device.withheld == NOTHING
        assert self.offer(device, LAMP).suspended == names(LAMP.name)

    def test_an_operator_grants_what_is_away(self) -> None:
        """For whatever it is when it comes back: nobody can say what it will be."""
        request, device = self.lamp()
        self.offer(device)
        device = self.change(request, grant=names(LAMP.name))
        assert device.contracts == {}
        assert self.offer(device, CHANGED).contracts == {LAMP.name: "B"}

    def test_an_operator_withholds_what_has_changed(self) -> None:
        """Then the old contract does not come back by itself."""
        request, device = self.lamp()
        self.offer(device, CHANGED)
        device = self.change(request, withhold=names(LAMP.name))
        assert (device.contracts, device.suspended) == ({}, NOTHING)
        device = self.offer(device, LAMP)
        assert (device.grants, device.withheld) == (NOTHING, names(LAMP.name))
        assert self.turns(request.device_id) == [(SUSPENDED, LAMP.name)]

    def test_another_approval_decides_anew(self) -> None:
        """With the same key: what is granted now is for what was announced now."""
        _, device = self.lamp()
        self.offer(device, CHANGED)
        again = self.pair(CHANGED, grants=names(LAMP.name), code="c2")
        assert self.kept(again).contracts == {LAMP.name: "B"}
        refused = self.pair(LAMP, code="c3")
        device = self.kept(refused)
        assert (device.grants, device.contracts) == (NOTHING, {})
        assert device.withheld == names(LAMP.name)

    def test_a_grant_over_others_is_for_no_contract(self) -> None:
        """A client cannot lose it by what it calls a capability."""
        others = names(INVOKE_OTHERS)
        request = self.pair(client_kind=ClientKind.CLI, grants=others)
        device = self.announce(request, AnnouncedCapability(INVOKE_OTHERS, contract="A"))
        device = self.offer(device, AnnouncedCapability(INVOKE_OTHERS, contract="B"))
        assert (device.grants, device.contracts) == (others, {})

    def test_contracts_are_as_few_as_names(self) -> None:
        """A device that invents names fills nothing with them."""
        request = self.pair()
        invented = [AnnouncedCapability(f"system.x{n}", contract="A") for n in range(MAX_SEEN + 40)]
        device = self.announce(request, *invented)
        assert len(device.contracts) == MAX_SEEN
