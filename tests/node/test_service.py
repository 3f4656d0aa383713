"""Tests of :mod:`palyra.node.service`."""

from __future__ import annotations

import datetime
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import msgspec
import pytest
from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from zope.interface import provider

from palyra._lock import RootLock
from palyra._notify import Notifier
from palyra._reactor import the_reactor
from palyra.config.addresses import HostPort
from palyra.config.node import NodeSection
from palyra.core.frames import Welcome
from palyra.core.identifiers import Fingerprint, short_id
from palyra.core.transports import Transport
from palyra.errors import GatewayUnreachable, Malformed, NotPaired, PalyraError, StoreCorrupt
from palyra.node.announcing import announcement, default_name
from palyra.node.files import HostFile, NodeFiles
from palyra.node.link import Route
from palyra.node.service import NodeHost, NodeService, paired_host
from palyra.node.watcher import Watcher
from palyra.pki.authority import Authority
from palyra.pki.csr import check_csr
from tests.node.awaiting import awaiting
from tests.node.fakes import DEVICE_ID, NOW_MS, catalogue

REQUEST_ID = "01M80NKQCNREQ4EST000000001"


class Seen(Watcher):
    """Keeps that the gateway was missed, and tells a test."""

    def __init__(self) -> None:
        self.missed: Deferred[PalyraError | None] = Deferred()

    def online(self, welcome: Welcome, route: Route) -> None:
        raise AssertionError("nobody listens there")

    def offline(self, error: PalyraError | None, retry_s: float) -> None:
        if not self.missed.called:
            the_reactor().callLater(0, self.missed.callback, error)


@attrs.define
class Paired:
    """A state root that is paired with a gateway where nobody listens."""

    files: NodeFiles
    address: str

    def service(self, watcher: Watcher | None = None, **changed: str) -> NodeService:
        identity = self.files.identity.open(NOW_MS, os.urandom)
        node = paired_host(self.files, catalogue(), identity)
        host = msgspec.structs.replace(node.host, **changed)
        return NodeService(
            NodeHost(self.files, host, identity, node.catalogue),
            lock=RootLock.take(self.files.lock, who="A node host"),
            config=NodeSection(shutdown_grace_s=1),
            reactor=the_reactor(),
            watcher=watcher,
        )

    def supervised(self, notifier: Notifier, watcher: Watcher) -> NodeService:
        """One that a service manager keeps."""
        plain = self.service()
        return NodeService(
            plain._node,
            lock=plain._lock,
            config=NodeSection(shutdown_grace_s=1),
            reactor=the_reactor(),
            watcher=watcher,
            notifier=notifier,
        )

    def reloading(self) -> NodeService:
        """One that reads its configuration again, also at SIGHUP."""
        plain = self.service()
        return NodeService(
            plain._node,
            lock=plain._lock,
            config=NodeSection(shutdown_grace_s=1),
            reactor=the_reactor(),
            config_file=self.files.state_root / "palyra.toml",
            signals=True,
        )

    def unlocked(self) -> bool:
        """Whether another node host could start now."""
        RootLock.take(self.files.lock, who="A node host").release()
        return True


@pytest.fixture
def paired(tmp_path: Path) -> Iterator[Paired]:
    files = NodeFiles(tmp_path)
    files.make()
    files.identity.open(NOW_MS, os.urandom, DEVICE_ID)
    authority = Authority.create(trust_domain="palyra", now_ms=NOW_MS, entropy=os.urandom)
    key = check_csr(files.identity.new_csr(DEVICE_ID), DEVICE_ID)
    pem = authority.issue_device(key, DEVICE_ID, int(time.time() * 1000)).pem.decode()
    files.identity.accept(DEVICE_ID, pem, authority.ca_pem.decode())
    with socket.socket() as taken:  # bound, never listening
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        host = HostFile(1, address, DEVICE_ID, 500, "", NOW_MS, NOW_MS, "pi")
        files.keep_host(host)
        yield Paired(files, address)


def threads() -> list[str]:
    return [
        each.name
        for each in threading.enumerate()
        if each.name.startswith(("palyra-", "PoolThread-palyra-attempts"))
    ]


