"""Superseded certificates that somebody still uses."""

from __future__ import annotations

import pytest
from twisted.logger import LogLevel, capturedLogs

from palyra.core.identifiers import DeviceId
from palyra.errors import CertificateSuperseded
from palyra.gateway import clones
from palyra.gateway.clones import QUIET_MS, REMEMBERED_MS, CloneAlarms
from tests.gateway.enrolling import HOME, Applicant, Gateway

PI, NAS = DeviceId("pi"), DeviceId("nas")


class Time:
    now_ms = 1_000_000

    def __call__(self) -> int:
        return self.now_ms


def test_the_newest_first() -> None:
    """One of each device, as it was seen last, for a day."""
    time = Time()
    alarms = CloneAlarms(time)
    for device_id, address in ((PI, "a"), (NAS, "b"), (PI, "c")):
        alarms.superseded_used(device_id, address)
        time.now_ms += 1
    assert [(each.device_id, each.address) for each in alarms.lately()] == [(PI, "c"), (NAS, "b")]
    time.now_ms += REMEMBERED_MS - 2
    assert [each.device_id for each in alarms.lately()] == [PI]
    time.now_ms += 1
    assert alarms.lately() == []


def test_it_is_said_once() -> None:
    """A host that tries without end fills no log; after a quiet while it is said again."""
    time = Time()
    alarms = CloneAlarms(time)
    with capturedLogs() as events:
        for _ in range(10):
            alarms.superseded_used(PI, HOME)
            time.now_ms += 1_000
        time.now_ms += QUIET_MS
        alarms.superseded_used(PI, HOME)
    assert [each["log_level"] for each in events] == [LogLevel.warn] * 2
    assert events[0]["device"] == PI and events[0]["address"] == HOME


def test_so_many_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that was seen longest ago is forgotten."""
    monkeypatch.setattr(clones, "MAX_REMEMBERED", 2)
    alarms = CloneAlarms(Time())
    for name in ("a", "b", "a", "c"):
        alarms.superseded_used(DeviceId(name), HOME)
    assert [each.device_id for each in alarms.lately()] == ["c", "a"]


def test_only_what_was_superseded_here_raises_it(gateway: Gateway) -> None:
    """The desk tells when a device's own former certificate is used, and nothing else."""
    applicant = Applicant()
    first = applicant.pair(gateway).certificate_pem.encode()
    for pem in (first, b"none"):
        try:
            gateway.node_desk.admit(pem, None, HOME, "grpc")
        except Exception as error:
            assert not isinstance(error, CertificateSuperseded)
    assert gateway.node_desk.clones.lately() == []
    applicant.pair(gateway)
    with pytest.raises(CertificateSuperseded):
        gateway.node_desk.admit(first, None, "198.51.100.9", "grpc")
    (seen,) = gateway.node_desk.clones.lately()
    assert (seen.device_id, seen.address) == (applicant.device_id, "198.51.100.9")
