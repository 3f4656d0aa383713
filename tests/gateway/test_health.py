"""What the running gateway says of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred

from palyra.console import models
from palyra.console.models import Check, Health
from palyra.core.devices import AnnouncedCapability
from palyra.core.frames import Hello
from palyra.core.identifiers import grouped
from palyra.gateway import health
from palyra.gateway.health import DAY_MS, HealthCheck
from palyra.pki.keystore import GatewayIdentity
from tests.callers import ANA
from tests.gateway.enrolling import AUTHORITY, HOME, Applicant, Gateway
from tests.gateway.house import result_of
from tests.gateway.opening import opened
from tests.store.samples import NOW_MS

HOUR_MS = 3_600_000


def reported(gateway: Gateway, root: Path, **changes: Any) -> Health:
    given: dict[str, Any] = {
        "state_root": root,
        "now_ms": gateway.now_ms,
        "rotator": gateway.rotator,
        "listeners": lambda: {"nodes": "127.0.0.1:7444"},
        "snapshot_error": lambda: None,
        "unconfirmed_since_ms": lambda: None,
        "inventory": gateway.inventory,
        "sessions": gateway.sessions,
        "clones": gateway.node_desk.clones,
        **changes,
    }
    return result_of(Deferred.fromCoroutine(HealthCheck(**given).report()))


def check(report: Health, name: str) -> Check:
    (found,) = [each for each in report.checks if each.name == name]
    return found


def names(report: Health) -> set[str]:
    return {each.name for each in report.checks}


def test_all_is_well(gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every check is ok, and says what it found."""
    monkeypatch.setattr(health, "LOW_SPACE_BYTES", 0)
    gateway.online()
    gateway.device("other")
    report = reported(gateway, tmp_path)
    assert {each.verdict for each in report.checks} == {"ok"}
    assert check(report, "devices").finding == "2 known, 1 connected"
    short = grouped(AUTHORITY.ca_hash)
    assert check(report, "CA").finding == f"{short}, 3648 days left"
    assert report.ca_fingerprint == AUTHORITY.ca_hash
    assert check(report, "listeners").finding == "nodes 127.0.0.1:7444"
    assert report.state_root == str(tmp_path)
    assert not names(report) & {"clones", "rotation", "CA rotation", "restored"}


@pytest.mark.parametrize(
    ("days", "verdict"), [(366, "ok"), (365, "warn"), (0, "FAIL"), (-1, "FAIL")]
)
def test_the_authority(gateway: Gateway, tmp_path: Path, days: int, verdict: str) -> None:
    """A CA near its end warns a year ahead, and names the command that replaces it."""
    ends_ms = int(AUTHORITY.ca_certificate.not_valid_after_utc.timestamp() * 1000)
    report = reported(gateway, tmp_path, now_ms=lambda: ends_ms - days * DAY_MS)
    found = check(report, "CA")
    assert (found.verdict, found.hint) == (verdict, "" if verdict == "ok" else "palyra ca rotate")


def test_the_certificate(gateway: Gateway, tmp_path: Path) -> None:
    """A gateway certificate that was not renewed in time warns."""
    gateway.identity.gateway_certificate.not_after_ms = gateway.now_ms() + 4 * DAY_MS
    assert check(reported(gateway, tmp_path), "certificate").verdict == "warn"


def test_the_snapshot(gateway: Gateway, tmp_path: Path) -> None:
    """A snapshot that could not be written warns with the cause."""
    report = reported(gateway, tmp_path, snapshot_error=lambda: OSError("no space"))
    assert (check(report, "snapshot").verdict, check(report, "snapshot").finding) == (
        "warn",
        "no space",
    )


