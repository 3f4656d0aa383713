"""Tests of :mod:`palyra.node.standing`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
from twisted.internet.defer import execute

from palyra import __version__
from palyra.capability.catalogue import Catalogue, Fault
from palyra.config.addresses import HostPort
from palyra.core.frames import Welcome
from palyra.core.transports import Transport
from palyra.errors import DiskFull, GatewayUnreachable, PalyraError, RemoteRefusal, StoreCorrupt
from palyra.node.controlwords import StatusAnswer
from palyra.node.identity import ClientFile, Credential
from palyra.node.lasterror import LastErrors
from palyra.node.link import Route
from palyra.node.standing import Standing
from tests.node.fakes import DEVICE_ID, NOW_MS, catalogue

ROUTE = Route(Transport.QUIC, HostPort("gw.example", 7444))
WELCOME = Welcome(DEVICE_ID, "epoch", 1, 15_000, NOW_MS, "", (), "pi", "0.2.0")
AWAY = GatewayUnreachable("gw.example:7444", "connection refused")
HOUR_MS = 3_600_000


@attrs.define
class Host:
    """What a node host is asked for: connection, renewal, runs and certificate at once."""

    now_ms: int = NOW_MS
    elapsed: float = 100.0
    tried: bool = False
    last_heard_s: float | None = None
    route: Route | None = None
    due_in_s: float | None = None
    count: int = 0
    ends_ms: int = NOW_MS + 24 * HOUR_MS
    trouble: Exception | None = None
    catalogue: Catalogue = attrs.Factory(catalogue)
    failed: list[float] = attrs.Factory(list)

    def passes(self, milliseconds: int) -> None:
        """Time does, by every clock."""
        self.now_ms += milliseconds
        self.elapsed += milliseconds / 1000

    def client(self) -> ClientFile:
        if self.trouble is not None:
            raise self.trouble
        return ClientFile(1, "ca", Credential("cert", "key", self.ends_ms))

    def renewal_failed(self, error: PalyraError | None, left_s: float) -> None:
        self.failed.append(left_s)


@attrs.define
class Here:
    """A standing, and the host that it is of."""

    host: Host
    standing: Standing

    def now(self) -> StatusAnswer:
        host: Any = self.host
        return self.standing.answer(host, host, host, 2)


@pytest.fixture
def here(tmp_path: Path) -> Here:
    host = Host()
    fake: Any = host
    errors = LastErrors(
        tmp_path / "last-error.json",
        now_ms=lambda: host.now_ms,
        elapsed_s=lambda: host.elapsed,
        in_thread=execute,
    )
    standing = Standing(
        name="pi",
        device_id=DEVICE_ID,
        identity=fake,
        errors=errors,
        watcher=host,
        containment="process groups",
        now_ms=lambda: host.now_ms,
        elapsed_s=lambda: host.elapsed,
    )
    return Here(host, standing)


def test_before_the_first_answer(here: Here) -> None:
    """It starts; what it runs and when it began is known already."""
    here.host.passes(5_000)
    told = here.now()
    assert (told.state, told.transport, told.address) == ("starting", "", "")
    assert (told.started_at_unix_ms, told.version) == (NOW_MS, __version__)
    assert (told.capabilities.count, told.capabilities.faults, told.requests) == (3, 0, 2)
    assert (told.last_heard_unix_ms, told.retry_at_unix_ms, told.last_error) == (0, 0, None)


def test_online(here: Here) -> None:
    """Route, the gateway's version, when it was heard by the time of day, and the certificate."""
    host = here.host
    here.standing.online(WELCOME, ROUTE)
    host.route, host.tried, host.last_heard_s, host.due_in_s = ROUTE, True, 96.0, 3_600.0
    told = here.now()
    assert (told.state, told.transport, told.address) == ("online", "quic", "gw.example:7444")
    assert told.gateway_version == "0.2.0"
    assert told.last_heard_unix_ms == NOW_MS - 4_000
    assert told.cert_renews_at_unix_ms == NOW_MS + HOUR_MS
    assert told.cert_expires_at_unix_ms == host.ends_ms