@pytest.fixture
def log() -> Iterator[Callable[[], list[str]]]:
    """What was logged by the node host."""
    kept: list[str] = []

    @provider(ILogObserver)
    def keep(event: LogEvent) -> None:
        if event["log_namespace"].endswith(".Watcher"):
            kept.append(formatEvent(event))

    globalLogPublisher.addObserver(keep)
    yield lambda: kept
    globalLogPublisher.removeObserver(keep)


@awaiting
async def test_stop_at_once(paired: Paired) -> None:
    """Before the first answer of the gateway: everything is closed and the lock is free."""
    service = paired.service()
    service.startService()
    await service.stopService()
    assert paired.unlocked()
    assert threads() == []


class Told(Notifier):
    """Keeps what a service manager would be told."""

    def __init__(self) -> None:
        super().__init__(b"/run/notify", 30.0)
        self.words: list[str] = []

    def _send(self, *lines: str) -> bool:
        self.words.append(lines[0])
        return True


@awaiting
async def test_a_service_manager_is_told(paired: Paired) -> None:
    """That it serves, before the gateway was missed; that it reads again; and that it ends."""
    told, watcher = Told(), Seen()
    service = paired.supervised(told, watcher)
    service.startService()
    await watcher.missed
    assert told.words == ["READY=1", "WATCHDOG=1"]
    await service.reload()
    assert told.words[2:] == ["RELOADING=1", "READY=1"]
    await service.stopService()
    assert told.words[4:] == ["STOPPING=1"]


@awaiting
async def test_stop_while_the_gateway_is_away(paired: Paired) -> None:
    """Between two tries."""
    watcher = Seen()
    service = paired.service(watcher)
    service.startService()
    error = await watcher.missed
    await service.stopService()
    assert error is not None
    assert error.sentence == f"Cannot reach {paired.address}: connection refused."
    assert paired.unlocked()
    assert threads() == []


@awaiting
async def test_a_start_with_a_certificate_that_ran_out(paired: Paired) -> None:
    """It starts, and asks where the gateway enrols; nothing else heals it."""
    credential = paired.files.identity.client().current
    assert credential is not None
    path = paired.files.identity.path / "node-mtls-client.json"
    kept = msgspec.json.decode(path.read_bytes())
    kept["current"]["cert_expires_at_unix_ms"] = NOW_MS
    path.write_bytes(msgspec.json.encode(kept))
    for address, shown in (
        (paired.address, f"Cannot reach {paired.address}: connection refused."),
        ("", "This device's certificate ran out on 14 Nov"),
    ):
        watcher = Seen()
        service = paired.service(watcher, enrolment_address=address)
        service.startService()
        error = await watcher.missed
        await service.stopService()
        assert error is not None
        assert error.sentence.startswith(shown)
    assert paired.unlocked()
    assert threads() == []


def test_a_refused_start_leaves_nothing_running(paired: Paired) -> None:
    """A thread that is left would keep the process alive."""
    service = paired.service(grpc_url="nowhere")
    with pytest.raises(Malformed, match="grpc_url"):
        service.startService()
    service._lock.release()
    service = paired.service(enrolment_address="nowhere")
    with pytest.raises(Malformed, match="enrolment_address"):
        service.startService()
    service._lock.release()
    paired.files.attempts.write_text("not a database at all" * 100)
    service = paired.service()
    with pytest.raises(StoreCorrupt):
        service.startService()
    service._lock.release()
    assert threads() == []


def test_an_unpaired_device(tmp_path: Path) -> None:
    """Is told so, also when only half of the pairing is there."""
    files = NodeFiles(tmp_path)
    files.make()
    identity = files.identity.open(NOW_MS, os.urandom, DEVICE_ID)
    with pytest.raises(NotPaired):
        paired_host(files, catalogue(), identity)
    files.keep_host(HostFile(1, "gw:1", DEVICE_ID, 500, "", NOW_MS, NOW_MS))
    with pytest.raises(NotPaired):
        paired_host(files, catalogue(), identity)


