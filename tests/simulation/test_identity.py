"""Tests of :mod:`palyra.testing.simulation.identity`."""

from __future__ import annotations

from random import Random

import pytest
from twisted.internet.defer import CancelledError

from palyra.core.identifiers import DeviceId
from palyra.errors import DiskFull
from palyra.gateway.issuing import Issuer
from palyra.node.identity import PairingFile
from palyra.testing.simulation.clock import HostClock, Timeline
from palyra.testing.simulation.disk import AttemptDisk
from palyra.testing.simulation.identity import IdentityOnDisk, KeptIdentity, trust

DEVICE = DeviceId("01M80NKQCNX4K7QM2ZT9B30001")


class Files:
    """A device's identity files, on which node hosts live one after the other."""

    def __init__(self) -> None:
        self.timeline = Timeline()
        self.disk = AttemptDisk(Random(7))
        self.kept = KeptIdentity("pi", DEVICE, self.disk)
        self.start()

    def start(self) -> IdentityOnDisk:
        self.clock = HostClock(self.timeline, lambda: 0.0)
        self.store = IdentityOnDisk(self.kept, self.clock)
        return self.store

    def issued(self, csr_der: bytes) -> str:
        issuer = Issuer(trust=trust(), life_ms=600_000, now_ms=self.clock.now_ms)
        return issuer.issue(DEVICE, csr_der).pem


def test_the_rules_are_those_of_the_files() -> None:
    """A pairing, a renewal, and the registration that makes its certificate the current one."""
    files = Files()
    bundle_pem = trust().ca_bundle_pem.decode()
    first = files.store.accept(DEVICE, files.issued(files.store.new_csr(DEVICE)), bundle_pem)
    csr_der = files.store.new_csr(DEVICE)
    assert files.start().new_csr(DEVICE) == csr_der
    following = files.store.accept_next(DEVICE, files.issued(csr_der), bundle_pem)
    assert files.start().client().usable(files.clock.now_ms()) == [following, first]
    files.store.registered(following.fingerprint)
    client = files.start().client()
    assert (client.current, client.next, client.pending) == (following, None, None)


@pytest.mark.parametrize("durable", [False, True])
def test_a_host_that_dies_in_a_write_does_nothing_more(durable: bool) -> None:
    """And the file is the old one or the new one."""
    files = Files()
    files.kept.writing = lambda now: files.clock.kill() if now is durable else None
    with pytest.raises(CancelledError):
        files.store.new_csr(DEVICE)
    assert (files.start().client().pending is not None) is durable


def test_a_dead_host_writes_nothing() -> None:
    """Whatever it was about to."""
    files = Files()
    files.clock.kill()
    with pytest.raises(CancelledError):
        files.store.new_csr(DEVICE)
    assert files.start().client().pending is None


def test_a_full_disk_refuses_a_write() -> None:
    """With the error of the files, and what there was stays."""
    files = Files()
    files.disk.trouble = DiskFull
    with pytest.raises(DiskFull):
        files.store.new_csr(DEVICE)
    assert files.store.client().pending is None


def test_a_session_that_is_waited_for_survives() -> None:
    """Until it is decided, or unless it could not be written."""
    files = Files()
    waiting = PairingFile(1, "0" * 32, "", "gateway.sim:7443", "the CA")
    files.store.keep_waiting(waiting)
    assert files.start().waiting() == waiting
    files.store.stop_waiting()
    assert files.start().waiting() is None
    files.disk.trouble = DiskFull
    with pytest.raises(DiskFull):
        files.store.keep_waiting(waiting)