def test_offline_and_back(here: Here) -> None:
    """The cause, when it is tried again, and that it is over, also for those who ask later."""
    host = here.host
    host.tried = True
    here.standing.offline(AWAY, 4.0)
    told = here.now()
    assert (told.state, told.retry_at_unix_ms) == ("offline", NOW_MS + 4_000)
    assert told.last_error is not None and told.last_error.healed_at_unix_ms == 0
    here.standing.waiting("01M80NKQCNREQ4EST000000001")
    assert here.now().retry_at_unix_ms == 0
    host.passes(40_000)
    host.route = ROUTE
    here.standing.online(WELCOME, ROUTE)
    told = here.now()
    assert told.retry_at_unix_ms == 0 and told.last_error is not None
    assert told.last_error.healed_at_unix_ms == NOW_MS + 40_000


@pytest.mark.parametrize("by_ms", [24 * HOUR_MS, -24 * HOUR_MS, -NOW_MS])
def test_a_clock_that_was_set(here: Here, by_ms: int) -> None:
    """Ahead, back, or to 1970: it began as long ago as it did, and tries again as soon."""
    here.standing.offline(AWAY, 4.0)
    here.host.passes(3_000)
    here.host.now_ms += by_ms
    told = here.now()
    assert told.started_at_unix_ms == here.host.now_ms - 3_000
    assert told.retry_at_unix_ms == here.host.now_ms + 1_000
    assert told.last_error is not None
    assert told.last_error.began_at_unix_ms == here.host.now_ms - 3_000


def test_revoked(here: Here, tmp_path: Path) -> None:
    """That a person must act is on disk before anything ends by it."""
    refusal = RemoteRefusal("device_revoked", "This device was revoked.", final=True)
    here.standing.offline(AWAY, 4.0)
    here.standing.offline(refusal, 600.0)
    assert "device_revoked" in (tmp_path / "last-error.json").read_text()


def test_a_renewal_that_fails(here: Here) -> None:
    """It is an outage, the watcher hears of it, and it is over with another certificate: a new
    session over the same one changes nothing."""
    here.standing.renewal_failed(None, 900.0)
    assert here.host.failed == [900.0]
    here.standing.online(WELCOME, ROUTE)
    told = here.now().last_error
    assert told is not None and told.healed_at_unix_ms == 0
    here.host.ends_ms += HOUR_MS
    here.standing.online(WELCOME, ROUTE)
    told = here.now().last_error
    assert told is not None and told.healed_at_unix_ms == NOW_MS


def test_a_disk_in_trouble(here: Here) -> None:
    """Attempts that cannot be recorded are an outage until one can be."""
    here.standing.stored(DiskFull("/srv"))
    told = here.now().last_error
    assert told is not None and (told.code, told.healed_at_unix_ms) == ("disk_full", 0)
    here.standing.stored(None)
    here.standing.stored(ValueError("x"))
    told = here.now().last_error
    assert told is not None and told.code == "store_unavailable"


@pytest.mark.parametrize("trouble", [StoreCorrupt("f", "x"), PermissionError(13, "no")])
def test_a_certificate_that_cannot_be_read(here: Here, trouble: Exception) -> None:
    """The rest is told all the same."""
    here.host.trouble = trouble
    assert here.now().cert_expires_at_unix_ms == 0


def test_faults(here: Here) -> None:
    """Each in a sentence; they are counted whole, told bounded, and safe to print."""
    broken = [Fault(f"p{n}", "dist", "1", "No module\x1b") for n in range(100)]
    here.host.catalogue = Catalogue((), broken)
    told = here.now()
    assert told.capabilities.faults == 100 and len(told.faults) == 64
    assert told.faults[0] == "p0: No module\\u001b"