def test_what_the_log_says(log: Callable[[], list[str]]) -> None:
    """Every step of a certificate's life in a line, with the time of its end."""
    watcher = Watcher()
    welcome = Welcome(DEVICE_ID, "e", 1, 15_000, NOW_MS, "", (), "pi", "1")
    watcher.online(welcome, Route(Transport.QUIC, HostPort("gw", 7444)))
    watcher.renewed(NOW_MS)
    watcher.renewal_failed(GatewayUnreachable("gw:7444", "no answer"), 3_600)
    watcher.renewal_failed(None, -1)
    watcher.identity_shown("pi", DEVICE_ID, Fingerprint("ab" * 32))
    watcher.waiting(REQUEST_ID)
    watcher.retrying("Cannot reach gw:7443: no answer.")
    watcher.rejoined(NOW_MS)
    watcher.clock_differs(720_000)
    watcher.clock_differs(-61_000)
    end = f"{datetime.datetime.fromtimestamp(NOW_MS / 1000).astimezone():%d %b %H:%M}"
    assert log() == [
        "online as pi, quic gw:7444",
        f"certificate renewed, valid until {end}",
        "certificate not renewed, 60 min left: Cannot reach gw:7444: no answer.",
        "certificate not renewed, 0 min left: a fault here, see the log",
        f"rejoin: pi  {short_id(DEVICE_ID)}  abab abab abab abab",
        f"rejoin: waiting for an operator to approve {short_id(REQUEST_ID)}",
        "rejoin: Cannot reach gw:7443: no answer. Asking again.",
        f"rejoined by identity key, certificate valid until {end}",
        "This clock is 12 min ahead of the gateway's.",
        "This clock is 1 min behind the gateway's.",
    ]


def test_what_it_announces() -> None:
    """Every capability with its facts, under a name that fits."""
    said = announcement(catalogue(), default_name("Ana's Pi.local"))
    assert said.name == "ana-s-pi"
    facts = {each.name: (each.idempotent, each.needs_mediation) for each in said.capabilities}
    assert facts == {
        "test.act": (False, False),
        "test.ask": (False, True),
        "test.look": (True, False),
    }


def faults(service: NodeService) -> set[str]:
    return {each.name for each in service._runs.catalogue.faults}


@awaiting
async def test_a_reload_takes_what_the_owner_has_written(paired: Paired) -> None:
    """What is offered, and what a gateway will be told; a wrong file changes nothing."""
    file = paired.files.state_root / "palyra.toml"
    service = paired.reloading()
    service.startService()
    try:
        first = await service.reload()
        assert (first.kept, first.faults) == ([], [])
        assert set(service._runs.catalogue.offers) >= {"echo", "system.health"}
        file.write_text('[node]\ndisabled = ["system.*"]\n')
        answer = await service.reload()
        assert answer.faults == []
        assert faults(service) == {"system.health", "system.identity"}
        said = {each.name: each.available for each in service._hello("").capabilities}
        assert said["echo"] and not said["system.health"]
        file.write_text("[node]\ndisabled = 5\n")
        answer = await service.reload()
        assert "node.disabled" in answer.kept[0]
        assert faults(service) == {"system.health", "system.identity"}
    finally:
        await service.stopService()
    assert paired.unlocked()
    assert threads() == []


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="there is no such signal")
@awaiting
async def test_a_hangup_reloads(paired: Paired) -> None:
    """As long as the node host runs; afterwards the signal is whose it was."""
    before = signal.getsignal(signal.SIGHUP)
    service = paired.reloading()
    service.startService()
    try:
        await service.reload()
        changed: Deferred[None] = Deferred()
        service._offers.offering.watch(lambda: None if changed.called else changed.callback(None))
        (paired.files.state_root / "palyra.toml").write_text('[node]\ndisabled = ["echo"]\n')
        signal.raise_signal(signal.SIGHUP)
        await changed
        assert faults(service) == {"echo"}
    finally:
        await service.stopService()
    assert signal.getsignal(signal.SIGHUP) is before