def test_low_space(gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too little space fails the check, before the store does."""
    monkeypatch.setattr(health, "LOW_SPACE_BYTES", 1 << 62)
    assert check(reported(gateway, tmp_path), "disk").verdict == "FAIL"


def test_a_restored_state(gateway: Gateway, tmp_path: Path) -> None:
    """What was restored or imported may have missed revocations: no device is served before an
    operator has said that he looked."""
    found = check(reported(gateway, tmp_path, unconfirmed_since_ms=lambda: NOW_MS), "restored")
    assert found.verdict == "FAIL" and "palyra" in found.hint


@pytest.mark.parametrize(
    ("version", "verdict"),
    [("0.2.0", "ok"), ("0.9.0", "warn"), ("1.0.0", "warn"), ("0.1.0", None), ("", None)],
)
def test_versions(
    gateway: Gateway,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    version: str,
    verdict: str | None,
) -> None:
    """Who is of another version is counted; beyond one minor version it is somebody's work."""
    monkeypatch.setattr(health, "__version__", "0.1.0")
    device = gateway.device("pi")
    gateway.inventory.put(attrs.evolve(device, version=version))
    report = reported(gateway, tmp_path)
    if verdict is None:
        assert "versions" not in names(report)
    else:
        found = check(report, "versions")
        assert found.verdict == verdict and f"(pi {version})" in found.finding
        assert bool(found.hint) == (verdict == "warn")


def test_plugins(gateway: Gateway, tmp_path: Path) -> None:
    """A capability that failed on a device is named with its cause; the others are counted."""
    _, node = gateway.online("pi")
    assert "plugins" not in names(reported(gateway, tmp_path))
    failed = tuple(AnnouncedCapability(name, fault="No module named 'cups'") for name in "ab")
    hello: Hello = attrs.evolve(node.hello(), capabilities=failed)
    result_of(Deferred.fromCoroutine(gateway.sessions.register(node.peer, hello)))
    found = check(reported(gateway, tmp_path), "plugins")
    assert (found.verdict, found.hint) == ("warn", "palyra nodes show pi")
    assert found.finding == "a failed on pi: No module named 'cups'; and 1 other"


def test_clocks(gateway: Gateway, tmp_path: Path) -> None:
    """Devices whose clock is more than a minute off are counted, the worst is named; a minute is
    nothing, and a device that says no time is not judged."""
    for name, ahead_ms in (("pi", 60_000), ("nas", -61_000), ("lamp", 5 * 60_000), ("old", None)):
        _, node = gateway.online(name)
        unix_ms = 0 if ahead_ms is None else gateway.now_ms() + ahead_ms
        hello: Hello = attrs.evolve(node.hello(), unix_ms=unix_ms)
        result_of(Deferred.fromCoroutine(gateway.sessions.register(node.peer, hello)))
    found = check(reported(gateway, tmp_path), "clocks")
    assert found.verdict == "warn"
    assert found.finding == "2 devices by more than 60s (lamp 5m ahead)"
    assert found.hint == "on lamp: timedatectl set-ntp true"
    item = result_of(gateway.control.node("nas")).node
    assert item.clock_ahead_ms == -61_000


def test_the_clock_of_a_device_that_is_gone(gateway: Gateway, tmp_path: Path) -> None:
    """Nobody is warned of the clock of a device that was revoked or removed."""
    device, node = gateway.online()
    hello: Hello = attrs.evolve(node.hello(), unix_ms=gateway.now_ms() + HOUR_MS)
    result_of(Deferred.fromCoroutine(gateway.sessions.register(node.peer, hello)))
    assert check(reported(gateway, tmp_path), "clocks").verdict == "warn"
    result_of(gateway.control.remove(device.device_id, models.Remove(), ANA))
    assert check(reported(gateway, tmp_path), "clocks").verdict == "ok"


def test_a_clone(gateway: Gateway, tmp_path: Path) -> None:
    """Who uses a certificate that its device has replaced is named, with where it came from."""
    first = Applicant(1).pair(gateway)
    Applicant(1).pair(gateway)
    with pytest.raises(Exception, match=r"superseded|newer"):
        gateway.node_desk.admit(first.certificate_pem.encode(), None, HOME, "grpc")
    found = check(reported(gateway, tmp_path), "clones")
    assert found.verdict == "warn" and HOME in found.finding and "pi" in found.finding
    gateway.pass_time(24 * 3_600 + 1)
    assert "clones" not in names(reported(gateway, tmp_path))


def test_rotations(gateway: Gateway, tmp_path: Path) -> None:
    """Who was ordered to renew and did not yet is named, five of them at most."""
    for number in range(7):
        gateway.device(f"pi{number}")
    result_of(gateway.control.rotate(models.Rotate(everything=True), ANA))
    finding = check(reported(gateway, tmp_path), "rotation").finding
    assert finding.endswith("7 devices: pi0, pi1, pi2, pi3, pi4 and 2 more")


def test_a_ca_rotation(tmp_path: Path) -> None:
    """It is said who would be locked out by the next step, and in how many days that comes."""
    identity: GatewayIdentity = opened(tmp_path / "identity")
    gateway = Gateway(identity=identity)
    gateway.device("pi")
    assert "CA rotation" not in names(reported(gateway, tmp_path))
    result_of(gateway.control.rotate_ca(models.RotateCa(), ANA))
    found = check(reported(gateway, tmp_path), "CA rotation")
    assert (found.verdict, found.finding) == ("warn", "overlap, 1 device left: pi")
    assert "within 90 days" in found.hint
    result_of(gateway.control.remove("pi", models.Remove(), ANA))
    assert check(reported(gateway, tmp_path), "CA rotation").verdict == "ok"
    gateway.end()
