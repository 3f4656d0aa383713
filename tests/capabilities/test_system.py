"""system.health and system.identity say what the published keys promise."""

from __future__ import annotations

import json
from collections import namedtuple
from typing import Any

import psutil
import pytest
from palyra_capabilities import system

from palyra.capability import Risk
from palyra.capability.outcome import OutcomeKind
from tests.capabilities.running import DEVICE, run

BY_NAME = {each.name: each for each in system.palyra_capabilities()}
Times = namedtuple("Times", "user system idle iowait guest")


def answer(name: str) -> dict[str, Any]:
    outcome = run(BY_NAME[name])
    assert outcome.kind is OutcomeKind.SUCCEEDED, outcome.error_sentence
    found: dict[str, Any] = json.loads(outcome.output)
    return found


def test_health() -> None:
    """The published keys come first, then the measurements, all of them plausible."""
    health = answer("system.health")
    assert list(health) == [
        "status", "device_id", "grpc_url", "poll_interval_ms", "generated_at_unix_ms",
        "cpu", "memory", "disk", "load", "uptime", "versions",
    ]  # fmt: skip
    assert (health["status"], health["device_id"]) == ("ok", DEVICE.device_id)
    assert (health["grpc_url"], health["poll_interval_ms"]) == (DEVICE.grpc_url, 5000)
    assert health["generated_at_unix_ms"] > 1_700_000_000_000
    for part in ("cpu", "memory", "disk"):
        assert 0 <= health[part]["percent"] <= 100
    assert health["uptime"]["system_s"] >= 0


def test_identity() -> None:
    """The published keys come first and are the device's own."""
    identity = answer("system.identity")
    assert list(identity)[:4] == [
        "device_id", "identity_fingerprint", "grpc_url", "paired_at_unix_ms",
    ]  # fmt: skip
    assert identity["identity_fingerprint"] == DEVICE.identity_fingerprint
    assert identity["paired_at_unix_ms"] == DEVICE.paired_at_unix_ms
    assert identity["name"] == "pi"


def test_unknown_input_is_refused() -> None:
    """A field that means nothing is refused rather than passed over."""
    outcome = run(BY_NAME["system.health"], b'{"x":1}')
    assert outcome.error_code == "input_invalid"


@pytest.mark.parametrize("name", BY_NAME)
def test_descriptors(name: str) -> None:
    """Both are harmless and may be repeated."""
    found = BY_NAME[name]
    assert (found.risk, found.idempotent, found.needs_mediation) == (Risk.LOW, True, False)


def test_cpu_meter() -> None:
    """Busy is all time but idle and waiting for disks; guests are not counted twice."""
    samples = [
        Times(10.0, 0.0, 10.0, 0.0, 5.0),
        Times(12.0, 1.0, 14.0, 1.0, 7.0),
        Times(12.0, 1.0, 14.0, 1.0, 7.0),
    ]
    meter = system.CpuMeter(iter(samples).__next__)
    first = meter.percent()
    assert first == 37.5
    assert meter.percent() == first


def test_no_load_average(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system without load averages answers null there and is healthy all the same."""

    def missing() -> tuple[float, float, float]:
        raise OSError

    monkeypatch.setattr(psutil, "getloadavg", missing)
    assert answer("system.health")["load"] is None
