"""Tests of :mod:`palyra.testing.simulation.certificates`."""

from __future__ import annotations

from random import Random

import attrs
import pytest

from palyra.core.devices import CertificateState, Renewal, RotationOrder
from palyra.core.identifiers import DeviceId, Fingerprint
from palyra.gateway.issuing import Issuer
from palyra.node.identity import Credential
from palyra.store.memory import MemoryStore
from palyra.testing.simulation.certificates import NOTICED_S, CertificateChecks
from palyra.testing.simulation.clock import HostClock, Timeline
from palyra.testing.simulation.disk import AttemptDisk, at_once
from palyra.testing.simulation.identity import IdentityOnDisk, trust
from palyra.testing.simulation.pairing import pair
from palyra.testing.simulation.trace import Violation


class Record:
    """A store with one device in it, and the checks of it."""

    def __init__(self) -> None:
        self.timeline = Timeline()
        self.clock = HostClock(self.timeline, lambda: 0.0)
        self.store = MemoryStore(now_ms=self.clock.now_ms, entropy=Random(7).randbytes)
        self.issuer = Issuer(trust=trust(), life_ms=600_000, now_ms=self.clock.now_ms)
        disk = AttemptDisk(Random(7))
        self.kept = pair(self.store, self.issuer, "pi", self.clock, disk)
        self.checks = CertificateChecks(self.store, lambda: self.timeline.now)

    @property
    def device_id(self) -> DeviceId:
        return self.kept.identity.device_id

    @property
    def fingerprint(self) -> Fingerprint:
        """Of the certificate of its pairing."""
        current = self.kept.client.current
        assert isinstance(current, Credential)
        return current.fingerprint

    def renew(self, over: Fingerprint | None) -> Fingerprint:
        """Issue another certificate; the checks see it."""
        csr_der = IdentityOnDisk(self.kept, self.clock).new_csr(self.device_id)
        offered = self.issuer.issue(self.device_id, csr_der)
        renewal = Renewal(offered, self.kept.identity.fingerprint, over)
        kept = at_once(self.store.renew(renewal))
        self.checks.committed([("renew", (renewal,))])
        return Fingerprint(kept.fingerprint)

    def order(self) -> None:
        """An operator orders another one."""
        order = RotationOrder(frozenset({self.device_id}), "ana", self.clock.now_ms())
        at_once(self.store.order_rotation(order))
        self.checks.committed([("order_rotation", (order,))])


def test_renewals_and_rejoins_are_counted_once() -> None:
    """An answer that is given once more is none."""
    record = Record()
    assert record.renew(record.fingerprint) == record.renew(record.fingerprint)
    assert (record.checks.renewals, record.checks.rejoins) == (1, 0)


def test_a_rejoin_supersedes_what_there_was() -> None:
    """No session may come over that any more; the moment of the commit is forgiven."""
    record = Record()
    record.checks.attached(record.device_id, record.fingerprint)
    newer = record.renew(None)
    assert record.checks.rejoins == 1
    record.checks.attached(record.device_id, record.fingerprint)
    record.timeline.advance(2 * NOTICED_S)
    record.checks.attached(record.device_id, newer)
    with pytest.raises(Violation, match="superseded certificate carries a session"):
        record.checks.attached(record.device_id, record.fingerprint)


def test_a_third_certificate_is_a_violation() -> None:
    """One is current and one is pending."""
    record = Record()
    newer = record.renew(record.fingerprint)
    kept = at_once(record.store.certificate(newer))
    other = attrs.evolve(kept, fingerprint="another", state=CertificateState.PENDING)
    record.store._certificates[Fingerprint("another")] = other
    with pytest.raises(Violation, match="has 2 pending certificates"):
        record.renew(record.fingerprint)


def test_an_order_wants_a_newer_certificate() -> None:
    """Unless the gateway could not know which is newer."""
    record = Record()
    record.checks.at_end(set_back=False)
    record.renew(record.fingerprint)
    record.timeline.advance(10.0)
    record.order()
    record.checks.at_end(set_back=True)
    with pytest.raises(Violation, match="pi uses an older certificate than was ordered"):
        record.checks.at_end(set_back=False)
